"""What the benchmarks share: what a number depends on, and where it is written."""

import datetime
import importlib.metadata
import json
import os
import platform
import subprocess
from pathlib import Path

import torch

from chase_fast._version import __version__
from chase_fast.process import tune_process

ROOT = Path(__file__).resolve().parents[1]
tune_process()  # freed memory stays, as in the commands; set GOMP_SPINCOUNT=2000 outside for the rest


def machine(device: torch.device) -> dict:
    """What a number depends on."""
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else processor()
    commit = _git("rev-parse", "HEAD") + ("+changes" if _git("status", "--porcelain") else "")
    return {
        "device": name,
        "threads": torch.get_num_threads(),
        "load_average": os.getloadavg()[0],
        "commit": commit or os.environ.get("BENCH_COMMIT", "unknown"),  # for a copy without .git
        "chase_fast": __version__,
        "torch": torch.__version__,
        "cuda": torch.version.cuda if device.type == "cuda" else None,
        "cudnn": torch.backends.cudnn.version() if device.type == "cuda" else None,
        "triton": _version("triton"),
        "python": platform.python_version(),
        "date": datetime.date.today().isoformat(),
    }


def _git(*command: str) -> str:
    try:
        return subprocess.run(["git", *command], cwd=ROOT, capture_output=True, text=True).stdout.strip()
    except OSError:
        return ""


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        return next(line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()


def save(result: dict, name: str) -> Path:
    """Writes or replaces the entry of this name in bench/results/DATE_DEVICE.json."""
    device = "-".join("".join(c if c.isalnum() else " " for c in result["machine"]["device"].lower()).split())
    path = ROOT / "bench" / "results" / f"{result['machine']['date']}_{device}.json"
    path.parent.mkdir(exist_ok=True)
    entries = json.loads(path.read_text()) if path.exists() else {}
    path.write_text(json.dumps(entries | {name: result}, indent=1) + "\n")
    return path
