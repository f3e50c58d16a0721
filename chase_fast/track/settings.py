"""Every number of the online procedure: the published ones by network, and cheaper presets made from them.

Sources: the published parameter files of PrDiMP and DiMP, and those of the CHASE release for its cell.
"""

import difflib
import functools
import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import TYPE_CHECKING, Any, get_type_hints

from chase_fast.errors import ChaseError
from chase_fast.fields import short
from chase_fast.track import limits, values

if TYPE_CHECKING:  # help pages name presets and settings without loading torch
    from chase_fast.nn.spec import TrackerSpec

STRIDE = 16  # image pixels per feature cell
SMALLEST = 4  # cells of a search patch, whatever network and preset ask for
BORDERS = ("replicate", "inside", "inside_major")
SPACES = ("default", "relative")


@dataclass(frozen=True)
class TrackSettings:
    """Constants of one tracker. The defaults are those published with PrDiMP-50. Eight of them choose between
    forms:

    integer_window: the search window has whole pixels, as with the torch (<= 1.4) that the published figures
        were made with. False is what the same code does on later versions: halves are no longer cut off, and
        windows of even size grow by one pixel and lie half a pixel off.
    half_pixel_offset: a refined box goes back to the frame half a patch pixel right of and below where it is.
        Published; False removes this constant shift.
    thinning_offset: windows wider than about 2.1 patches are read from every n-th pixel, and their place
        leaves out which pixel was the first: positions are up to (n - 1) / 2 px off, left or right, above or
        below, by the place of the target. Published; False takes it into account.
    first_box_offset: on the first frame the target's box is taken to be where it would be in a window exactly
        about its rounded centre: up to half a patch pixel off where the window has an even number of pixels,
        and in mirrored and rotated copies as far off as the target is from the middle. Published; False
        takes the window that was cut, and turns the box with the copies.
    shrink_first: False (published): inside_major does not shrink the expanded patch of the first frame, so
        its scale differs from that of later frames for large targets. `inside` always shrinks it.
    score_after: False (published): boxes are ranked by their scores before the last refinement step. True
        evaluates once more after it.
    keep_position: False (published): when no refined box has an acceptable shape, the position goes back to
        that of the last refined one. True keeps the classifier's.

    Right padding, which is one pixel too wide in published training crops, is exact in tracking. Three rules
    that are not published say which boxes cannot be those of a target; one that breaks a rule is not taken,
    the target is lost:

    lost_outside: a box without a pixel in the frame.
    smallest_side: a box with a side below this, frame px; 0 for none.
    largest_side: a box with a side above this, in widths or heights of the frame; None for none.

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
    thinning_offset: bool = True
    first_box_offset: bool = True
    shrink_first: bool = False
    score_after: bool = False
    keep_position: bool = False
    lost_outside: bool = False
    smallest_side: float = 0.0
    largest_side: float | None = None
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
        for name, hint in _hints().items():
            limits.check(name, getattr(self, name), hint)
        if self.image_size < 2 * STRIDE or self.image_size % STRIDE:
            raise ChaseError(
                f"image_size {self.image_size} must be a multiple of {STRIDE}, from {2 * STRIDE} on"
            )
        for name, value, choices in (("border", self.border, BORDERS), ("space", self.space, SPACES)):
            if value not in choices:
                raise ChaseError(f"{name} {value!r} is unknown, choose from {', '.join(choices)}")
        if not self.search_area > 1:
            raise ChaseError(f"search_area {self.search_area} must be larger than 1, the target itself")
        if self.memory <= self.first_samples:
            raise ChaseError(f"memory {self.memory} must be at least {self.first_samples + 1}")

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
        for name in changes.keys() - {"name"}:
            _check_name(name)
        return replace(self, **changes)

    def to_data(self) -> dict[str, Any]:
        """As plain data, the same before and after JSON."""
        return json.loads(json.dumps(asdict(self)))

    @staticmethod
    def parse_changes(texts: Iterable[str]) -> dict[str, Any]:
        """NAME=VALUE texts of a command line -> changes for `override`, of the right types: lost_below=0.1,
        half_pixel_offset=true, largest_side=none, rotations=10,-10, blurs=(3,1),(1,3), dropouts=().

        Raises:
            ChaseError: not NAME=VALUE, no such setting, one setting twice, or a value of another type.
        """
        changes: dict[str, Any] = {}
        for text in texts:
            name, equals, value = text.partition("=")
            given = f"--set {name}={short(value)[1:-1]}"
            name = name.strip().replace("-", "_")
            if not equals or not name:
                raise ChaseError(f"--set {short(text)[1:-1]}: give NAME=VALUE, e.g. --set lost_below=0.1")
            _check_name(name)
            if name in changes:
                raise ChaseError(f"--set {name} is given twice")
            try:
                changes[name] = values.read(value, _hints()[name])
            except ValueError:
                raise ChaseError(f"{given}: {name} is {values.describe(_hints()[name])}") from None
        return changes


@functools.cache
def _hints() -> dict[str, Any]:
    """Types of the settings; `name` says where they come from and is none of them."""
    return {name: hint for name, hint in get_type_hints(TrackSettings).items() if name != "name"}


def _check_name(name: str) -> None:
    if name in _hints():
        return
    close = difflib.get_close_matches(name, _hints(), 1)
    hint = f"did you mean {close[0]}?" if close else f"choose from {', '.join(_hints())}"
    raise ChaseError(f"unknown tracker setting {short(name)}: {hint}")


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


# what a network that was trained here is tracked with instead, unless the preset is `published`
OWN: dict[str, Any] = {
    "half_pixel_offset": False,
    "thinning_offset": False,
    "first_box_offset": False,
    "lost_outside": True,
    "smallest_side": 1.0,  # as the first box
    "largest_side": 4.0,
}


@dataclass(frozen=True)
class Preset:
    """A form of the settings of a network, with what it costs.

    about: what it is and its price, one line.
    published: all values as published, also for a network that was trained here.
    area: factor of the side of search patch and search area; the target keeps its size in the patch.
    refine: share of the refinement iterations; steps grow as their number shrinks.
    changes: of other settings.
    """

    about: str
    published: bool = False
    area: float = 1.0
    refine: float = 1.0
    changes: Mapping[str, Any] = field(default_factory=dict)

    def apply(self, settings: TrackSettings) -> TrackSettings:
        cells = max(SMALLEST, round(settings.image_size * self.area / STRIDE))
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
    "accurate": Preset("all search area, boxes and steps"),
    "balanced": Preset("fewer boxes and steps", refine=0.6, changes={"random_boxes": 4}),
    "fast": Preset(
        "a smaller search area, few boxes and steps, fewer updates",
        area=7 / 9,
        refine=0.4,
        changes={"random_boxes": 2, "update_interval": 30, "rotations": (10, -10), "dropouts": ()},
    ),
    "published": Preset(
        "accurate, with the published offsets of boxes and no rule for boxes", published=True
    ),
}


def presets() -> str:
    """A line per preset, for help pages."""
    return "\n".join(f"  {name}: {preset.about}" for name, preset in PRESETS.items())


def settings_for(
    spec: "TrackerSpec", preset: str = "accurate", own: bool = False, **overrides: Any
) -> TrackSettings:
    """Published settings of a network, changed by a preset, then by `overrides`.

    Args:
        own: the network was trained here and is no public one (`Checkpoint.public`): it takes `OWN`, unless
            the preset is `published`.

    Raises:
        ChaseError: unknown preset or setting.
    """
    if preset not in PRESETS:
        raise ChaseError(f"unknown preset {preset!r}, choose from {', '.join(PRESETS)}")
    chosen, settings = PRESETS[preset], published(spec)
    if own and not chosen.published:
        settings = settings.override(**OWN)
    return chosen.apply(settings).override(**overrides)


def published(spec: "TrackerSpec") -> TrackSettings:
    """What the tracker of this network was published with; a cell on PrDiMP takes CHASE's.

    A network trained on crops of another size than 288 px (feature_size 18) sees its search patches resized
    by the same factor, so that targets keep the size it was trained with.
    """
    if spec.cell is not None and spec.classifier == "prdimp":
        name = "chase_prdimp" if spec.depth == 50 else "chase_prdimp18"
    else:
        name = f"{spec.classifier}{spec.depth}"
    settings = PUBLISHED[name]
    cells = max(SMALLEST, round(settings.image_size / STRIDE * spec.feature_size / 18))
    return settings.override(image_size=cells * STRIDE)
