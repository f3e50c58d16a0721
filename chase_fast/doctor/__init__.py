"""What is installed and what can run here, as plain data: `collect()`. `python -m chase_fast.doctor`
prints it."""

import importlib
import importlib.metadata
import importlib.util
import os
import pkgutil
import platform
from pathlib import Path
from typing import Any

from chase_fast._version import __version__
from chase_fast.command import why_not_imported

PACKAGES = (
    "torch", "torchvision", "triton", "numpy", "opencv-python", "av", "pillow", "simplejpeg", "safetensors",
    "tensorboard", "jinja2", "tyro", "rich",
)  # fmt: skip
MODULES = {"opencv-python": "cv2", "pillow": "PIL"}  # where the module is not called like the package
NO_BACKEND = "the op has no such backend"


def collect() -> dict[str, Any]:
    """Versions, devices, native module and ops; broken parts say why instead of raising.

    Returns:
        versions: {package: version, or text that says what is wrong with it}
        broken: names of `versions` that do not work
        devices: cpu, threads, cuda (list of names), and `no_cuda` (why there is none, or None)
        native: build information of chase_fast_C, or {"missing": why, "left_out": whether it was on purpose}
        ops: {op: {"backends": {backend: None or why not}, "runs_on": {device type: chosen backend}}}
    """
    versions, broken = package_versions()
    facts: dict[str, Any] = {"versions": versions, "broken": broken}
    if "torch" in broken:
        return facts | {"devices": {}, "native": {"missing": "torch cannot be imported"}, "ops": {}}
    return facts | {"devices": devices(), "native": native_build(), "ops": ops()}


def package_versions() -> tuple[dict[str, str], list[str]]:
    """Version of Python, chase_fast and every package, imported to see that it works."""
    versions = {
        "chase_fast": __version__,
        "python": platform.python_version(),
        "platform": platform.platform(),
    }
    broken = []
    for package in PACKAGES:
        if package == "triton" and importlib.util.find_spec(package) is None:
            versions[package] = "not installed (only GPUs use it)"
            continue
        try:
            module = importlib.import_module(MODULES.get(package, package))
        except Exception as e:  # a package built for another torch fails in many ways
            broken.append(package)
            versions[package] = f"{installed(package) or 'missing'}: {broken_because(package, e)}"
        else:
            versions[package] = getattr(module, "__version__", None) or installed(package) or "found"
    return versions, broken


def installed(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def broken_because(package: str, error: Exception) -> str:
    """Why a package cannot be imported, and what repairs it."""
    if isinstance(error, ImportError) and installed(package) and (text := why_not_imported(error)):
        return text
    reason = (str(error).strip() or type(error).__name__).splitlines()[0]
    if package == "torchvision" and installed(package):
        return (
            f"{reason} (it does not match torch: pip install --force-reinstall torch torchvision, from the "
            "same index)"
        )
    return f"{reason} (pip install {package})"


def devices() -> dict[str, Any]:
    import torch

    found: dict[str, Any] = {
        "cpu": processor(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "cuda": [],
        "no_cuda": None,
    }
    if torch.cuda.is_available():
        for i in range(torch.cuda.device_count()):
            p = torch.cuda.get_device_properties(i)
            found["cuda"].append(f"{p.name}, {p.total_memory / 2**30:.0f} GiB, sm_{p.major}{p.minor}")
    elif torch.version.cuda is None:
        found["no_cuda"] = "this torch is built without CUDA"
    else:
        found["no_cuda"] = f"torch is built for CUDA {torch.version.cuda}, but no device or driver was found"
    return found


def processor() -> str:
    info = Path("/proc/cpuinfo")
    if info.exists():
        for line in info.read_text().splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    return platform.processor() or platform.machine()


def native_build() -> dict[str, Any]:
    from chase_fast.kernels import _dispatch
    from chase_fast.kernels._native import native_left_out

    try:
        module = _dispatch.native()
    except ImportError as e:
        return {"missing": str(e), "left_out": native_left_out()}
    return {"file": module.__file__, **module.build_info()}


def ops() -> dict[str, dict]:
    """Every op of chase_fast.kernels: which backend can run, and which is chosen for each kind of tensor."""
    import torch

    from chase_fast import kernels
    from chase_fast.kernels import _dispatch

    names = sorted(m.name for m in pkgutil.iter_modules(kernels.__path__) if m.ispkg)
    table = {}
    for name in names:
        can_run = importlib.import_module(f"chase_fast.kernels.{name}").CAN_RUN
        backends = {
            b: why_not(can_run[b], "cuda" if b in ("triton", "cuda") else "cpu")
            if b in can_run
            else NO_BACKEND
            for b in _dispatch.BACKENDS
        }
        kinds = ("cpu", "cuda") if torch.cuda.is_available() else ("cpu",)
        runs_on = {
            kind: next(b for b in _dispatch.ORDER[kind] if b in can_run and why_not(can_run[b], kind) is None)
            for kind in kinds
        }
        table[name] = {"backends": backends, "runs_on": runs_on}
    return table


def why_not(can_run: Any, device: str) -> str | None:
    """Reason of a backend against float32 tensors there (images: uint8, seeds: int64), None if it runs."""
    import torch

    reasons = [can_run(torch.device(device), dtype) for dtype in (torch.float32, torch.uint8, torch.int64)]
    if None in reasons:
        return None
    # a reason that names a type is about a type that the op does not take
    return next((r for r in reasons if "torch." not in r), reasons[0])
