"""Names of devices on the command line, and how a run computes."""

import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from chase_fast.errors import ChaseError

if TYPE_CHECKING:
    import torch


def check_device(name: str) -> None:
    """Raises ChaseError unless this is how a device is named; whether there is one, `resolve_device` says."""
    if not re.fullmatch(r"auto|cpu|cuda(:\d+)?", name):
        raise ChaseError(f"--device {name} is unknown: choose auto, cpu, cuda or cuda:N")


def resolve_device(name: "str | torch.device") -> "torch.device":
    """auto, cpu, cuda, cuda:1 -> device; auto takes a CUDA device if there is one.

    Raises:
        ChaseError: there is no such device.
    """
    import torch

    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
        if device.type not in ("cpu", "cuda"):
            raise NotImplementedError(f"there are no kernels for {device.type}")
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError, NotImplementedError) as e:
        raise ChaseError(
            f"--device {name} cannot be used ({str(e).splitlines()[0]}); try cpu, cuda or auto"
        ) from None
    return device


def device_name(device: "torch.device") -> str:
    """cuda:0 (NVIDIA H200), cpu, ...: for the first lines of a run."""
    import torch

    return f"{device} ({torch.cuda.get_device_name(device)})" if device.type == "cuda" else str(device)


@contextmanager
def computing(threads: int, device: "torch.device") -> Iterator[None]:
    """Within: so many CPU threads of torch (0: its choice); on a GPU float32 without TF32, which the finite
    difference of a search needs, and deterministic cuDNN. Afterwards the process computes as before, with the
    threads of OpenCV too, which a loader switches off."""
    import cv2
    import torch

    cudnn, matmul = torch.backends.cudnn, torch.backends.cuda.matmul
    before = torch.get_num_threads(), cv2.getNumThreads(), cudnn.allow_tf32, cudnn.deterministic
    before_matmul = matmul.allow_tf32
    if threads:
        torch.set_num_threads(threads)
    if device.type == "cuda":
        matmul.allow_tf32 = cudnn.allow_tf32 = False
        cudnn.deterministic = True
    try:
        yield
    finally:
        torch.set_num_threads(before[0])
        cv2.setNumThreads(before[1])
        cudnn.allow_tf32, cudnn.deterministic = before[2:]
        matmul.allow_tf32 = before_matmul


def peak_memory_mb(device: str = "cpu") -> float:
    """Peak memory in MiB: of the device for CUDA, else the resident memory of this process."""
    import torch

    if device.startswith("cuda"):
        return torch.cuda.max_memory_allocated(device) / 2**20
    try:
        import resource
    except ImportError:
        return float("nan")
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / 2**20 if sys.platform == "darwin" else peak / 2**10
