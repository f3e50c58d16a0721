"""kl_loss in Triton: one program per score map; formulas: __init__.py.

Score maps are [R, D, cells]: R for each of D densities. A density's gradient is summed over R, in
order, by one program per block of its cells.
"""

import math

import torch
import triton
import triton.language as tl
from torch import Tensor

from .native import flat

BLOCK = 4096  # cells at a time


@triton.jit
def kl_loss_kernel(
    scores, density, loss, normaliser, D, cells,
    SCALE: tl.constexpr, LOG_SCALE: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    row = tl.program_id(0)
    s_row = scores + row.to(tl.int64) * cells
    p_row = density + (row % D).to(tl.int64) * cells
    lanes = tl.arange(0, BLOCK)
    s = tl.load(s_row + lanes, mask=lanes < cells, other=-float("inf"))  # [BLOCK]
    top = tl.max(s, 0)
    for first in range(BLOCK, cells, BLOCK):
        cell = first + lanes
        s = tl.load(s_row + cell, mask=cell < cells, other=-float("inf"))
        top = tl.maximum(top, tl.max(s, 0))
    total = top * 0
    cross = top * 0
    for first in range(0, cells, BLOCK):
        cell = first + lanes
        s = tl.load(s_row + cell, mask=cell < cells, other=0.0)
        p = tl.load(p_row + cell, mask=cell < cells, other=0.0)
        total += tl.sum(tl.where(cell < cells, tl.exp(s - top), 0.0), 0)
        cross += tl.sum(p * s, 0)
    z = top + tl.log(total)
    tl.store(normaliser + row, z)
    tl.store(loss + row, z + LOG_SCALE - SCALE * cross)


@triton.jit
def kl_loss_scores_grad_kernel(
    grad, scores, density, normaliser, grad_scores, D, cells, SCALE: tl.constexpr, BLOCK: tl.constexpr
):
    row = tl.program_id(0)
    cell = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    at = row.to(tl.int64) * cells + cell
    s = tl.load(scores + at, mask=cell < cells, other=0.0)
    p = tl.load(density + (row % D).to(tl.int64) * cells + cell, mask=cell < cells, other=0.0)
    q = tl.exp(s - tl.load(normaliser + row))  # [BLOCK]
    tl.store(grad_scores + at, tl.load(grad + row) * (q - SCALE * p), mask=cell < cells)


@triton.jit
def kl_loss_density_grad_kernel(
    grad, scores, grad_density, R, D, cells, SCALE: tl.constexpr, BLOCK: tl.constexpr
):
    d = tl.program_id(0)
    cell = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    total = tl.zeros((BLOCK,), grad_density.dtype.element_ty)
    for r in range(R):
        row = r * D + d
        s = tl.load(scores + row.to(tl.int64) * cells + cell, mask=cell < cells, other=0.0)
        total += tl.load(grad + row) * s
    tl.store(grad_density + d.to(tl.int64) * cells + cell, -SCALE * total, mask=cell < cells)


def _block(cells: int, most: int = BLOCK) -> int:
    return min(most, triton.next_power_of_2(cells))


def forward(scores: Tensor, density: Tensor, grid_scale: float) -> tuple[Tensor, Tensor]:
    """Loss and log of the sum of exp, both [...]."""
    s, p = flat(scores, density)
    maps, cells = s.shape[1:]
    loss, normaliser = s.new_empty(s.shape[:2]), s.new_empty(s.shape[:2])
    if loss.numel():
        kl_loss_kernel[(loss.numel(),)](
            s, p, loss, normaliser, maps, cells,
            SCALE=grid_scale, LOG_SCALE=math.log(grid_scale), BLOCK=_block(cells),
        )  # fmt: skip
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
    repeats, maps, cells = s.shape
    grad, block = grad.contiguous(), _block(cells, 1024)
    grad_scores, grad_density = s.new_empty(0), p.new_empty(0)
    if want_scores:
        grad_scores = torch.empty(scores.shape, dtype=s.dtype, device=s.device)
        if s.numel():
            kl_loss_scores_grad_kernel[(repeats * maps, triton.cdiv(cells, block))](
                grad, s, p, normaliser.contiguous(), grad_scores, maps, cells, SCALE=grid_scale, BLOCK=block
            )
    if want_density:
        grad_density = torch.empty(density.shape, dtype=p.dtype, device=p.device)
        if p.numel():
            kl_loss_density_grad_kernel[(maps, triton.cdiv(cells, block))](
                grad, s, grad_density, repeats, maps, cells, SCALE=grid_scale, BLOCK=block
            )
    return grad_scores, grad_density
