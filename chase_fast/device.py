"""Names of devices on the command line."""

from typing import TYPE_CHECKING

from chase_fast.errors import ChaseError

if TYPE_CHECKING:
    import torch


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
