"""Every number of the online procedure: the published ones by network, and cheaper presets made from them.

Sources: the published parameter files of PrDiMP and DiMP, and those of the CHASE release for its cell.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from typing import Any

from chase_fast.errors import ChaseError
from chase_fast.nn.tracker_net import TrackerSpec

STRIDE = 16  # image pixels per feature cell
BORDERS = ("replicate", "inside", "inside_major")
SPACES = ("default", "relative")


@dataclass(frozen=True)
class TrackSettings:
    """Constants of one tracker. Five of them choose between forms of the published code that differ:

    integer_window: the search window has whole pixels, as with the torch (<= 1.4) that the published figures
        were made with. False is what the same code does on later versions: halves are no longer cut off, and
        windows of even size grow by one pixel and lie half a pixel off.
    half_pixel_offset: a refined box goes back to the frame half a crop pixel right of and below where the
        first box was taken from. Published; False removes this constant shift.
    shrink_first: False (published): inside_major does not shrink the expanded patch of the first frame, so
        its scale differs from that of later frames for large targets. `inside` always shrinks it.
    score_after: False (published): boxes are ranked by their scores before the last refinement step. True
        evaluates once more after it.
    keep_position: False (published): when no refined box has an acceptable shape, the position goes back to
        that of the last refined one. True keeps the classifier's.

    Right padding, which is one pixel too wide in published training crops, is exact in tracking.

    Attributes:
        name: where the values come from.
        image_size: side of the search patch in pixels, a multiple of 16.
        search_area: side of the search area over sqrt(w h) of the target.
        border: replicate, inside (the area shrinks until it fits the frame) or inside_major (until one axis
            fits), then by at most max_scale_change.
        init_iterations, update_iterations, hard_negative_iterations: solver steps on the first frame, in
            regular updates and after a hard negative.
        update_interval: frames between regular updates.
        flip, blurs, rotations, shifts: augmented copies of the first patch: mirrored; Gaussian blurs with
            deviations (vertical, horizontal) px; degrees; shifts (down, right) as shares of half the patch.
        random_shift: largest random shift of the copies but `shifts`, as a share of half the patch times 2.
        expansion: side of the patch that the copies are cut from, over the search patch.
        dropouts: one more sample per entry: the first one with this share of channels dropped.
        memory, learning_rate, hard_negative_rate, init_weight: samples kept, weight of a new one, the same
            after a hard negative, smallest share of the first frame's samples.
        softmax: scores are made a density before they are compared with thresholds.
        lost_below, distractor_above, hard_negative_above: a target is lost below this score; a second peak
            above this share of the first is a rival; above this share, a hard negative.
        neighbourhood: side of the area about the peak that belongs to it, over the target's.
        displacement: how far a target moves in one frame, as a share of half the score map.
        space: coordinates of box refinement.
        random_boxes, position_jitter, size_jitter: boxes refined beside the first one, and their spread.
        refine_iterations, step, step_decay: gradient steps; step is one number or (position, size).
        best_boxes: boxes averaged.  max_aspect: of an acceptable box.
        inside_ratio: share of the target that stays in the frame.
    """

    name: str = "prdimp50"
    image_size: int = 352
    search_area: float = 6.0
    border: str = "inside_major"
    max_scale_change: float | None = 1.5
    integer_window: bool = True
    half_pixel_offset: bool = True
    shrink_first: bool = False
    score_after: bool = False
    keep_position: bool = False
    init_iterations: int = 10
    update_iterations: int = 2
    hard_negative_iterations: int = 1
    update_interval: int = 20
    flip: bool = True
    blurs: tuple[tuple[float, float], ...] = ((3, 1), (1, 3), (2, 2))
    rotations: tuple[float, ...] = (10, -10, 45, -45)
    shifts: tuple[tuple[float, float], ...] = ((0.6, 0.6), (-0.6, 0.6), (0.6, -0.6), (-0.6, -0.6))
    random_shift: float = 1 / 3
    expansion: int = 2
    dropouts: tuple[float, ...] = (0.2, 0.2)
    memory: int = 50
    learning_rate: float = 0.01
    hard_negative_rate: float = 0.02
    init_weight: float = 0.25
    softmax: bool = True
    lost_below: float = 0.04
    distractor_above: float = 0.8
    hard_negative_above: float = 0.5
    neighbourhood: float = 2.2
    displacement: float = 0.8
    space: str = "relative"
    random_boxes: int = 9
    position_jitter: float = 0.1
    size_jitter: float = 0.5
    refine_iterations: int = 10
    step: float | tuple[float, float] = 2.5e-3
    step_decay: float = 1.0
    best_boxes: int = 3
    max_aspect: float = 6.0
    inside_ratio: float = 0.2

    def __post_init__(self):
        if self.image_size < 2 * STRIDE or self.image_size % STRIDE:
            raise ChaseError(
                f"image_size {self.image_size} must be a multiple of {STRIDE}, from {2 * STRIDE} on"
            )
        for name, value, choices in (("border", self.border, BORDERS), ("space", self.space, SPACES)):
            if value not in choices:
                raise ChaseError(f"{name} {value!r} is unknown, choose from {', '.join(choices)}")
        if not self.search_area > 1:
            raise ChaseError(f"search_area {self.search_area} must be larger than 1, the target itself")
        least = {"memory": self.first_samples + 1, "update_interval": 1, "best_boxes": 1, "expansion": 1}
        least |= {"random_boxes": 0, "refine_iterations": 0, "init_iterations": 0}
        least |= {"update_iterations": 0, "hard_negative_iterations": 0}
        for name, smallest in least.items():
            if getattr(self, name) < smallest:
                raise ChaseError(f"{name} {getattr(self, name)} must be at least {smallest}")

    @property
    def first_samples(self) -> int:
        """Samples of the first frame: the patch, its copies, dropouts."""
        copies = len(self.shifts) + self.flip + len(self.blurs) + len(self.rotations)
        return 1 + copies + len(self.dropouts)

    def override(self, **changes: Any) -> "TrackSettings":
        """These settings with some changed.

        Raises:
            ChaseError: no such setting, or a value that cannot be.
        """
        known = [f.name for f in fields(self)]
        for name in changes:
            if name not in known:
                raise ChaseError(f"unknown tracker setting {name!r}, choose from {', '.join(known)}")
        return replace(self, **changes)


_PRDIMP50 = TrackSettings()
_DIMP = TrackSettings(
    name="dimp50",
    image_size=288,
    search_area=5.0,
    border="replicate",
    max_scale_change=None,
    softmax=False,
    lost_below=0.25,
    space="default",
    refine_iterations=5,
    step=1.0,
)
_PRDIMP18 = _PRDIMP50.override(
    name="prdimp18", image_size=288, search_area=5.0, border="replicate", max_scale_change=None
)
_CHASE = {"init_iterations": 25, "update_iterations": 4, "lost_below": 0.044, "distractor_above": 0.7}

PUBLISHED: dict[str, TrackSettings] = {
    "prdimp50": _PRDIMP50,
    "prdimp18": _PRDIMP18,
    "dimp50": _DIMP,
    "dimp18": _DIMP.override(name="dimp18"),
    "chase_prdimp": _PRDIMP50.override(name="chase_prdimp", **_CHASE),
    # not published: the four values of the CHASE release on the search area of the 18-layer tracker
    "chase_prdimp18": _PRDIMP18.override(name="chase_prdimp18", **_CHASE),
}


@dataclass(frozen=True)
class Preset:
    """A cheaper form of published settings.

    area: factor of the side of search patch and search area; the target keeps its size in the patch.
    refine: share of the refinement iterations; steps grow as their number shrinks.
    changes: of other settings.
    """

    area: float = 1.0
    refine: float = 1.0
    changes: Mapping[str, Any] = field(default_factory=dict)

    def apply(self, settings: TrackSettings) -> TrackSettings:
        cells = round(settings.image_size * self.area / STRIDE)
        iterations = max(1, round(settings.refine_iterations * self.refine))
        longer = settings.refine_iterations / iterations
        step = settings.step
        return settings.override(
            image_size=cells * STRIDE,
            search_area=settings.search_area * cells * STRIDE / settings.image_size,
            refine_iterations=iterations,
            step=tuple(s * longer for s in step) if isinstance(step, tuple) else step * longer,
            **self.changes,
        )


PRESETS: dict[str, Preset] = {
    "accurate": Preset(),  # as published
    "balanced": Preset(refine=0.6, changes={"random_boxes": 4}),
    "fast": Preset(
        area=7 / 9,
        refine=0.4,
        changes={"random_boxes": 2, "update_interval": 30, "rotations": (10, -10), "dropouts": ()},
    ),
}


def settings_for(spec: TrackerSpec, preset: str = "accurate", **overrides: Any) -> TrackSettings:
    """Published settings of a network, changed by a preset, then by `overrides`.

    Raises:
        ChaseError: unknown preset or setting.
    """
    if preset not in PRESETS:
        raise ChaseError(f"unknown preset {preset!r}, choose from {', '.join(PRESETS)}")
    return PRESETS[preset].apply(published(spec)).override(**overrides)


def published(spec: TrackerSpec) -> TrackSettings:
    """What the tracker of this network was published with; a cell on PrDiMP takes CHASE's.

    A network trained on crops of another size than 288 px (feature_size 18) sees its search patches resized
    by the same factor, so that targets keep the size it was trained with.
    """
    if spec.cell is not None and spec.classifier == "prdimp":
        name = "chase_prdimp" if spec.depth == 50 else "chase_prdimp18"
    else:
        name = f"{spec.classifier}{spec.depth}"
    settings = PUBLISHED[name]
    cells = max(4, round(settings.image_size / STRIDE * spec.feature_size / 18))
    return settings.override(image_size=cells * STRIDE)
