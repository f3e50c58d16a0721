"""What a result was made with."""

import importlib.metadata
import platform
import subprocess
from pathlib import Path

from chase_fast._version import __version__

_PACKAGES = (
    "torch",
    "torchvision",
    "triton",
    "numpy",
    "opencv-python",
    "av",
    "simplejpeg",
    "safetensors",
)


def versions() -> dict[str, str]:
    """Versions that decide the digits of a result: Python, platform, this package and those it uses."""
    found = {"chase_fast": __version__, "python": platform.python_version(), "platform": platform.platform()}
    for package in _PACKAGES:
        try:
            found[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def git_commit() -> str | None:
    """Commit of the checkout this package runs from (`-dirty` if changed); None if it is none."""

    def git(*arguments: str) -> str:
        command = ("git", "-C", str(Path(__file__).parent), *arguments)
        return subprocess.run(command, capture_output=True, text=True, check=True, timeout=10).stdout.strip()

    try:
        git("ls-files", "--error-unmatch", Path(__file__).name)
        return git("rev-parse", "HEAD") + ("-dirty" if git("status", "--porcelain", "-uno") else "")
    except (OSError, subprocess.SubprocessError):
        return None
