"""PC-DARTS (Xu et al. 2020, arXiv 1907.05737): partial channel connections and edge normalisation.

    f_ij(x) = shuffle(cat(sum_o softmax(alpha_ij)_o o(x[: C / 4]), x[C / 4 :]))
    x_j = sum_i softmax_i(beta_ij) f_ij(x_i)

The shuffle is the same permutation on all edges, so a node is the shuffle of two sums: that of the operations
(`mixed_op` and `node_sum` on C / 4 channels) and that of the channels that pass by (`node_sum`), both
weighted by the edges. beta is the last column of alpha. Edges and operations are ranked by softmax(beta)
softmax(alpha).
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from chase_fast.errors import ChaseError
from chase_fast.nn.search_cell import SearchCell, weighted_sum
from chase_fast.nn.space import OPS
from chase_fast.search.derive import node_edges
from chase_fast.search.methods import register_method
from chase_fast.search.methods.base import Method, Number

K = 4  # one of K channels enters the operations


class PartialCell(SearchCell):
    """A search cell whose operations take the first C / K channels of a state; the others pass by.

    Raises:
        ChaseError: also if K does not divide C.
    """

    bypassed = 1

    def __init__(self, channels: int, nodes: int = 4, ops: Sequence[str] = OPS, flavour: str = "chase"):
        if channels % K:
            raise ChaseError(f"--channels {channels}: partial channels need a multiple of {K}")
        super().__init__(channels // K, nodes, ops, flavour)

    def split(self, state: Tensor) -> tuple[Tensor, Tensor]:
        """[N, C, h, w] -> [N, C / K, h, w] and [N, C - C / K, h, w]."""
        taken, past = state.split([self.channels, (K - 1) * self.channels], 1)
        last = torch.channels_last  # the layout of the ops: copied once for all edges
        return taken.contiguous(memory_format=last), past.contiguous(memory_format=last)

    def join(self, mixed: Tensor, passing: list[Tensor], weights: Tensor) -> Tensor:
        """Channel k + K j of the node is channel j of part k of K."""
        parts = mixed, *weighted_sum(passing, weights[:, 0]).chunk(K - 1, 1)
        shuffled = torch.stack([part.permute(0, 2, 3, 1) for part in parts], -1)  # [N, h, w, C / K, K]
        return shuffled.flatten(3).permute(0, 3, 1, 2)


@register_method("pc_darts")
class PartialDarts(Method):
    order = 1
    cell = PartialCell
    edge_columns = 1

    def edge_weights(self, alpha: Tensor) -> Tensor:
        """[E, 1]: softmax of beta over the edges that enter a node."""
        edges = (alpha[e.start : e.stop, -1:] for e in node_edges(len(alpha)))
        return torch.cat([torch.softmax(beta, 0) for beta in edges])

    def ranking(self, alpha: Tensor) -> Tensor:
        return super().ranking(alpha) * self.edge_weights(alpha)

    def mixing(self, alpha: Tensor, scheduled: Number) -> Tensor:
        return torch.cat([self.ranking(alpha), self.edge_weights(alpha)], 1)

    @property
    def about(self) -> str:
        channels = self.config.channels
        return (
            f"{super().about}, operations on {channels // K} of {channels} channels, the others pass by; "
            "edges weighted by softmax(beta)"
        )
