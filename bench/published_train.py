"""The network in training in plain torch, organised as published: the baseline of bench/train_step.py.

Backbone and neck run on train frames and on test frames apart, the cell is a module per gene, the filter a
grouped convolution, the box regressor scales maps by the target's vectors and pools them. PrRoI pooling,
for which torch has nothing, is two batched matrix products (`baselines.pool_boxes`). Parameter names are
those of the published checkpoints; those of the cell are in tests/nas_names.py.
"""

import math

import torch
from torch import Tensor, nn

from bench.baselines import pool_boxes
from bench.published import Separable
from bench.published_tracker import Classifier
from chase_fast.nn.box_regressor import AtomIoUNet
from chase_fast.nn.genotype import Genotype

STRIDES = (8, 16)  # of layer2, layer3
BOX_WEIGHT = 0.0025


def operation(name: str, channels: int) -> nn.Module:
    if name == "skip_connect":
        return nn.Identity()
    if name == "max_pool_3x3":
        return nn.MaxPool2d(3, 1, 1)
    if name == "avg_pool_3x3":
        return nn.AvgPool2d(3, 1, 1, count_include_pad=False)
    kind, kernel = name[:3], int(name[-1])
    return Separable(channels, kernel, *((2, 1) if kind == "sep" else (1, 2)), "chase")


class Cell(nn.Module):
    """The cell of a genotype without `none`."""

    def __init__(self, genotype: Genotype, channels: int):
        super().__init__()
        genes = [gene for node in genotype.nodes for gene in node]
        self.sources = [[source for _, source in node] for node in genotype.nodes]
        self._ops = nn.ModuleList([operation(name, channels) for name, _ in genes])

    def forward(self, input0: Tensor, input1: Tensor) -> Tensor:
        states, ops = [input0, input1], iter(self._ops)
        for sources in self.sources:
            states.append(sum(next(ops)(states[source]) for source in sources))
        return torch.cat(states[2:], 1)


class Neck(nn.Module):
    def __init__(self, in_channels: tuple[int, int], genotype: Genotype, channels: int):
        super().__init__()
        self.conv_match3 = nn.Conv2d(in_channels[0], channels, 3, 2, 1)
        self.conv_match4 = nn.Conv2d(in_channels[1], channels, 1)
        self.cells = nn.ModuleList([Cell(genotype, channels)])

    def forward(self, layer2: Tensor, layer3: Tensor) -> Tensor:
        return self.cells[0](self.conv_match3(layer2), self.conv_match4(layer3))


class BoxRegressor(AtomIoUNet):
    """The layers of AtomIoUNet (torch's own), its passes as published."""

    def forward(self, reference, test, reference_boxes: Tensor, boxes: Tensor) -> Tensor:
        """Arguments and result as in `AtomIoUNet.forward`."""
        one = reference_boxes.unsqueeze(1)
        low = self.fc3_1r(pool_boxes(self.conv3_1r(reference[0]), one, 3, 1 / STRIDES[0]))
        both = torch.cat((low, pool_boxes(self.conv4_1r(reference[1]), one, 1, 1 / STRIDES[1])), 1)
        maps = self.conv3_2t(self.conv3_1t(test[0])), self.conv4_2t(self.conv4_1t(test[1]))
        vectors = self.fc34_3r(both), self.fc34_4r(both)
        flat, hidden = boxes.flatten(0, 1), []
        heads = zip(vectors, maps, (5, 3), STRIDES, (self.fc3_rt, self.fc4_rt))
        for vector, features, size, stride, head in heads:
            scaled = features * vector.repeat(len(boxes), 1, 1, 1)
            hidden.append(head(pool_boxes(scaled, flat, size, 1 / stride)))
        return self.iou_predictor(torch.cat(hidden, 1)).view(boxes.shape[:3])


class TrainTracker(nn.Module):
    """PrDiMP with a cell.

    Args:
        backbone: images -> layer2, layer3; trained with batch statistics.
        feature_size: side of the training crops in cells of 16 px.
    """

    def __init__(self, backbone: nn.Module, genotype: Genotype, channels: int, feature_size: int):
        super().__init__()
        self.feature_extractor = backbone
        self.neck = Neck(backbone.channels, genotype, channels)
        self.classifier = Classifier(len(genotype.nodes) * channels, feature_size)
        self.bb_regressor = BoxRegressor(backbone.channels)

    def loss(self, b) -> Tensor:
        """Of a `chase_fast.data.Batch` on the device of the network."""
        train, test = (self.feature_extractor(x.flatten(0, 1)) for x in (b.train_images, b.test_images))
        sequences = b.train_images.shape[1]
        features = [self.neck(*maps).unflatten(0, (-1, sequences)) for maps in (train, test)]
        box_scores = self.bb_regressor([x[:sequences] for x in train], test, b.train_boxes[0], b.proposals)
        with torch.autocast(box_scores.device.type, enabled=False):
            train_features, test_features, box_scores = (
                x if x.dtype == torch.float64 else x.float() for x in (*features, box_scores)
            )
            losses = []
            for scores in self.classifier(train_features, test_features, b.train_boxes):
                cross = (scores * b.label_density).sum((-2, -1))
                losses.append((scores.flatten(-2).logsumexp(-1) - cross).mean())
            middle = sum(losses[1:-1]) / (len(losses) - 2)
            normaliser = (box_scores - b.proposal_density.log()).logsumexp(-1) - math.log(
                box_scores.shape[-1]
            )
            box = normaliser - (box_scores * b.gt_density / b.proposal_density).mean(-1)
            return 0.25 * losses[-1] + 0.25 * losses[0] + middle + BOX_WEIGHT * box.mean()
