"""The necks between backbone and target classifier, all called as neck(layer2, layer3, ...) -> features."""

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from chase_fast.errors import ChaseError

from .derived_cell import DerivedCell
from .genotype import Genotype
from .norm import GroupBatchNorm
from .preprocess import make_preprocess
from .search_cell import SearchCell, SkipMasks
from .space import OPS
from .spec import check_flavour


def _inputs(
    preprocess: nn.ModuleList, maps: tuple[Tensor, Tensor], groups: int, update_stats: bool
) -> list[Tensor]:
    inputs = [module(x, groups, update_stats) for module, x in zip(preprocess, maps)]
    if inputs[0].shape != inputs[1].shape:
        sizes = [list(x.shape) for x in maps]
        raise ValueError(f"layer2 {sizes[0]} must have the frames of layer3 {sizes[1]} and twice its size")
    return inputs


class SearchNeck(nn.Module):
    """Brings layer2 and layer3 to C channels and runs one search cell on them.

    Inputs in chase: 3x3 convolution of stride 2, and 1x1, both with bias; in darts: FactorizedReduce, and
    ReLU-1x1-BN. Sizes: layer2 [N, c2, 2h or 2h - 1, 2w or 2w - 1], layer3 [N, c3, h, w].

    Args:
        in_channels: (c2, c3).
        channels: C, width of each node.
        nodes: number of intermediate nodes.
        ops: any of OPS and of the registered operations, in the order of the mixing columns.
        flavour: "chase" or "darts".
        cell: class of the cell.

    Attributes:
        out_channels: nodes * C. edges: rows of the mixing weights. ops: their columns.

    Raises:
        ChaseError: unknown flavour or operation, an operation twice, nothing but none, no nodes.
    """

    def __init__(
        self,
        in_channels: tuple[int, int],
        channels: int = 256,
        nodes: int = 4,
        ops: Sequence[str] = OPS,
        flavour: str = "chase",
        cell: type[SearchCell] = SearchCell,
    ):
        super().__init__()
        check_flavour(flavour)
        self.preprocess = make_preprocess(in_channels, channels, flavour, affine=False)
        self.cell = cell(channels, nodes, ops, flavour)
        self.out_channels, self.edges, self.ops = nodes * channels, self.cell.edges, self.cell.ops

    def forward(
        self,
        layer2: Tensor,
        layer3: Tensor,
        mixing: Tensor,
        groups: int = 1,
        masks: SkipMasks | None = None,
        update_stats: bool = True,
    ) -> Tensor:
        """-> [N, nodes * C, h, w]; arguments as in `SearchCell.forward`."""
        inputs = _inputs(self.preprocess, (layer2, layer3), groups, update_stats)
        return self.cell(*inputs, mixing, groups, masks, update_stats)

    def sample_masks(
        self, n: int, h: int, w: int, rate: float, generator: torch.Generator | None = None
    ) -> SkipMasks | None:
        """Dropout masks for n frames of layer3's size h x w; see `SearchCell.sample_masks`."""
        return self.cell.sample_masks(n, h, w, rate, generator)

    def counter_masks(
        self, seeds: Tensor, rate: Tensor, frames: int, h: int, w: int, groups: int = 1
    ) -> SkipMasks | None:
        """See `SearchCell.counter_masks`."""
        return self.cell.counter_masks(seeds, rate, frames, h, w, groups)


class DerivedNeck(nn.Module):
    """Brings layer2 and layer3 to C channels as `SearchNeck` does and runs the cell of a genotype.

    Every batch norm is affine.

    Raises:
        ChaseError: unknown flavour.
    """

    def __init__(
        self, in_channels: tuple[int, int], genotype: Genotype, channels: int = 256, flavour: str = "chase"
    ):
        super().__init__()
        check_flavour(flavour)
        self.preprocess = make_preprocess(in_channels, channels, flavour, affine=True)
        self.cell = DerivedCell(genotype, channels, flavour)
        self.out_channels = len(genotype.nodes) * channels

    def forward(self, layer2: Tensor, layer3: Tensor, groups: int = 1, update_stats: bool = True) -> Tensor:
        """layer2 [N, c2, 2h, 2w] (or one less), layer3 [N, c3, h, w] -> [N, nodes * C, h, w]."""
        return self.cell(
            *_inputs(self.preprocess, (layer2, layer3), groups, update_stats), groups, update_stats
        )


class BasicBlock(nn.Module):
    """Residual block of ResNet-18: 3x3 - BN - ReLU - 3x3 - BN, identity, ReLU; torchvision's names."""

    def __init__(self, channels: int):
        super().__init__()
        self.conv1 = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.bn1 = GroupBatchNorm(channels)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.bn2 = GroupBatchNorm(channels)

    def forward(self, x: Tensor, groups: int = 1, update_stats: bool = True) -> Tensor:
        y = F.relu(self.bn1(self.conv1(x), groups, update_stats))
        return F.relu(x + self.bn2(self.conv2(y), groups, update_stats))


class PlainNeck(nn.ModuleList):
    """The block of PrDiMP and DiMP in place of a cell: layer3 only.

    Depth 50: 3x3 convolution 1024 -> 512. Depth 18: BasicBlock(256), then 3x3 convolution 256 -> 256. No
    bias. The keys of its state_dict are those of `classifier.feature_extractor` in the PrDiMP checkpoints.

    Raises:
        ChaseError: another depth.
    """

    def __init__(self, depth: int):
        if depth not in (18, 50):
            raise ChaseError(f"no plain neck for depth {depth}: choose 18 or 50")
        blocks = [BasicBlock(256)] if depth == 18 else []
        inputs, outputs = (256, 256) if depth == 18 else (1024, 512)
        super().__init__([*blocks, nn.Conv2d(inputs, outputs, 3, padding=1, bias=False)])
        self.out_channels = outputs
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.normal_(module.weight, 0.0, math.sqrt(2.0 / (9 * module.out_channels)))

    def forward(self, layer2: Tensor, layer3: Tensor, groups: int = 1, update_stats: bool = True) -> Tensor:
        """layer3 [N, 1024 or 256, h, w] -> [N, 512 or 256, h, w]; layer2 is not read."""
        *blocks, convolution = self
        for block in blocks:
            layer3 = block(layer3, groups, update_stats)
        return convolution(layer3)
