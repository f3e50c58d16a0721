"""Weights of a checkpoint into a network, only if they are what the network would have written itself."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn


def restore(module: nn.Module, state: Any, what: str) -> None:
    """`load_state_dict` for a checkpoint of this very network.

    Raises:
        ValueError: keys, shapes or types differ, or a number is not finite; the module is as before then.
    """
    own = module.state_dict()
    if not isinstance(state, Mapping) or state.keys() != own.keys():
        raise ValueError(f"{what} has other keys")
    for name, tensor in own.items():
        check_like(state[name], tensor, f"{what}.{name}")
    module.load_state_dict(dict(state))


def check_like(value: Any, like: Tensor, what: str) -> None:
    """Raises ValueError unless `value` is a finite tensor of the shape and type of `like`."""
    if not isinstance(value, Tensor) or value.dtype != like.dtype or value.shape != like.shape:
        found = f"{value.dtype} {list(value.shape)}" if isinstance(value, Tensor) else type(value).__name__
        raise ValueError(f"{what} is {found}, not {like.dtype} {list(like.shape)}")
    if value.is_floating_point() and not torch.isfinite(value).all():
        raise ValueError(f"{what} holds NaN or infinity")
