"""Signs of collapse: weight-free operations in the derived cell, curvature of the validation loss."""

from collections.abc import Iterable

import torch
from torch import Tensor

from chase_fast.nn.genotype import Genotype
from chase_fast.nn.space import WEIGHT_FREE
from chase_fast.search.bilevel import Loss, Reduce, alone, differentiating


def cell_counts(genotype: Genotype) -> dict[str, int]:
    """Skip connections and weight-free operations among the genes of a cell."""
    names = [op for node in genotype.nodes for op, _ in node]
    return {
        "skip_count": names.count("skip_connect"),
        "weight_free_count": sum(name in WEIGHT_FREE for name in names),
    }


def dominant_eigenvalue(
    loss: Loss,
    alpha: Tensor,
    weights: Iterable[Tensor] = (),
    iterations: int = 20,
    tolerance: float = 1e-3,
    seed: int = 0,
    reduce: Reduce = alone,
) -> float:
    """Eigenvalue of largest magnitude of d2 loss / d alpha2, by power iteration on exact Hessian-vector
    products.

    Args:
        loss: twice differentiable, as ops are with the backend `reference` alone; it is evaluated once.
        weights: tensors kept out of the graph.
        tolerance: relative change of the estimate at which the iteration ends.
        reduce: averages over processes, each with its part of the batch (see `bilevel`).
    """
    generator = torch.Generator().manual_seed(seed)
    v = torch.randn(alpha.shape, generator=generator, dtype=torch.float64).to(alpha)
    v /= v.norm()
    estimate = 0.0
    with differentiating(on=[alpha], off=weights):
        (gradient,) = torch.autograd.grad(loss(False), [alpha], create_graph=True)
        if not gradient.requires_grad:  # linear in alpha
            return 0.0
        for _ in range(iterations):
            (product,) = torch.autograd.grad(gradient, [alpha], grad_outputs=v, retain_graph=True)
            reduce(product)
            previous, estimate = estimate, float((v * product).sum())
            length = product.norm()
            if length == 0 or abs(estimate - previous) <= tolerance * abs(estimate):
                break
            v = product / length
    return estimate
