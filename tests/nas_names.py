"""Name map between the golden arrays of the public implementations and our stacked parameters.

A Slot says which part of which of our tensors is the peer's array `key`. Peers name an edge's layers one by
one (`_ops.EDGE._ops.OP.op.LAYER.weight`); ours are stacked over the edges that leave a source, last norms
over a node.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from chase_fast.nn.derived_cell import DerivedCell
from chase_fast.nn.norm import NormState
from chase_fast.nn.search_cell import SearchCell, first_edge


@dataclass(frozen=True)
class Slot:
    key: str
    tensor: Tensor
    index: tuple[int, ...] = ()

    def part(self, of: Tensor | None = None) -> Tensor:
        """Our values (or those of a gradient of the same shape) that correspond to the peer's array."""
        return (self.tensor if of is None else of)[self.index]


def norm_slots(key: str, norm: NormState | nn.BatchNorm2d, row: tuple[int, ...] = ()) -> list[Slot]:
    names = ("weight", "bias", "running_mean", "running_var")
    tensors = [(name, getattr(norm, name)) for name in names]
    affine = isinstance(norm.weight, nn.Parameter)
    return [Slot(f"{key}.{n}", t, row) for n, t in tensors if affine or n.startswith("running")]


def search_slots(
    cell: SearchCell,
    key: Callable[[int, int], str] = lambda e, k: f"_ops.{e}._ops.{k}.",
    edges: int | None = None,
) -> list[Slot]:
    """Slots of a search cell; key(edge, op) starts the peer's name, `edges` limits them to the first ones."""
    slots = []
    first_layer = 0 if cell.sources[0].flavour == "chase" else 1  # darts: layer 0 is the ReLU
    for i, node in enumerate(cell.nodes):
        for j in range(i + 2):
            source, row, edge = cell.sources[j], i - max(0, j - 1), first_edge(i) + j
            if edges is not None and edge >= edges:
                continue
            for k, op in enumerate(cell.ops):
                if op in source.pools:
                    slots += norm_slots(f"{key(edge, k)}1", source.pools[op], (0,))
                if op not in source.convolutions:
                    continue
                conv = source.convolutions[op]
                for stage, (dw, pw) in enumerate(zip(conv.depthwise, conv.pointwise)):
                    layer = first_layer + 4 * stage
                    last = stage == len(conv.depthwise) - 1
                    norm, norm_row = (node.norm, node.rows.index((j, op))) if last else (conv.norm, row)
                    slots += [
                        Slot(f"{key(edge, k)}op.{layer}.weight", dw, (row,)),
                        Slot(f"{key(edge, k)}op.{layer + 1}.weight", pw, (row,)),
                        *norm_slots(f"{key(edge, k)}op.{layer + 2}", norm, (norm_row,)),
                    ]
    return slots


def derived_slots(
    cell: DerivedCell, flavour: str, key: Callable[[int], str] = lambda g: f"_ops.{g}."
) -> list[Slot]:
    """Slots of a derived cell without `none`; key(gene) starts the peer's name, counted node by node."""
    slots = []
    first_layer = 0 if flavour == "chase" else 1
    operations = [operation for node in cell.nodes for operation in node]
    for g, operation in enumerate(operations):
        for stage, block in enumerate(getattr(operation, "blocks", ())):
            layer = first_layer + 4 * stage
            slots += [
                Slot(f"{key(g)}op.{layer}.weight", block.depthwise),
                Slot(f"{key(g)}op.{layer + 1}.weight", block.pointwise),
                *norm_slots(f"{key(g)}op.{layer + 2}", block.norm),
            ]
    return slots


def neck_slots(neck: nn.Module, cell_slots: list[Slot]) -> list[Slot]:
    """Slots of a chase neck (search or derived), from those of its cell."""
    layer2, layer3 = neck.preprocess
    return [
        *(Slot(f"conv_match3.{n}", p) for n, p in layer2.named_parameters()),
        *(Slot(f"conv_match4.{n}", p) for n, p in layer3.named_parameters()),
        *(Slot(f"cells.0.{s.key}", s.tensor, s.index) for s in cell_slots),
    ]


@torch.no_grad()
def load_weights(slots: list[Slot], golden: dict[str, Tensor], prefix: str = "w/") -> None:
    """Copies the peer's arrays into our tensors; both sides must have the same names."""
    weights = [s for s in slots if isinstance(s.tensor, nn.Parameter)]
    assert {s.key for s in weights} == {k.removeprefix(prefix) for k in golden if k.startswith(prefix)}
    for slot in weights:
        slot.part().copy_(golden[prefix + slot.key].reshape(slot.part().shape))
