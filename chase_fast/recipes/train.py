"""Training recipes: functions that return a complete, frozen configuration. A command line takes one and
changes fields by flags.

Sources in brackets: [PrDiMP], [DiMP] the published training settings of those trackers, [released] the
released CHASE code, [ours] our choice. docs/fidelity.md gives the reasons.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Annotated, Literal

import tyro

from chase_fast.errors import ChaseError
from chase_fast.recipes.values import (
    COUNT,
    MANY,
    SIZE,
    Range,
    Rate,
    Seed,
    Share,
    check_values,
    find_recipe,
)


@dataclass(frozen=True)
class TrainConfig:
    """Everything that decides the result of a training. The defaults are PrDiMP-50's published values."""

    recipe: Annotated[str, tyro.conf.Fixed, tyro.conf.Suppress] = "prdimp50"
    """Name of the recipe these values come from; a label, written into every run folder."""

    # data
    train: tuple[str, ...] = ()
    """Data for the weights: kind:path[:split][:A-B%][*weight] ..., e.g. got10k:/data/GOT-10k:vot_train.txt
    trackingnet:/data/TrackingNet:0-3 lasot:/data/LaSOT:train*0.25 coco:/data/COCO:train2014, or synthetic.
    A-B% is a share of the sequences: folder:/data/mine:0-80% and folder:/data/mine:80-100% are disjoint.
    [PrDiMP: these four; the list leaves out what overlaps VOT]"""
    val: tuple[str, ...] = ()
    """Data for the validation loss, which chooses the epoch; disjoint from --train. [PrDiMP:
    GOT-10k train, another list]"""
    skip_bad: bool = False
    """Leave out (and count) sequences with missing or broken frames instead of stopping with an error."""
    image_size: int = 288
    """Side of the square crops in pixels, a multiple of 16. [PrDiMP]"""
    train_frames: Annotated[int, Range(1, MANY)] = 3
    """Frames per sequence the target filter is learned from. [PrDiMP]"""
    test_frames: Annotated[int, Range(1, MANY)] = 3
    """Frames per sequence the target is searched in. [PrDiMP]"""
    max_gap: Annotated[int, Range(1, COUNT)] = 200
    """Frames between the first train frame of a sample and its others, at most. [PrDiMP; DiMP: 30]"""
    batch: Annotated[int, Range(1, SIZE)] = 10
    """Sequences per iteration, over all ranks. [PrDiMP-50; 26 for the 18-layer networks]"""
    workers: Annotated[int, Range(0, MANY)] = 0
    """Processes that load data, per rank; 0 loads in the main process. The samples do not depend on it."""

    # network
    classifier: Literal["prdimp", "dimp"] = "prdimp"
    """Target classifier and its losses: KL with Newton steps and a box density (PrDiMP), or hinge with
    Gauss-Newton steps and box IoU (DiMP)."""
    filter_iterations: Annotated[int, Range(1, MANY)] = 5
    """Unrolled iterations of the target filter. [PrDiMP]"""
    backbone: Literal["resnet18", "resnet50"] = "resnet50"
    """Feature extractor; layer2 and layer3 are used. [PrDiMP-50]"""
    backbone_weights: str = "imagenet"
    """imagenet (downloaded once by torchvision), random, or a file with torchvision's key names
    (.safetensors, .pth). [PrDiMP: ImageNet]"""
    freeze_backbone_bn: bool = False
    """BatchNorm of the backbone keeps its statistics and weights. Else it is trained and normalises with the
    statistics of each batch, train and test frames apart. [PrDiMP: trained]"""
    freeze_backbone: bool = False
    """The whole backbone, its BatchNorm included, stays as it is: several times faster. [PrDiMP: trained]"""
    cell: str = "plain"
    """What stands between backbone and classifier: plain (the block of PrDiMP and DiMP), a published cell
    (chase, chase_fd, chase_wo), the cell.json of a search, random (drawn from --seed) or random:K (drawn from
    K)."""
    flavour: Literal["auto", "chase", "darts"] = "auto"
    """Kind of operations in the cell; auto takes that of the cell.json, and chase for every other cell."""
    channels: Annotated[int, Range(0, 8192)] = 0
    """C, channels of each node of the cell; 0 takes those of the cell.json, and 256 for every other cell.
    [released: 256]"""
    init: str = ""
    """A checkpoint (best.safetensors of a run, or a public PrDiMP or DiMP file) whose weights are the start;
    its architecture must be the same."""

    # optimisation
    epochs: Annotated[int, Range(1, SIZE)] = 50
    """Epochs, an epoch being --iterations steps. [PrDiMP; released: 70]"""
    iterations: Annotated[int, Range(1, COUNT)] = 2600
    """Steps per epoch. [PrDiMP-50: 26 000 samples in batches of 10]"""
    val_batches: Annotated[int, Range(1, COUNT)] = 500
    """Batches of the validation, always the same ones. [PrDiMP: 5 000 samples]"""
    val_every: Annotated[int, Range(1, SIZE)] = 5
    """Epochs between two validations; the last epoch is always validated. [PrDiMP]"""
    lr: Rate = 1e-3
    """Learning rate (Adam, betas 0.9 and 0.999, no weight decay) of the cell or plain block, and of the
    classifier unless the next two say otherwise. [PrDiMP; DiMP: 5e-5 for the plain block]"""
    lr_filter_initializer: Rate = 0.0
    """Learning rate of the classifier's filter initializer; 0 takes --lr. [DiMP: 5e-5]"""
    lr_filter_optimizer: Rate = 0.0
    """Learning rate of the learned constants of the filter solver; 0 takes --lr. [DiMP: 5e-4]"""
    lr_box: Rate = 1e-3
    """Learning rate of the box regressor. [PrDiMP; DiMP-50: 2e-4]"""
    lr_backbone: Rate = 2e-5
    """Learning rate of the backbone. [PrDiMP-50, DiMP-50; 18 layers: 2e-4]"""
    lr_step: Annotated[int, Range(1, SIZE)] = 15
    """Epochs between two drops of all learning rates. [PrDiMP]"""
    lr_gamma: Rate = 0.2
    """Factor of each drop. [PrDiMP]"""
    accumulate: Annotated[int, Range(1, SIZE)] = 1
    """Micro-batches per iteration, whose gradients are added up: less memory. BatchNorm sees one micro-batch
    at a time, so G micro-batches give what G ranks give."""
    clip_norm: Annotated[float, Range(0, COUNT)] = 0.0
    """Largest norm of the whole gradient; 0 does not clip. [PrDiMP: none]"""
    ema: Share = 0.0
    """Decay of an exponential moving average of the weights, which is then what is validated and saved; 0
    turns it off. In step t it is at most (1 + t) / (10 + t). [PrDiMP: none]"""

    # run
    seed: Seed = 0
    """Seed of samples and initial weights; the validation samples do not depend on it."""
    device: str = "auto"
    """cpu, cuda, cuda:1, ... auto takes a CUDA device if there is one."""
    precision: Literal["fp32", "bf16"] = "fp32"
    """bf16: convolutions and linear layers in bfloat16 (autocast); filter solver, pooling, normalisation,
    losses and weights stay in fp32."""
    channels_last: bool = True
    """Memory layout of the convolutions' weights and maps: the fast one on GPUs and CPUs."""
    graphs: bool = True
    """On one GPU, capture a whole iteration as a CUDA graph and replay it with one launch. --no-graphs runs
    the same function eagerly, with the same digits; CPUs, several ranks and --compile are always eager."""
    compile: bool = False
    """torch.compile the backbone; needs a compiler (GPU: Triton). Digits may differ from an eager run."""
    threads: Annotated[int, Range(0, MANY)] = 0
    """CPU threads; 0 leaves torch's choice. Equal results to the last digit need equal thread counts."""
    calibration_batches: Annotated[int, Range(1, SIZE)] = 10
    """Training batches that set the BatchNorm statistics of the untrained network (row 0)."""
    checkpoint_minutes: Annotated[float, Range(0, COUNT)] = 10.0
    """Minutes between checkpoints inside an epoch (one is always written at its end); 0 turns them off."""
    checkpoint_iterations: Annotated[int, Range(0, COUNT)] = 0
    """Iterations between checkpoints inside an epoch, beside --checkpoint-minutes; 0 turns them off."""

    def check(self) -> "TrainConfig":
        """Itself, if the values make sense together.

        Raises:
            ChaseError: names the flag and what it may be.
        """
        check_values(self, "train", "val")
        self.on(1)
        return self

    def on(self, world: int) -> "TrainConfig":
        """Itself, if so many ranks can share its batches.

        Raises:
            ChaseError: not evenly, or BatchNorm would see one sequence at a time: of the target vector of the
                box regressor that is one number per channel, which has no variance.
        """
        where = f"{world} ranks in {self.accumulate}" if world > 1 else f"{self.accumulate}"
        sequences, rest = divmod(self.batch, world * self.accumulate)
        if rest:
            raise ChaseError(
                f"--batch {self.batch} cannot be split into {where} equal micro-batches; change --batch or "
                "--accumulate"
            )
        if sequences < 2:
            raise ChaseError(
                f"--batch {self.batch} leaves one sequence for each micro-batch ({where}), and BatchNorm "
                f"needs two: --batch of at least {2 * world * self.accumulate}"
                + (", or a smaller --accumulate" if self.accumulate > 1 else "")
            )
        return self


def prdimp50() -> TrainConfig:
    """PrDiMP-50 as published. Needs --train, --val."""
    return TrainConfig()


def dimp50() -> TrainConfig:
    """DiMP-50 as published. Needs --train, --val."""
    return replace(
        prdimp50(),
        recipe="dimp50",
        classifier="dimp",
        max_gap=30,
        lr=5e-5,
        lr_filter_initializer=5e-5,
        lr_filter_optimizer=5e-4,
        lr_box=2e-4,
    )


def prdimp18() -> TrainConfig:
    """PrDiMP-18 as published. Needs --train, --val."""
    return replace(
        prdimp50(),
        recipe="prdimp18",
        backbone="resnet18",
        batch=26,
        iterations=1000,
        val_batches=192,
        lr_backbone=2e-4,
    )


def dimp18() -> TrainConfig:
    """DiMP-18 as published. Needs --train, --val."""
    return replace(
        dimp50(),
        recipe="dimp18",
        backbone="resnet18",
        batch=26,
        iterations=1000,
        val_batches=192,
        lr_backbone=2e-4,
        lr_box=1e-3,
    )


def chase_prdimp() -> TrainConfig:
    """CHASE-PrDiMP: PrDiMP-50 with a cell, the published one or that of --cell. [released] Needs --train,
    --val."""
    return replace(prdimp50(), recipe="chase_prdimp", cell="chase", epochs=70)


def chase_dimp() -> TrainConfig:
    """CHASE-DiMP: DiMP-50 with a cell, the published one or that of --cell; the cell's learning rate is that
    of CHASE-PrDiMP. Needs --train, --val."""
    return replace(dimp50(), recipe="chase_dimp", cell="chase", epochs=70, lr=1e-3)


def small() -> TrainConfig:
    """A tracker for two CPU cores, trained in about an hour: frozen ResNet-18, a cell of 4 x 64 channels.
    [ours] Needs --train, --val."""
    return replace(
        prdimp50(),
        recipe="small",
        image_size=224,
        train_frames=2,
        test_frames=2,
        max_gap=50,
        batch=8,
        backbone="resnet18",
        freeze_backbone=True,
        cell="chase",
        channels=64,
        epochs=20,
        iterations=60,
        val_batches=16,
        val_every=1,
        lr_step=8,
    )


def demo() -> TrainConfig:
    """A whole training in minutes on two CPU cores: synthetic video, ResNet-18 from scratch, a narrow cell.
    [ours]"""
    return replace(
        small(),
        recipe="demo",
        train=("synthetic",),
        val=("synthetic",),
        image_size=128,
        batch=4,
        backbone_weights="random",
        freeze_backbone=False,
        channels=16,
        epochs=8,
        iterations=25,
        val_batches=10,
        lr_backbone=1e-3,
        lr_step=3,
        lr_gamma=0.3,
    )


TRAIN: dict[str, Callable[[], TrainConfig]] = {
    f.__name__: f for f in (demo, small, chase_prdimp, chase_dimp, prdimp50, prdimp18, dimp50, dimp18)
}


def train_recipe(name: str) -> TrainConfig:
    """The training recipe of that name; ChaseError if there is none."""
    return find_recipe(TRAIN, "training", name)
