"""The network of a search: frozen backbone, search neck, target classifier, alpha; its loss on a batch.

The box branch is not part of it: frozen, its gradient to neck and alpha is zero, its loss a constant.
"""

import itertools
from collections.abc import Iterator, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from chase_fast.data import Batch
from chase_fast.distributed import Ranks, statistics
from chase_fast.nn.backbone import build_backbone, calibrate, freeze
from chase_fast.nn.inference import FastBackbone
from chase_fast.nn.losses import dimp_loss, prdimp_loss
from chase_fast.nn.neck import SearchNeck
from chase_fast.nn.norm import forget_start_
from chase_fast.nn.search_cell import SkipMasks
from chase_fast.nn.seeded import seeded
from chase_fast.nn.space import OPS
from chase_fast.nn.target_classifier import TargetClassifier
from chase_fast.recipes import SearchConfig
from chase_fast.runs import stream
from chase_fast.search.bilevel import FlatParameters
from chase_fast.search.methods import make_method

# of weights, optimizers, differences; `bf16` stores the maps of some passes in less (see `SearchStep`)
DTYPES = {"fp32": torch.float32, "bf16": torch.float32, "fp64": torch.float64}


@dataclass(frozen=True)
class Prepared:
    """A batch after the backbone: s sequences in G equal groups, in order; N = (n_train + n_test) s frames.

    Frames are ordered by group, in it train frames first, then by image, then by sequence, so that the frames
    which share BatchNorm statistics lie together.

    Attributes:
        layer2 [N, c2, h2, w2], layer3 [N, c3, h, w]: frozen features, no gradient. From a bfloat16 backbone
            their values are bfloat16 numbers, so `to(torch.bfloat16)` changes none.
        boxes [n_train, s, 4]: target boxes of the train frames, x y w h in crop pixels.
        labels [n_test, s, S, S]: label density (prdimp) or label (dimp) of the test frames.
        frames: (n_train, n_test).
        groups: G.
    """

    layer2: Tensor
    layer3: Tensor
    boxes: Tensor
    labels: Tensor
    frames: tuple[int, int]
    groups: int

    @property
    def calls(self) -> list[tuple[slice, int]]:
        """Frames per neck call and its BatchNorm groups: train and test frames never share statistics."""
        train, test = self.frames
        total = self.layer3.shape[0]
        if train == test:
            return [(slice(0, total), 2 * self.groups)]
        sizes = [n * total // (train + test) // self.groups for n in self.frames] * self.groups
        ends = list(itertools.accumulate(sizes))
        return [(slice(end - size, end), 1) for end, size in zip(ends, sizes)]

    def to(self, dtype: torch.dtype) -> "Prepared":
        """The same with features of this type; a pass stores its maps in the type of its features."""
        return replace(self, layer2=self.layer2.to(dtype), layer3=self.layer3.to(dtype))

    @property
    def bytes(self) -> int:
        return sum(t.numel() * t.element_size() for t in (self.layer2, self.layer3, self.boxes, self.labels))


class SearchNetwork(nn.Module):
    """Everything a search optimises, and the frozen backbone before it.

    Args:
        groups: parts of each batch with BatchNorm statistics of their own in train mode.

    Attributes:
        method: what makes mixing weights of alpha.
        backbone: frozen; its BatchNorm statistics change in a search only with `backbone_train_mode`.
        neck, classifier: the modules whose weights are trained.
        alpha [E, K + method.edge_columns]: architecture parameters (a leaf, not among `parameters()` of neck
            or classifier).
        neck_weights, classifier_weights: their parameters as flat buffers.
    """

    def __init__(self, config: SearchConfig, device: torch.device, groups: int = 1):
        super().__init__()
        self.config, self.device, self._groups = config, device, groups
        self.dtype, self.method = DTYPES[config.precision], make_method(config)
        # random weights are the same for every seed: --seeds compares cells, not backbones
        backbone = build_backbone(config.backbone, config.backbone_weights, stream(0, "backbone") % 2**31)
        self.backbone = backbone.requires_grad_(False).eval().to(device, self.dtype)
        self.backbone.to(memory_format=torch.channels_last)
        self._frozen: nn.Module | None = None
        with seeded(stream(config.seed, "weights")):
            neck = SearchNeck(
                *(backbone.channels, config.channels, config.nodes, config.ops, config.flavour),
                cell=self.method.cell,
            )
            self.classifier = TargetClassifier(
                neck.out_channels,
                kind=config.classifier,
                feature_size=config.image_size // 16,
                iterations=config.filter_iterations,
            ).to(device, self.dtype)
            self.neck = neck.to(device, self.dtype)
        with seeded(stream(config.seed, "alpha")):
            columns = len(neck.ops) + self.method.edge_columns
            alpha = config.alpha_init * torch.randn(neck.edges, columns, dtype=torch.float64)
        self.alpha = nn.Parameter(alpha.to(device, self.dtype))
        self.neck_weights = FlatParameters(self.neck.parameters())
        self.classifier_weights = FlatParameters(self.classifier.parameters())
        self.requires_grad_(False)  # `bilevel` turns on what a pass differentiates

    def calibrate_backbone(self, batches: Iterator[Batch]) -> None:
        """Sets the BatchNorm statistics of a random backbone from the images of these batches."""
        calibrate(
            self.backbone,
            (
                images.to(self.device, self.dtype)
                for b in batches
                for images in _frames(b.train_images, b.test_images, 1)
            ),
        )

    @torch.no_grad()
    def calibrate_neck(self, batches: Iterator[Batch], ranks: Ranks) -> None:
        """Sets the BatchNorm statistics of the untrained neck to a running average over these batches.

        The share that the initial values (mean 0, variance 1) still have in such an average is taken out.
        """
        count = 0
        for batch in batches:
            data = self.prepare(batch)
            before = statistics(self.neck)
            self.loss(data, None, seed=0, scheduled=self.method.schedule(0), update_statistics=True)
            ranks.merge_statistics_(before, self.neck)
            count += 2 * self._groups * ranks.world  # train and test frames
        forget_start_(self.neck, count)

    def frozen(self) -> nn.Module:
        """The backbone for inference, made once: BatchNorm folded, and in bfloat16 with `precision=bf16`."""
        if self._frozen is None:
            folded = freeze(self.backbone)
            if self.config.precision == "bf16":
                folded = folded.to(torch.bfloat16)
            self._frozen = FastBackbone(folded)
        return self._frozen

    def inputs(self, batch: Batch) -> dict[str, Tensor]:
        """The tensors of a batch that a search reads: the arguments of `features`."""
        return {
            "train_images": batch.train_images,
            "test_images": batch.test_images,
            "boxes": batch.train_boxes,
            "labels": batch.label_density if self.config.classifier == "prdimp" else batch.label,
        }

    def prepare(self, batch: Batch, batch_statistics: bool = False, updates: int = 0) -> Prepared:
        """`features` of a batch."""
        return self.features(**self.inputs(batch), batch_statistics=batch_statistics, updates=updates)

    @torch.no_grad()
    def features(
        self,
        train_images: Tensor,
        test_images: Tensor,
        boxes: Tensor,
        labels: Tensor,
        batch_statistics: bool = False,
        updates: int = 0,
    ) -> Prepared:
        """Backbone features, once for all passes on a batch, in the type of the weights.

        Args:
            train_images [n_train, s, 3, H, W], test_images [n_test, s, 3, H, W], boxes, labels: as in
                `Prepared`, on any device.
            batch_statistics: the backbone normalises with the statistics of this batch
                (`backbone_train_mode`), train and test frames apart.
            updates: how many times its running statistics take these statistics in.
        """
        frames = _frames(train_images, test_images, self._groups)
        if batch_statistics:
            maps = [self._with_batch_statistics(x.to(self.device, self.dtype), updates) for x in frames]
        else:
            if self.config.backbone_train_mode:
                run: nn.Module = self.backbone.eval()
                dtype = self.dtype
            else:
                run = self.frozen()
                dtype = torch.bfloat16 if self.config.precision == "bf16" else self.dtype
            images = torch.cat(frames)
            chunks = images.split(self.config.backbone_chunk)
            maps = [run(x.to(self.device, dtype, memory_format=torch.channels_last)) for x in chunks]
        layer2, layer3 = (torch.cat(parts).to(self.dtype) for parts in zip(*maps))
        return Prepared(
            layer2=layer2,
            layer3=layer3,
            boxes=boxes.to(self.device, self.dtype),
            labels=labels.to(self.device, self.dtype),
            frames=(train_images.shape[0], test_images.shape[0]),
            groups=self._groups,
        )

    def _with_batch_statistics(self, images: Tensor, updates: int) -> tuple[Tensor, Tensor]:
        """Backbone in train mode. n updates of momentum m are one of momentum 1 - (1 - m)^n."""
        norms = [m for m in self.backbone.modules() if isinstance(m, nn.BatchNorm2d)]
        momenta = [m.momentum for m in norms]
        for norm, momentum in zip(norms, momenta):
            assert momentum is not None
            norm.momentum = 1 - (1 - momentum) ** updates
        self.backbone.train()
        maps = self.backbone(images.contiguous(memory_format=torch.channels_last))
        self.backbone.eval()
        for norm, momentum in zip(norms, momenta):
            norm.momentum = momentum
            assert norm.num_batches_tracked is not None
            norm.num_batches_tracked += updates - 1
        return maps

    def masks(
        self, data: Prepared, rate: float | Tensor, seeds: Sequence[int] | Tensor
    ) -> list[SkipMasks | None]:
        """Dropout masks of the skip connections for one pass, one entry per neck call.

        Args:
            rate: probability to drop.
            seeds: one per sequence, so a sequence has the same masks in whichever group or process it is.
                Numbers on a CPU draw from torch's generator. On a CUDA device, or given as int64 [s] on the
                device with the rate as a 0-d float64, masks come from `keep_mask`.
        """
        (train, test), groups = data.frames, data.groups
        h, w = data.layer3.shape[-2:]
        if isinstance(seeds, Tensor) or self.device.type == "cuda":
            seeds = torch.as_tensor(seeds, device=self.device)
            rate = torch.as_tensor(rate, dtype=torch.float64, device=self.device)
            drawn = self.neck.counter_masks(seeds, rate, train + test, h, w, groups)
            if drawn is None:
                return [None] * len(data.calls)
            return [SkipMasks(drawn.keep[:, frames], drawn.scale) for frames, _ in data.calls]
        keep: Tensor | None = None
        for k, seed in enumerate(seeds):
            generator = torch.Generator(self.device).manual_seed(seed)
            drawn = self.neck.sample_masks(train + test, h, w, float(rate), generator)
            if drawn is None:
                return [None] * len(data.calls)
            mine = drawn.keep.movedim(2, -1)  # [edges, frames, h, w, C]
            if keep is None:
                keep = mine.new_empty(
                    mine.shape[0], groups, train + test, len(seeds) // groups, *mine.shape[2:]
                )
            group, place = divmod(k, len(seeds) // groups)
            keep[:, group, :, place] = mine
        assert keep is not None and drawn is not None, "there is a sequence"
        keep = keep.flatten(1, 3).movedim(-1, 2)
        return [SkipMasks(keep[:, frames], drawn.scale) for frames, _ in data.calls]

    def loss(
        self,
        data: Prepared,
        masks: list | None,
        seed: int | None,
        scheduled: float | Tensor,
        training: bool = True,
        update_statistics: bool = False,
    ) -> Tensor:
        """Mean classification loss of the filter iterates on the test frames.

        Args:
            masks: from `masks`, or None for no dropout.
            seed: of torch's global generator in this pass, for operations of users that draw from it; None
                leaves it. The caller's state is back afterwards.
            scheduled: `Method.schedule` of the epoch.
            training: batch statistics in BatchNorm; False: running statistics.
            update_statistics: the running statistics take in those of this pass.
        """
        own = any(op not in OPS for op in self.config.ops)
        with seeded(seed, self.device) if own and seed is not None else nullcontext():
            return self._loss(data, masks, scheduled, training, update_statistics)

    def _loss(
        self,
        data: Prepared,
        masks: list | None,
        scheduled: float | Tensor,
        training: bool,
        update_statistics: bool,
    ) -> Tensor:
        if self.neck.training != training:  # sets the flag of every module
            self.neck.train(training)
        mixing = self.method.mixing(self.alpha, scheduled)
        outputs = []
        for k, (frames, groups) in enumerate(data.calls):
            mask = masks[k] if masks is not None else None
            maps = data.layer2[frames], data.layer3[frames]
            outputs.append(
                self.neck(
                    *maps, mixing, groups=groups, masks=mask, update_stats=update_statistics and training
                )
            )
        train, test = data.frames
        features = torch.cat(outputs) if len(outputs) > 1 else outputs[0]
        features = features.unflatten(0, (data.groups, train + test, -1)).movedim(0, 1)
        features = features.flatten(1, 2).to(self.dtype)  # [n_train + n_test, s, nodes C, h, w]
        scores = self.classifier(features[:train], features[train:], data.boxes)
        total = prdimp_loss if self.config.classifier == "prdimp" else dimp_loss
        return total(scores, data.labels)["total"]


def _frames(train_images: Tensor, test_images: Tensor, groups: int) -> list[Tensor]:
    """Train images and test images of each group of sequences in turn, [n s / groups, 3, H, W] each."""
    images = train_images.chunk(groups, 1), test_images.chunk(groups, 1)
    return [part.flatten(0, 1) for pair in zip(*images) for part in pair]
