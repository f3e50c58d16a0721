"""Allocates outputs and calls the C++ (`csrc/cpu/node_sum.cpp`) or CUDA (`csrc/cuda/node_sum.cu`) kernels."""

import torch
from torch import Tensor

from .._dispatch import native
from .._layout import channels_last

CHUNK = 256  # kNodeSumChunk of csrc/cuda/node_sum.h


def _call(name: str, on: Tensor, *arguments) -> None:
    """Runs the function `cpu_NAME` or `cuda_NAME` of the native module."""
    if on.device.type == "cuda":
        with torch.cuda.device(on.device):
            getattr(native(), f"cuda_{name}")(*arguments, torch.cuda.current_stream().cuda_stream)
    else:
        getattr(native(), f"cpu_{name}")(*arguments, torch.get_num_threads())


def _partial_sums(y: Tensor, like: Tensor, branches: int, groups: int) -> list[Tensor]:
    """Room for the partial sums of a CUDA launch; the C++ keeps its own."""
    if y.device.type != "cuda":
        return []
    chunks = -(-(y.shape[0] // groups * y.shape[2] * y.shape[3]) // CHUNK)
    return [torch.empty((2, branches, groups, chunks, y.shape[1]), dtype=like.dtype, device=like.device)]


def forward(branches, weights, gamma, beta, mean, var, kinds, groups, training, eps, slope, out=None):
    """`out`: where to write the node, may be the only branch; channels_last."""
    branches = [channels_last(y) for y in branches]
    y, tables = branches[0], [t.contiguous() for t in (weights, gamma, beta, mean, var)]
    out = torch.empty_like(y, memory_format=torch.channels_last) if out is None else out
    shape = (len(branches), groups, y.shape[1])
    batch_mean = torch.empty(shape, dtype=gamma.dtype, device=gamma.device)
    batch_var = torch.empty(shape, dtype=gamma.dtype, device=gamma.device)
    scratch = _partial_sums(y, gamma, len(branches), groups)
    if scratch:  # gamma / sqrt(var + eps)
        scratch.append(torch.empty(shape, dtype=gamma.dtype, device=gamma.device))
    _call(
        "node_sum",
        y,
        branches,
        *tables,
        kinds,
        groups,
        training,
        eps,
        slope,
        out,
        batch_mean,
        batch_var,
        *scratch,
    )
    return out, batch_mean, batch_var


def backward(grad, branches, weights, gamma, beta, mean, var, kinds, training, eps, slope, wanted):
    branches = [channels_last(y) for y in branches]
    y, tables = branches[0], [t.contiguous() for t in (weights, gamma, beta, mean, var)]
    groups = mean.shape[1]
    gradients = [
        torch.empty_like(y, memory_format=torch.channels_last) if want else y.new_empty(0) for want in wanted
    ]
    to_weights, to_gamma, to_beta = (
        torch.empty(t.shape, dtype=t.dtype, device=t.device) for t in (weights, gamma, beta)
    )
    scratch = _partial_sums(y, gamma, len(branches), groups)
    if scratch:  # the joined sums
        scratch.append(torch.empty((2, *mean.shape), dtype=gamma.dtype, device=gamma.device))
    _call(
        "node_sum_backward",
        y,
        channels_last(grad),
        branches,
        *tables,
        kinds,
        groups,
        training,
        eps,
        slope,
        gradients,
        to_weights,
        to_gamma,
        to_beta,
        *scratch,
    )
    return gradients, to_weights, to_gamma, to_beta
