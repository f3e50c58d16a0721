"""Recipes: functions that return a complete, frozen configuration. A command line takes one and changes
fields by flags.

Sources in brackets: [paper] the text of the paper, [released] the released CHASE code, [DARTS], [Fair-DARTS],
[PrDiMP] the public code of those, [ours] our choice. docs/fidelity.md gives the reasons.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Annotated, Literal

import tyro

from chase_fast.errors import ChaseError
from chase_fast.nn.space import OPS
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
class SearchConfig:
    """Everything that decides the result of a search. The defaults are the paper's values."""

    recipe: Annotated[str, tyro.conf.Fixed, tyro.conf.Suppress] = "paper"
    """Name of the recipe these values come from; a label, written into every run folder."""

    # data
    train: tuple[str, ...] = ()
    """Video for the weights: kind:path[:split][:A-B%][*weight] ..., e.g. got10k:/data/GOT-10k:train, or
    synthetic (another set of sequences for each of --train, --val and --holdout). A-B% is a share of the
    sequences: folder:/data/mine:0-60%, :60-80% and :80-100% are disjoint. [paper: one half of TrackingNet]"""
    val: tuple[str, ...] = ()
    """Video for alpha, disjoint from --train. [paper: the other half of TrackingNet]"""
    holdout: tuple[str, ...] = ()
    """Video for early stopping, disjoint from both. [paper: GOT-10k and LaSOT training sets]"""
    skip_bad: bool = False
    """Leave out (and count) sequences with missing or broken frames instead of stopping with an error."""
    image_size: int = 288
    """Side of the square crops in pixels, a multiple of 16. [PrDiMP]"""
    train_frames: Annotated[int, Range(1, MANY)] = 3
    """Frames per sequence the target filter is learned from. [PrDiMP]"""
    test_frames: Annotated[int, Range(1, MANY)] = 3
    """Frames per sequence the target is searched in. [PrDiMP]"""
    batch: Annotated[int, Range(1, SIZE)] = 10
    """Sequences per iteration, over all ranks. [paper]"""
    batch_groups: Annotated[int, Range(0, SIZE)] = 0
    """Equal parts of a batch with BatchNorm statistics of their own, train and test frames still apart; 0
    makes one per rank. G parts in one process compute what G ranks compute. [paper: one]"""
    workers: Annotated[int, Range(0, MANY)] = 0
    """Processes that load data, per rank; 0 loads in the main process. The samples do not depend on it."""

    # network
    backbone: Literal["resnet18", "resnet50"] = "resnet50"
    """Frozen feature extractor; its layer2 and layer3 feed the cell. [paper]"""
    backbone_weights: str = "imagenet"
    """imagenet (downloaded once by torchvision), random (its BatchNorm is calibrated on a few batches), or a
    file with torchvision's key names (.safetensors, .pth). [paper: ImageNet]"""
    flavour: Literal["chase", "darts"] = "chase"
    """chase: operations end in affine BatchNorm and LeakyReLU [released]; darts: the textbook cell."""
    channels: Annotated[int, Range(1, 8192)] = 256
    """C, channels of each intermediate node. [released]"""
    nodes: Annotated[int, Range(1, 64)] = 4
    """Intermediate nodes; their concatenation, nodes x C channels, is the output. [paper]"""
    ops: tuple[str, ...] = OPS
    """Candidate operations of every edge, the columns of alpha. [paper]"""
    classifier: Literal["prdimp", "dimp"] = "prdimp"
    """Target classifier and its loss: KL with Newton steps (PrDiMP), or hinge with Gauss-Newton steps
    (DiMP)."""
    filter_iterations: Annotated[int, Range(1, MANY)] = 5
    """Unrolled iterations of the target filter. [PrDiMP]"""

    # search
    epochs: Annotated[int, Range(1, SIZE)] = 70
    """Epochs at most, an epoch being --iterations steps. [paper]"""
    iterations: Annotated[int, Range(1, COUNT)] = 1500
    """Weight steps (and, after warm-up, alpha steps) per epoch. [paper: 15 000 samples in batches of 10]"""
    holdout_batches: Annotated[int, Range(1, COUNT)] = 500
    """Batches of the hold-out evaluation after each epoch, always the same ones. [paper: 5 000 samples]"""
    warmup_epochs: Annotated[int, Range(0, SIZE)] = 10
    """Epochs in which only weights are trained; alpha starts in the next one. [paper]"""
    patience: Annotated[int, Range(0, SIZE)] = 10
    """Stop after this many epochs of alpha optimisation without a new minimum of the hold-out loss; 0 runs
    all epochs. [ours; the paper stopped at epoch 41 and took the minimum]"""
    method: str = "darts2"
    """Search method: darts1, darts2 [paper], fair, pc_darts, darts_minus, or one that a file given with
    --import names by `chase_fast.search.register_method`."""
    order: Literal[1, 2] | None = None
    """Order of the alpha gradient, where it is to differ from that of the method; 2 unrolls one weight
    step."""
    mixing: Literal["softmax", "sigmoid"] | None = None
    """Mixing weights of the operations of an edge, softmax [DARTS] or sigmoid [Fair-DARTS], where they are
    to differ from those of the method."""
    alpha_init: Rate = 1e-3
    """Standard deviation of the initial alpha. [DARTS; Fair-DARTS: 0]"""
    alpha_lr: Rate = 3e-4
    """Learning rate of alpha (Adam). [DARTS]"""
    alpha_beta1: Share = 0.5
    """First Adam coefficient of alpha. [DARTS; Fair-DARTS: 0.9]"""
    alpha_beta2: Share = 0.999
    """Second Adam coefficient of alpha. [DARTS]"""
    alpha_weight_decay: Rate = 1e-3
    """Weight decay (L2) of alpha. [DARTS]"""
    zero_one_weight: Rate = 0.0
    """Weight of the zero-one loss on alpha; 0 leaves it out. [Fair-DARTS: 10]"""
    zero_one_kind: Literal["l2", "l1"] = "l2"
    """Form of the zero-one loss. [Fair-DARTS: l2]"""
    auxiliary_decay: Literal["linear", "cosine"] = "linear"
    """How the auxiliary skip of --method darts_minus goes from 1 to 0 over the epochs. [DARTS-: linear]"""
    lr: Rate = 1e-3
    """Initial learning rate of neck and classifier (Adam, betas 0.9 and 0.999, no weight decay). [paper]"""
    lr_schedule: Literal["cosine", "step"] = "cosine"
    """cosine from --lr to --lr-min over all epochs [paper], or times --lr-gamma every --lr-step epochs
    [released]."""
    lr_min: Rate = 1e-4
    """Last learning rate of the cosine. [released, in a comment]"""
    lr_step: Annotated[int, Range(1, SIZE)] = 15
    """Epochs between two drops of the step schedule. [released]"""
    lr_gamma: Rate = 0.2
    """Factor of each drop. [released]"""
    unroll_weight_decay: Rate = 3e-4
    """Weight decay inside the unrolled step, w' = w - lr (g + wd w). [released]"""
    unroll_r: Rate = 0.01
    """Length r of the finite difference: the weights are moved by r along the normalised direction.
    [DARTS]"""
    dropout: Share = 0.6
    """Initial rate of the dropout on skip connections. [paper]"""
    dropout_decay: bool = True
    """Rate x (1 - epoch / epochs) [paper], or constant [released: the decay never reaches the layers]."""

    # derivation
    none_counts: bool = True
    """`none` competes for edges and operations when the cell is derived. [paper, released; not DARTS]"""
    derivation: Literal["top2", "threshold_sparse", "threshold_edge"] = "top2"
    """Rule from alpha to the cell: two edges per node, or the threshold rules of Fair-DARTS (sigmoid >=
    0.85)."""

    # semantics of the released code
    fresh_masks: bool = False
    """New dropout masks in every pass, even in the finite difference. [released; ours: one per batch]"""
    every_pass_updates: bool = False
    """Every pass at w and at the probes updates BatchNorm running statistics, four times per second-order
    iteration. [DARTS, released; ours: only the weight step does]"""
    eval_after_holdout: bool = False
    """After the first hold-out evaluation with alpha active, weight steps and differences stay in eval mode,
    only the unrolled validation pass is in train mode. [released]"""
    backbone_train_mode: bool = False
    """The frozen backbone normalises with batch statistics while the network is in train mode. [released;
    paper: eval]"""
    unroll_lr_bug: bool = False
    """The learning rate of the unroll is a further --lr-gamma too small in the epoch after each drop.
    [released]"""

    # run
    seed: Seed = 0
    """Seed of samples, initial weights, alpha and dropout masks."""
    device: str = "auto"
    """cpu, cuda, cuda:1, ... auto takes a CUDA device if there is one. Process k that torchrun starts on a
    machine takes GPU k."""
    precision: Literal["fp32", "bf16", "fp64"] = "fp32"
    """fp32, fp64: type of every pass. bf16, for GPUs: maps in bfloat16 in the backbone, the weight step and,
    in the chase flavour, the gradient of the unrolled step; v and the finite difference, which less would
    destroy, stay fp32 (see docs/fidelity.md)."""
    graphs: bool = True
    """On one GPU, capture a whole iteration as one CUDA graph and replay it with one launch. --no-graphs runs
    the same function eagerly. CPUs, several ranks, operations that a user registered, --fresh-masks,
    --backbone-train-mode and --eval-after-holdout are always eager; the first lines say so."""
    threads: Annotated[int, Range(0, MANY)] = 0
    """CPU threads; 0 leaves torch's choice. Equal results to the last digit need equal thread counts."""
    backbone_chunk: Annotated[int, Range(1, SIZE)] = 10
    """Images per call of the frozen backbone; bounds its memory, does not change the result."""
    calibration_batches: Annotated[int, Range(1, SIZE)] = 10
    """Training batches that set the BatchNorm statistics of a random backbone and of the untrained neck (row
    0)."""
    holdout_cache_mb: Annotated[int, Range(0, COUNT)] = 512
    """Keep the hold-out features, the same in every epoch, in memory if they fit into this many MiB."""
    checkpoint_minutes: Annotated[float, Range(0, COUNT)] = 10.0
    """Minutes between checkpoints inside an epoch (one is always written at its end); 0 turns them off."""
    checkpoint_iterations: Annotated[int, Range(0, COUNT)] = 0
    """Iterations between checkpoints inside an epoch, beside --checkpoint-minutes; 0 turns them off."""
    hessian: bool = False
    """Each epoch, also compute the dominant eigenvalue of the Hessian of the validation loss with respect to
    alpha, a collapse indicator [RobustDARTS]. Costs about 30 passes."""

    later = "method", "auxiliary_decay"  # fields that older run folders lack: they ran with the defaults

    def check(self) -> "SearchConfig":
        """Itself, if the values make sense together.

        Raises:
            ChaseError: names the flag and what it may be.
        """
        check_values(self, "train", "val", "holdout")
        if self.batch % max(self.batch_groups, 1):
            raise ChaseError(
                f"--batch {self.batch} cannot be split into {self.batch_groups} equal parts (one per rank, "
                "or --batch-groups); change it"
            )
        if not self.unroll_r > 0:
            raise ChaseError(f"--unroll-r is {self.unroll_r}, it must be above 0")
        if self.warmup_epochs >= self.epochs:
            raise ChaseError(
                f"--warmup-epochs {self.warmup_epochs} leaves no epoch for alpha, --epochs is {self.epochs}; "
                "make it smaller"
            )
        if len(set(self.ops)) != len(self.ops) or not self.ops or self.ops == ("none",):
            raise ChaseError(
                f"--ops {' '.join(self.ops)}: name different operations, at least one besides none"
            )
        return self

    def on(self, world: int) -> "SearchConfig":
        """Itself for this number of ranks: `batch_groups` is a number.

        Raises:
            ChaseError: the ranks cannot share the groups, or the batch, evenly.
        """
        config = replace(self, batch_groups=self.batch_groups or world)
        if config.batch_groups % world:
            raise ChaseError(
                f"{world} ranks cannot share --batch-groups {config.batch_groups} evenly; start "
                f"{config.batch_groups} ranks or a divisor of it"
            )
        return config.check()


def paper() -> SearchConfig:
    """The paper's search: its text where explicit, the released code for what it leaves open. Needs --train
    --val --holdout and 10 GiB of memory."""
    return SearchConfig()


def demo() -> SearchConfig:
    """A whole search in minutes on two CPU cores: synthetic video, random ResNet-18, a narrow cell."""
    return replace(
        paper(),
        recipe="demo",
        train=("synthetic",),
        val=("synthetic",),
        holdout=("synthetic",),
        image_size=128,
        train_frames=2,
        test_frames=2,
        batch=4,
        backbone="resnet18",
        backbone_weights="random",
        channels=16,
        epochs=10,
        iterations=20,
        holdout_batches=10,
        warmup_epochs=2,
        patience=5,
        alpha_lr=1e-2,
        lr=3e-3,
    )


def released() -> SearchConfig:
    """The semantics of the released code, its defects included: constant dropout, eval mode after the first
    hold-out evaluation, new masks in every pass, wrong unroll step after each drop of the learning rate."""
    return replace(
        paper(),
        recipe="released",
        lr_schedule="step",
        patience=0,
        dropout_decay=False,
        fresh_masks=True,
        every_pass_updates=True,
        eval_after_holdout=True,
        backbone_train_mode=True,
        unroll_lr_bug=True,
    )


def chase_d1() -> SearchConfig:
    """CHASE-D1: first-order DARTS. [paper, section 4.2]"""
    return replace(paper(), recipe="chase_d1", method="darts1")


def chase_fd() -> SearchConfig:
    """CHASE-FD: Fair-DARTS, sigmoid mixing and zero-one loss, first order, no `none`; two edges per node as
    in the published cell. [paper, section 4.2; values of Fair-DARTS]"""
    return replace(
        paper(),
        recipe="chase_fd",
        ops=OPS[1:],
        method="fair",
        alpha_init=0.0,
        alpha_lr=3e-3,
        alpha_beta1=0.9,
        zero_one_weight=10.0,
    )


def chase_dimp() -> SearchConfig:
    """CHASE-DiMP: the search inside the DiMP tracker. [paper, section 4.2]"""
    return replace(paper(), recipe="chase_dimp", classifier="dimp")


def chase_2n() -> SearchConfig:
    """CHASE-2N: two intermediate nodes. [paper, section 4.2]"""
    return replace(paper(), recipe="chase_2n", nodes=2)


def chase_wo() -> SearchConfig:
    """CHASE-WO: only operations that have weights. [paper, section 4.2]"""
    return replace(paper(), recipe="chase_wo", ops=OPS[4:])


def chase_st() -> SearchConfig:
    """CHASE-S/T: as the paper, but give it video that the later training does not see. [paper, section
    4.2]"""
    return replace(paper(), recipe="chase_st")


def pc_darts() -> SearchConfig:
    """PC-DARTS: operations on a quarter of the channels, edge normalisation; first order, `none` not derived.
    [Xu et al. 2020; alpha rests for 15 epochs as there]"""
    return replace(
        paper(),
        recipe="pc_darts",
        method="pc_darts",
        alpha_lr=6e-4,
        warmup_epochs=15,
        none_counts=False,
    )


def darts_minus() -> SearchConfig:
    """DARTS-: an auxiliary skip connection on every edge that fades from 1 to 0; first order, `none` not
    derived. [Chu et al. 2021]"""
    return replace(paper(), recipe="darts_minus", method="darts_minus", none_counts=False)


SEARCH: dict[str, Callable[[], SearchConfig]] = {
    f.__name__: f
    for f in (
        *(demo, paper, released, chase_d1, chase_fd, chase_dimp, chase_2n, chase_wo, chase_st),
        *(pc_darts, darts_minus),
    )
}


def search_recipe(name: str) -> SearchConfig:
    """The search recipe of that name; ChaseError if there is none."""
    return find_recipe(SEARCH, "search", name)
