"""The search cell: every edge is the weighted sum of all operations. Organised by source and destination."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor, nn

from chase_fast.errors import ChaseError
from chase_fast.kernels.keep_mask import keep_mask
from chase_fast.kernels.mixed_op import KERNEL, POOLS, STAGES, mixed_op
from chase_fast.kernels.node_sum import IDENTITY, NORM, NORM_LRELU, node_sum
from chase_fast.kernels.skip_drop import skip_drop

from .containers import ModuleDict, ModuleList
from .norm import EPS, NormState, run_registered
from .operations import check_operation, make_registered
from .preprocess import init_convolution
from .space import CONVOLUTIONS, OPS
from .spec import check_flavour

SLOPE = 0.01  # leaky ReLU of the chase flavour


@dataclass(frozen=True)
class SkipMasks:
    """Dropout behind the skip connections of a search cell; passes that get the same object drop the same.

    keep: bool [edges, N, C, h, w], True where the value is kept, each [e] in channels_last memory.
    scale: 1 / (1 - rate), by which kept values are multiplied; a number, or a 0-d tensor on the device.
    """

    keep: Tensor
    scale: float | Tensor

    @cached_property
    def factors(self) -> Tensor:
        """Scale or 0 in float32, made once for all passes: a product with bool copies it every time."""
        return self.keep.to(torch.float32) * self.scale


class StackedConv(nn.Module):
    """Weights of one convolution operation on all E edges that leave a source; `mixed_op` computes with them.

    depthwise: per stage [E, C, k, k]; pointwise: per stage [E, C, C]; norm: [E, C] between two stages.
    """

    norm: NormState | None

    def __init__(self, op: str, edges: int, channels: int, flavour: str):
        super().__init__()
        k, stages = KERNEL[op], STAGES[op]
        self.depthwise = nn.ParameterList([torch.empty(edges, channels, k, k) for _ in range(stages)])
        self.pointwise = nn.ParameterList([torch.empty(edges, channels, channels) for _ in range(stages)])
        self.norm = NormState(edges, channels, affine=flavour == "chase") if stages == 2 else None
        for weight in self.depthwise:
            init_convolution(weight, k * k, flavour)
        for weight in self.pointwise:
            init_convolution(weight, channels, flavour)


class Source(nn.Module):
    """The branches of the E edges that leave one node, up to their last batch norm (which is in `Node`)."""

    def __init__(self, channels: int, edges: int, ops: Sequence[str], flavour: str):
        super().__init__()
        self.edges, self.flavour = edges, flavour
        self.mapped = [op for op in ops if op in POOLS or op in CONVOLUTIONS]
        self.convolutions = ModuleDict(
            {op: StackedConv(op, edges, channels, flavour) for op in ops if op in CONVOLUTIONS}
        )
        self.pools = ModuleDict({op: NormState(1, channels, affine=False) for op in ops if op in POOLS})
        self.registered = ModuleDict(
            {
                op: ModuleList([make_registered(op, channels) for _ in range(edges)])
                for op in ops
                if op not in OPS
            }
        )

    def forward(self, x: Tensor, groups: int, update_stats: bool) -> dict[str, list[Tensor]]:
        """x [N, C, h, w] -> per operation E maps [N, C, h, w], one per outgoing edge."""
        maps = self._mixed_op(x, groups, update_stats) if self.mapped else {}
        for op, modules in self.registered.items():
            given = x.float() if x.dtype == torch.bfloat16 else x  # their weights are float32
            outputs = (run_registered(module, given, groups, update_stats) for module in modules)
            maps[op] = [y.to(x.dtype) for y in outputs]
        return maps

    def _mixed_op(self, x: Tensor, groups: int, update_stats: bool) -> dict[str, list[Tensor]]:
        convolutions = self.convolutions.values()
        inner = [c.norm for c in convolutions if c.norm is not None]
        every = (self.pools[op] if op in POOLS else self.convolutions[op].norm for op in self.mapped)
        norms = [norm for norm in every if norm is not None]
        branches = mixed_op(
            x,
            self.mapped,
            [weight for c in convolutions for weight in c.depthwise],
            [weight for c in convolutions for weight in c.pointwise],
            [norm.weight for norm in inner],
            [norm.bias for norm in inner],
            [norm.running_mean for norm in norms],
            [norm.running_var for norm in norms],
            flavour=self.flavour,
            groups=groups,
            training=self.training,
            eps=EPS,
            slope=SLOPE,
        )
        if self.training and update_stats:
            count = x.numel() // (x.shape[1] * groups)
            for norm, mean, var in zip(norms, branches.mean, branches.var):
                norm.update(mean, var, count)
        maps = iter(branches.maps)
        return {
            op: [next(maps)] * self.edges if op in POOLS else [next(maps) for _ in range(self.edges)]
            for op in self.mapped
        }


class Node(nn.Module):
    """One intermediate node: the sum over its incoming edges and their operations, with the last batch norms.

    Rows of the sum: first the convolutions of source 0, 1, ..., whose batch norms are rows of `norm`; then,
    again by source, pools, skip and registered operations, which are added as they are. `none` has no row.
    """

    ones: Tensor
    columns: Tensor

    def __init__(self, index: int, channels: int, ops: Sequence[str], flavour: str):
        super().__init__()
        self.index = index
        sources = range(index + 2)
        normed = [op for op in ops if op in CONVOLUTIONS]
        plain = [op for op in ops if op not in CONVOLUTIONS and op != "none"]
        self.rows = [(s, op) for s in sources for op in normed] + [(s, op) for s in sources for op in plain]
        kind = NORM_LRELU if flavour == "chase" else NORM
        count = len(normed) * len(sources)
        self.kinds = [kind] * count + [IDENTITY] * (len(self.rows) - count)
        self.norm = NormState(count, channels, affine=flavour == "chase")
        self.register_buffer("ones", torch.ones(len(self.rows) - count, channels), persistent=False)
        columns = [(first_edge(index) + s) * len(ops) + list(ops).index(op) for s, op in self.rows]
        self.register_buffer("columns", torch.tensor(columns), persistent=False)

    def forward(
        self, edges: list[dict[str, Tensor]], mixing: Tensor, groups: int, update_stats: bool
    ) -> Tensor:
        """edges: per source, the map [N, C, h, w] of every operation on the edge to here -> [N, C, h, w]."""
        norm, ones = self.norm, self.ones
        branches = [edges[s][op] for s, op in self.rows]
        out, mean, var = node_sum(
            branches,
            mixing.flatten().index_select(0, self.columns),
            torch.cat([norm.weight, ones]),
            torch.cat([norm.bias, ones]),
            torch.cat([norm.running_mean, ones]),
            torch.cat([norm.running_var, ones]),
            self.kinds,
            groups=groups,
            training=self.training,
            eps=EPS,
            slope=SLOPE,
        )
        if self.training and update_stats:
            normed = norm.running_mean.shape[0]
            norm.update(mean[:normed], var[:normed], out.numel() // (out.shape[1] * groups))
        return out


def weighted_sum(maps: list[Tensor], weights: Tensor) -> Tensor:
    """Sum of weights [B] times maps, B tensors [N, C, h, w], by the op `node_sum`."""
    ones = weights.new_ones(len(maps), maps[0].shape[1])
    return node_sum(maps, weights, ones, ones, ones, ones, [IDENTITY] * len(maps))[0]


def first_edge(node: int) -> int:
    """Number of the edge from source 0 to intermediate node 0, 1, ...; edges are counted node by node."""
    return node * (node + 3) // 2


class SearchCell(nn.Module):
    """Continuous relaxation of a cell: two inputs, then nodes that are each fed by every state before them.

    Inputs may be bfloat16 beside float32 weights and mixing weights: then all maps are stored in bfloat16;
    statistics and sums over branches stay float32.

    Edge e = first_edge(i) + j leads from source j (0, 1: inputs; 2 + i: node i) to node i; `edges` counts
    them (14 for 4 nodes). `ops` are the columns of the mixing weights. Source: DARTS (Liu et al. 2019),
    section 2; flavours: see `chase_fast.kernels.mixed_op`. The batch norms of convolutions are affine in
    chase, not in darts; those of pools never.

    A cell in which something passes by the operations of an edge overrides `split` and `join`.

    Attributes:
        bypassed: columns of the mixing weights behind those of the operations, for `join`.

    Raises:
        ChaseError: unknown flavour or operation, an operation twice, nothing but none, no nodes.
    """

    bypassed = 0

    def __init__(self, channels: int, nodes: int = 4, ops: Sequence[str] = OPS, flavour: str = "chase"):
        super().__init__()
        check_flavour(flavour)
        for op in ops:
            check_operation(op)
        if len(set(ops)) < len(ops) or not set(ops) - {"none"}:
            raise ChaseError(
                f"operations {', '.join(ops) or '(none given)'}: name each once, at least one besides none"
            )
        if nodes < 1:
            raise ChaseError(f"a cell needs at least 1 intermediate node, not {nodes}")
        self.channels, self.ops, self.edges = channels, tuple(ops), first_edge(nodes)
        self.nodes = ModuleList([Node(i, channels, ops, flavour) for i in range(nodes)])
        # source 2 + i feeds the nodes after node i, so the last node is no source
        self.sources = ModuleList(
            [Source(channels, nodes - self._first_node(s), ops, flavour) for s in range(nodes + 1)]
        )

    @staticmethod
    def _first_node(source: int) -> int:
        return max(0, source - 1)

    def forward(
        self,
        input0: Tensor,
        input1: Tensor,
        mixing: Tensor,
        groups: int = 1,
        masks: SkipMasks | None = None,
        update_stats: bool = True,
    ) -> Tensor:
        """Runs the cell.

        Args:
            input0, input1: [N, C, h, w].
            mixing: [edges, len(ops) + bypassed] mixing weights, after softmax or sigmoid.
            groups: number of equal, consecutive parts of the batch with batch-norm statistics of their own.
            masks: dropout behind the skip connections, from `sample_masks`; ignored in eval mode.
            update_stats: whether a pass in training mode moves the running statistics.

        Returns:
            [N, nodes * C, h, w], the intermediate nodes in order.
        """
        k = len(self.ops)
        if mixing.shape != (self.edges, k + self.bypassed):
            wanted = [self.edges, k + self.bypassed]
            raise ValueError(f"mixing weights {list(mixing.shape)} must be {wanted}")
        states = [input0, input1]
        leaving: list[dict[str, list[Tensor]]] = []
        passing: list[Tensor] = []
        for node in self.nodes:
            while len(leaving) < len(states):
                s = len(leaving)
                x, past = self.split(states[s])
                maps = self.sources[s](x, groups, update_stats)
                if "skip_connect" in self.ops:
                    maps["skip_connect"] = self._skips(x, s, masks if self.training else None)
                leaving.append(maps)
                passing.append(past)
            edges = [
                {op: outgoing[node.index - self._first_node(s)] for op, outgoing in maps.items()}
                for s, maps in enumerate(leaving)
            ]
            mixed = node(edges, mixing[:, :k], groups, update_stats)
            first = first_edge(node.index)
            states.append(self.join(mixed, passing, mixing[first : first + len(passing), k:]))
        return torch.cat(states[2:], 1)

    def split(self, state: Tensor) -> tuple[Tensor, Tensor]:
        """What the operations read of a state, and what may pass by them: all of it."""
        return state, state

    def join(self, mixed: Tensor, passing: list[Tensor], weights: Tensor) -> Tensor:
        """A node: here the sum of its operations, and nothing passes by.

        Args:
            mixed: that sum.
            passing: the second part of `split` of each source.
            weights: [sources, bypassed], of the edges from there.
        """
        return mixed

    def _skips(self, x: Tensor, source: int, masks: SkipMasks | None) -> list[Tensor]:
        """x, the source's state, behind the dropout of each edge that leaves it."""
        edges = [first_edge(node) + source for node in range(self._first_node(source), len(self.nodes))]
        if masks is None:
            return [x] * len(edges)
        if isinstance(masks.scale, Tensor):
            return skip_drop(x, [masks.keep[e] for e in edges], masks.scale)
        if x.dtype == torch.float32:
            return [x * masks.factors[e] for e in edges]
        return [x * masks.keep[e] * masks.scale for e in edges]

    def counter_masks(
        self, seeds: Tensor, rate: Tensor, frames: int, h: int, w: int, groups: int = 1
    ) -> SkipMasks | None:
        """Dropout masks that depend on nothing but seeds and rate, both read on the device: `keep_mask`.

        Args:
            seeds: int64 [S], one per sequence.
            rate: float64 [], probability to drop, 0 <= rate < 1.
            frames: per sequence; the frames of all are ordered as `keep_mask` says.
            groups: of sequences.

        Returns:
            Masks for frames * S frames; None if skip is no operation.
        """
        if "skip_connect" not in self.ops:
            return None
        keep = keep_mask(seeds, rate, self.edges, frames, (h, w, self.channels), groups)
        return SkipMasks(keep.movedim(-1, 2), 1 / (1 - rate))

    def sample_masks(
        self, n: int, h: int, w: int, rate: float, generator: torch.Generator | None = None
    ) -> SkipMasks | None:
        """Element-wise dropout masks for the skip connection of every edge.

        Args:
            n, h, w: frames and size of the cell's maps.
            rate: probability to drop, 0 <= rate < 1.
            generator: source of the randomness; its device may differ from the cell's.

        Returns:
            Masks on the cell's device, a byte per value; None if the rate is 0 or skip is no operation.
        """
        if not 0 <= rate < 1:
            raise ChaseError(f"dropout rate {rate} must be at least 0 and below 1")
        if rate == 0 or "skip_connect" not in self.ops:
            return None
        home = self.nodes[0].columns.device
        device = home if generator is None else generator.device
        keep = torch.empty(self.edges, n, h, w, self.channels, dtype=torch.bool, device=device)
        keep.bernoulli_(1 - rate, generator=generator)
        return SkipMasks(keep.to(home).movedim(-1, 2), 1 / (1 - rate))
