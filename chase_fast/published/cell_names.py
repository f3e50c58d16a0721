"""Key names of the neck in the released CHASE code, and which cell they describe.

    conv_match3.{weight, bias}    3x3 stride 2 on layer2         conv_match4.{weight, bias}    1x1 on layer3
    cells.0._ops.G.op.L...        gene G, counted node by node; L = 0 depthwise, 1 pointwise, 2 batch norm;
                                  the second block of a separable convolution has L = 4, 5, 6

Pools, skips and `none` have no keys, and sources stand nowhere: a file says only which genes are which
convolutions. Where the neck hangs in the released network is not known to us, so any prefix is accepted.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from torch import Tensor

from chase_fast.errors import ChaseError
from chase_fast.nn.genotype import PUBLISHED, Genotype
from chase_fast.nn.space import CONVOLUTIONS, WEIGHT_FREE

MARK = "conv_match3.weight"
_KERNEL_OF = {  # (convolutions with a kernel, its size) -> operation
    (2, 3): "sep_conv_3x3",
    (2, 5): "sep_conv_5x5",
    (1, 3): "dil_conv_3x3",
    (1, 5): "dil_conv_5x5",
}
_NORM = ("weight", "bias", "running_mean", "running_var")
COUNTER = "num_batches_tracked"  # of batch norms; read by nothing


@dataclass(frozen=True)
class Name:
    """One tensor by our name and by the released one; `axes` are those of size 1 that ours lacks."""

    ours: str
    theirs: str
    axes: tuple[int, ...] = ()

    def to_ours(self, tensor: Tensor) -> Tensor:
        for axis in reversed(self.axes):
            if tensor.dim() > axis and tensor.shape[axis] == 1:
                tensor = tensor.squeeze(axis)
        return tensor

    def to_theirs(self, tensor: Tensor) -> Tensor:
        for axis in self.axes:
            tensor = tensor.unsqueeze(axis)
        return tensor


def neck_names(cell: Genotype) -> Iterator[Name]:
    """Of all tensors of a derived neck of flavour chase, both sides without a prefix.

    Raises:
        ChaseError: the cell has an operation that a user registered: it has no released name.
    """
    for ours, theirs in (("preprocess.0", "conv_match3"), ("preprocess.1", "conv_match4")):
        for kind in ("weight", "bias"):
            yield Name(f"{ours}.{kind}", f"{theirs}.{kind}")
    gene = 0
    for i, genes in enumerate(cell.nodes):
        kept = 0  # `none` has no module in ours
        for op, _ in genes:
            if op in CONVOLUTIONS:
                for block in range(2 if op.startswith("sep") else 1):
                    yield from _block_names(f"cell.nodes.{i}.{kept}.blocks.{block}", gene, 4 * block)
            elif op not in WEIGHT_FREE:
                raise ChaseError(
                    f"operation {op} has no name in the public checkpoints, only built-in ones do"
                )
            kept += op != "none"
            gene += 1


def _block_names(ours: str, gene: int, layer: int) -> Iterator[Name]:
    theirs = f"cells.0._ops.{gene}.op"
    yield Name(f"{ours}.depthwise", f"{theirs}.{layer}.weight", (1,))
    yield Name(f"{ours}.pointwise", f"{theirs}.{layer + 1}.weight", (2, 3))
    for kind in _NORM:
        yield Name(f"{ours}.norm.{kind}", f"{theirs}.{layer + 2}.{kind}")


def prefix_of(state: Mapping[str, Tensor]) -> str | None:
    """What stands before `conv_match3.weight`; None if the file has no such neck."""
    return next((key.removesuffix(MARK) for key in state if key.endswith(MARK)), None)


def recognise(state: Mapping[str, Tensor], prefix: str) -> Genotype:
    """The published cell whose convolutions are those of the file.

    Raises:
        ChaseError: it is none of them, or the supernet of a search.
    """
    found: dict[int, dict[int, Tensor]] = {}
    for key, tensor in state.items():
        key = key.removeprefix(prefix)
        if re.match(r"cells\.\d+\._ops\.\d+\._ops\.", key):
            raise ChaseError(
                "it holds a search network with all operations, not the tracker of a cell: derive its cell "
                "and train it"
            )
        if match := re.fullmatch(r"cells\.0\._ops\.(\d+)\.op\.(\d+)\.weight", key):
            found.setdefault(int(match[1]), {})[int(match[2])] = tensor
    genes = {
        gene: _KERNEL_OF.get((1 + (4 in layers), layers[0].shape[-1]), "?")
        for gene, layers in found.items()
        if 0 in layers and layers[0].dim() == 4
    }
    for cell in PUBLISHED.values():
        if _convolutions(cell) == genes:
            return cell
    listed = ", ".join(f"{gene}: {op}" for gene, op in sorted(genes.items())) or "none"
    raise ChaseError(
        f"its cell is none of the published ones (convolutions by gene: {listed}), and a file does not "
        "hold the rest of a cell: give its cell.json with --cell"
    )


def _convolutions(cell: Genotype) -> dict[int, str]:
    """Number of a gene, counted node by node -> its operation, for those with weights."""
    ops = [op for genes in cell.nodes for op, _ in genes]
    return {gene: op for gene, op in enumerate(ops) if op not in WEIGHT_FREE}
