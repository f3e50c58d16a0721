"""Allocates outputs and calls csrc/cpu/kl_loss.cpp."""

import math

import torch
from torch import Tensor

from .._dispatch import native


def flat(scores: Tensor, density: Tensor) -> tuple[Tensor, Tensor]:
    """Contiguous [R, D, cells] and [D, cells]: R score maps for each of D densities."""
    maps, cells = math.prod(density.shape[:-2]), density.shape[-2] * density.shape[-1]
    repeats = math.prod(scores.shape[: scores.dim() - density.dim()])
    return scores.contiguous().view(repeats, maps, cells), density.contiguous().view(maps, cells)


def forward(scores: Tensor, density: Tensor, grid_scale: float) -> tuple[Tensor, Tensor]:
    """Loss and log of the sum of exp, both [...]."""
    s, p = flat(scores, density)
    loss, normaliser = s.new_empty(s.shape[:2]), s.new_empty(s.shape[:2])
    arguments = s, p, grid_scale, loss, normaliser
    native().cpu_kl_loss(*arguments, torch.get_num_threads())
    return loss.view(scores.shape[:-2]), normaliser.view(scores.shape[:-2])


def backward(
    grad: Tensor,
    scores: Tensor,
    density: Tensor,
    normaliser: Tensor,
    grid_scale: float,
    want_scores: bool,
    want_density: bool,
) -> tuple[Tensor, Tensor]:
    """Gradients of scores and density; empty if not wanted."""
    s, p = flat(scores, density)
    grad = grad.contiguous().view(s.shape[:2])
    grad_scores = s.new_empty(s.shape if want_scores else 0)
    grad_density = p.new_empty(p.shape if want_density else 0)
    arguments = grad, s, p, normaliser.view(grad.shape), grid_scale
    native().cpu_kl_loss_backward(*arguments, grad_scores, grad_density, torch.get_num_threads())
    return (
        grad_scores.view(scores.shape) if want_scores else grad_scores,
        grad_density.view(density.shape) if want_density else grad_density,
    )
