"""DARTS- (Chu et al. 2021, arXiv 2009.01027): an auxiliary skip connection beside the operations of an edge.

    f_ij(x) = beta x + sum_o softmax(alpha_ij)_o o(x)

beta is no parameter: in epoch e = 0, 1, ... of T it is (T - e) / T, or (1 + cos(pi e / T)) / 2 with
--auxiliary-decay cosine, so that the auxiliary skip is (nearly) gone in the end. It has no dropout, and no
part in the derivation. A node is the sum of the operations (`mixed_op`, `node_sum`) and, in one more
`node_sum`, of its sources.
"""

import math

import torch
from torch import Tensor

from chase_fast.nn.search_cell import SearchCell, weighted_sum
from chase_fast.search.methods import register_method
from chase_fast.search.methods.base import Method, Number


class AuxiliaryCell(SearchCell):
    """A search cell in which whole states also pass by the operations."""

    bypassed = 1

    def join(self, mixed: Tensor, passing: list[Tensor], weights: Tensor) -> Tensor:
        return mixed + weighted_sum(passing, weights[:, 0])


@register_method("darts_minus")
class DartsMinus(Method):
    order = 1
    cell = AuxiliaryCell

    def schedule(self, epoch: int) -> float:
        """beta."""
        gone = max(epoch - 1, 0) / self.config.epochs
        return (1 + math.cos(math.pi * gone)) / 2 if self.config.auxiliary_decay == "cosine" else 1 - gone

    def mixing(self, alpha: Tensor, scheduled: Number) -> Tensor:
        beta = torch.as_tensor(scheduled, dtype=alpha.dtype, device=alpha.device)
        return torch.cat([super().mixing(alpha, scheduled), beta.expand(len(alpha), 1)], 1)

    def numbers(self, epoch: int) -> dict[str, float]:
        return {"auxiliary_skip": self.schedule(epoch)}

    @property
    def about(self) -> str:
        decay = self.config.auxiliary_decay
        return f"{super().about}, an auxiliary skip on every edge fades from 1 to 0 ({decay})"
