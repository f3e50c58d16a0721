"""The network in training: what of it learns, its loss on a batch, the statistics it starts with."""

from collections.abc import Iterable, Iterator
from dataclasses import fields, replace

import torch
from torch import Tensor, nn

from chase_fast.data import Batch
from chase_fast.distributed import Ranks, statistics
from chase_fast.nn.backbone import calibrate, freeze, is_folded, unfold
from chase_fast.nn.inference import FastBackbone
from chase_fast.nn.losses import dimp_loss, prdimp_loss
from chase_fast.nn.norm import forget_start_
from chase_fast.nn.tracker_net import TrackerNet
from chase_fast.recipes import TrainConfig

TERMS = ("loss", "final", "initial", "middle", "box")
Maps = tuple[Tensor, Tensor]


class Losses:
    """Losses of a network on batches, as a configuration says.

    A frozen backbone runs folded, without gradients, once on all frames. So does one whose BatchNorm is
    frozen, with gradients. Else train and test frames are two passes, with statistics of their own.
    """

    def __init__(self, config: TrainConfig, device: torch.device):
        self.config, self.device = config, device
        self._folded: nn.Module | None = None

    def prepare(self, net: TrackerNet) -> TrackerNet:
        """Moves a network to the device and its memory layout, and stops gradients of what is frozen."""
        net.to(self.device)
        if self.config.channels_last:
            net.to(memory_format=torch.channels_last)
        backbone = net.feature_extractor
        if self.config.freeze_backbone:
            backbone.requires_grad_(False)
        elif self.config.freeze_backbone_bn:
            for module in backbone.modules():
                if isinstance(module, nn.BatchNorm2d):
                    module.requires_grad_(False)
        if self.config.compile and not self.config.freeze_backbone:
            backbone.compile()
        return net

    def fold(self, net: TrackerNet) -> None:
        """Takes over the weights of a frozen backbone; to be called once they are final."""
        if self.config.freeze_backbone:
            folded = freeze(net.feature_extractor)
            plain = (
                self.config.compile or self.config.precision == "bf16"
            )  # what torch's own convolutions do better
            self._folded = folded if plain else FastBackbone(folded)
            if self.config.compile:
                self._folded.compile()

    def train_mode(self, net: TrackerNet) -> None:
        """Batch statistics everywhere but in a frozen BatchNorm."""
        net.train()
        if self.config.freeze_backbone_bn or self.config.freeze_backbone:
            net.feature_extractor.eval()

    def __call__(self, net: TrackerNet, batch: Batch) -> Tensor:
        """Loss and its unweighted terms, [5] in the order of TERMS; NaN for a term that does not exist.

        Args:
            batch: on any device.
        """
        batch = batch.to(self.device, non_blocking=True)
        sequences = batch.train_boxes.shape[1]
        assert net.bb_regressor is not None
        features: tuple[Tensor, ...]
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.config.precision == "bf16"):
            if net.feature_extractor.training:
                train, test = (net.feature_extractor(x) for x in self._images(batch))
                features = net.neck(*train), net.neck(*test)
            else:
                train, test, features = self._together(net, self._images(batch))
            box_scores = net.bb_regressor(
                tuple(x[:sequences] for x in train), test, batch.train_boxes[0], batch.proposals
            )
        train_features, test_features = (x.float().unflatten(0, (-1, sequences)) for x in features)
        scores = net.classifier(train_features, test_features, batch.train_boxes)
        if self.config.classifier == "prdimp":
            terms = prdimp_loss(
                scores, batch.label_density, box_scores.float(), batch.proposal_density, batch.gt_density
            )
        else:
            assert batch.proposal_iou is not None
            terms = dimp_loss(scores, batch.label, box_scores.float(), 2 * batch.proposal_iou - 1)
        total = terms.pop("total")
        missing = total.new_full((), float("nan"))
        return torch.stack([total, *(terms.get(name, missing) for name in TERMS[1:])])

    def _images(self, batch: Batch) -> list[Tensor]:
        """Train images and test images, each [n s, 3, H, W]."""
        layout = torch.channels_last if self.config.channels_last else torch.contiguous_format
        images = batch.train_images, batch.test_images
        return [x.flatten(0, 1).contiguous(memory_format=layout) for x in images]

    def _together(self, net: TrackerNet, images: list[Tensor]) -> tuple[Maps, Maps, tuple[Tensor, ...]]:
        """Maps of the train and of the test frames, and their classification features; the backbone has no
        batch statistics, so it sees all frames at once."""
        backbone = self._folded or net.feature_extractor
        with torch.set_grad_enabled(torch.is_grad_enabled() and self._folded is None):
            maps = backbone(torch.cat(images))
        count = len(images[0])
        train, test = tuple(x[:count] for x in maps), tuple(x[count:] for x in maps)
        if count == len(images[1]):  # equal groups of frames: one call, statistics apart
            return train, test, net.neck(*maps, groups=2).chunk(2)
        return train, test, (net.neck(*train), net.neck(*test))

    @torch.no_grad()
    def calibrate_backbone(self, net: TrackerNet, batches: Iterable[Batch]) -> None:
        """Sets the BatchNorm statistics of a random backbone from the images of these batches."""
        calibrate(net.feature_extractor, self._all_images(batches))

    def unfold_backbone(self, net: TrackerNet, batches: Iterable[Batch]) -> int:
        """Gives a backbone BatchNorm layers again if they are folded into its convolutions and its statistics
        are trained; the number of images that took, 0 if nothing was done."""
        frozen = self.config.freeze_backbone or self.config.freeze_backbone_bn
        if frozen or not is_folded(net.feature_extractor):
            return 0
        return unfold(net.feature_extractor, self._all_images(batches))

    def _all_images(self, batches: Iterable[Batch]) -> Iterator[Tensor]:
        return (images.to(self.device) for batch in batches for images in self._images(batch))

    @torch.no_grad()
    def calibrate(self, net: TrackerNet, batches: Iterable[Batch], ranks: Ranks) -> None:
        """Sets the BatchNorm statistics of new neck and box regressor to a running average over batches.

        The share that the initial values (mean 0, variance 1) still have in such an average is taken out.
        """
        self.train_mode(net)
        net.feature_extractor.eval()
        count = 0
        for batch in batches:
            before = statistics(net)
            for part in split(batch, self.config.accumulate):
                self(net, part)
            ranks.merge_statistics_(before, net)
            count += self.config.accumulate * ranks.world
        # of a batch the neck takes in train and test frames, every layer of the box regressor one of them
        assert net.bb_regressor is not None
        forget_start_(net.neck, 2 * count)
        forget_start_(net.bb_regressor, count)


def split(batch: Batch, parts: int) -> list[Batch]:
    """Equal, consecutive parts of the sequences of a batch."""
    if parts == 1:
        return [batch]
    tensors = {f.name: t for f in fields(batch) if (t := getattr(batch, f.name)) is not None}
    chunks = {name: t.chunk(parts, 1) for name, t in tensors.items()}
    return [replace(batch, **{name: c[k] for name, c in chunks.items()}) for k in range(parts)]
