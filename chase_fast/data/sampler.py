"""Training samples: frames of one sequence, cropped about the target, with labels and box proposals.

A sample is a function of (seed, epoch, index) alone: which process or thread makes it does not matter.
"""

import logging
from collections import Counter
from collections.abc import Sequence as Many
from dataclasses import dataclass

import cv2
import numpy as np
import torch

from chase_fast.data.annotations import has_pixel
from chase_fast.data.boxes import jitter_box
from chase_fast.data.labels import gaussian_density, gaussian_label, normalise_density
from chase_fast.data.packed import PackedSequences
from chase_fast.data.proposals import GMM_STDS, PERTURB_FACTORS, gmm_proposals, perturb_box
from chase_fast.data.reach import Limits
from chase_fast.data.sequences import BrokenFrame, Problem, Sequence, View
from chase_fast.data.sources import Source, visible_count
from chase_fast.errors import ChaseError
from chase_fast.kernels.crop import crop_into, crop_window
from chase_fast.kernels.crop.window import MODES

MIN_LENGTH = 20
MAX_REDRAWS = 1000
PROPOSALS = ("none", "prdimp", "dimp")

log = logging.getLogger("chase_fast.data")


@dataclass(frozen=True)
class SampleRecipe:
    """How a sample is made; the defaults are PrDiMP-50's published recipe. Lengths are pixels of the crop.

    `label_sigma` is relative to the feature map's side: 0.05 * 18 cells = 0.9 cells for a crop of 288.
    `jitter_limit` is the largest |z| of the scale jitter's normal draws, so that what a crop can show of a
    frame is finite (PrDiMP has no limit; 0.3 % of the draws lie beyond 3). They are clipped, not drawn again:
    the number of draws, and with it everything else in the sample, stays as it is.
    """

    train_frames: int = 3
    test_frames: int = 3
    max_gap: int = 200
    size: int = 288
    search_factor: float = 5.0
    crop_mode: str = "replicate"
    max_scale_change: float | None = None
    train_scale_jitter: float = 0.25
    train_centre_jitter: float = 3.0
    test_scale_jitter: float = 0.5
    test_centre_jitter: float = 4.5
    jitter_limit: float = 3.0
    grey_probability: float = 0.05
    brightness_jitter: float = 0.2
    stride: int = 16
    filter_size: int = 4
    label_sigma: float = 0.05
    proposals: str = "none"
    proposal_count: int = 128

    def __post_init__(self):
        if self.train_frames < 1 or self.test_frames < 1:
            raise ChaseError("a sample needs at least one train and one test frame")
        if self.size < self.stride or self.size % self.stride:
            raise ChaseError(f"the crop size {self.size} must be a multiple of the stride {self.stride}")
        if self.proposals not in PROPOSALS:
            raise ChaseError(f"proposals {self.proposals!r} is unknown, choose from {', '.join(PROPOSALS)}")
        if self.crop_mode not in MODES:
            raise ChaseError(f"crop mode {self.crop_mode!r} is unknown, choose from {', '.join(MODES)}")
        if not self.jitter_limit >= 0:
            raise ChaseError(f"the jitter limit {self.jitter_limit} must not be negative")

    @property
    def limits(self) -> Limits:
        """What a packed dataset must hold for these samples."""
        return Limits(
            self.size,
            self.search_factor,
            max(self.train_scale_jitter, self.test_scale_jitter),
            max(self.train_centre_jitter, self.test_centre_jitter),
            self.jitter_limit,
        )

    @property
    def cells(self) -> int:
        """Side of the score map."""
        return self.size // self.stride + (1 if self.filter_size % 2 == 0 else 0)

    @property
    def sigma(self) -> float:
        """Label sigma in score cells."""
        return self.label_sigma * self.size / self.stride

    @property
    def min_visible(self) -> int:
        """A video sequence needs more visible frames than this."""
        return 2 * (self.train_frames + self.test_frames)


@dataclass(frozen=True)
class Sample:
    """Arrays of one sample, train frames first; images are float32 [H, W, 3], normalised."""

    images: np.ndarray | Many[np.ndarray]  # [n_train + n_test, H, W, 3]
    boxes: np.ndarray  # [n_train + n_test, 4] xywh, crop pixels
    label_density: np.ndarray  # [n_test, S, S]
    label: np.ndarray  # [n_test, S, S]
    proposals: np.ndarray | None = None  # [n_test, P, 4]
    proposal_density: np.ndarray | None = None  # [n_test, P]
    gt_density: np.ndarray | None = None  # [n_test, P]
    proposal_iou: np.ndarray | None = None  # [n_test, P]


def _visible_between(visible: np.ndarray, low: int, high: int) -> np.ndarray:
    low = max(low, 0)
    return low + np.flatnonzero(visible[low : max(high, 0)])


def choose_frames(
    rng: np.random.Generator, visible: np.ndarray, n_train: int, n_test: int, max_gap: int
) -> np.ndarray:
    """Frame numbers [n_train + n_test] by PrDiMP's causal rule: the base frame, train frames up to
    `max_gap` before it, test frames up to `max_gap` after it; the reach grows by 5 with a new base frame
    while either set is empty.

    `visible` needs more than 2 (n_train + n_test) True.
    """
    bases = _visible_between(visible, n_train - 1, len(visible) - n_test)
    reach = max_gap
    while True:
        base = int(rng.choice(bases))
        before = _visible_between(visible, base - reach, base)
        after = _visible_between(visible, base + 1, base + reach)
        if len(after) and (len(before) or n_train == 1):
            break
        reach += 5
    others = rng.choice(before, n_train - 1) if n_train > 1 else before[:0]
    return np.concatenate([[base], others, rng.choice(after, n_test)]).astype(int)


class _EmptyBox(Exception):
    """A box without a pixel in its frame, of a video whose frames change their size."""


class SampleSet:
    """`size` samples per epoch drawn from sources; `sample(epoch, index)` makes one.

    Args:
        sources: from open_sources; drawn with probability proportional to their weight, sequences uniformly.
        recipe: how samples are made.
        seed: not negative.
        size: samples per epoch.
        augment: joint grey and brightness jitter. Off for validation and hold-out; box jitter stays, as in
            PrDiMP's validation (without it the target would always sit in the crop's centre).

    Raises:
        ChaseError: a source has no sequence with enough visible frames, or is packed for smaller crops.
    """

    def __init__(
        self, sources: Many[Source], recipe: SampleRecipe, seed: int, size: int, augment: bool = True
    ):
        if seed < 0:
            raise ChaseError(f"the seed {seed} must not be negative")
        if size < 1:
            raise ChaseError(f"an epoch of {size} samples is empty")
        self.sources, self.recipe, self.augment = list(sources), recipe, augment
        self.seed, self.size = seed, size
        self._left_out: set[Problem] = set()
        self._said: set[str] = set()
        weights = np.array([s.weight for s in self.sources])
        self._probability = weights / weights.sum()
        for source in self.sources:
            if isinstance(source.sequences, PackedSequences):
                source.sequences.check(recipe.limits)
            if not any(self._usable(source, s) for s in source.sequences):
                needs = (
                    f"no sequence has {MIN_LENGTH} frames with the target visible in more than"
                    f" {recipe.min_visible}; use longer sequences, or fewer train and test frames"
                    if source.video
                    else "no image has a visible target"
                )
                raise ChaseError(f"{source.spec}: too little data for a sample: {needs}")

    def _usable(self, source: Source, sequence: Sequence) -> bool:
        if not source.video:
            return visible_count(sequence) > 0
        return len(sequence.visible) >= MIN_LENGTH and visible_count(sequence) > self.recipe.min_visible

    def sample(self, epoch: int, index: int, images: Many[np.ndarray] | None = None) -> Sample:
        """The sample of (seed, epoch, index).

        Args:
            images: where the images go, [n_train + n_test] arrays, contiguous; None makes an array.

        Raises:
            BrokenFrame: a frame cannot be decoded (with skip_bad another one is drawn instead, and the file
            logged).
        """
        rng = np.random.default_rng(np.random.SeedSequence((self.seed, epoch, index)))
        for _ in range(MAX_REDRAWS):
            source, sequence, frames = self._draw(rng)
            try:
                return self._build(rng, sequence, frames, images)
            except BrokenFrame as e:
                if not source.skip_bad:
                    raise
                if e.problem not in self._left_out:
                    self._left_out.add(e.problem)
                    log.warning("left out: %s", e.problem)
            except _EmptyBox:
                if source.spec not in self._said:
                    self._said.add(source.spec)
                    log.warning(
                        "%s: boxes without a pixel in their frame are left out; run doctor --data",
                        source.spec,
                    )
        raise ChaseError(f"no decodable sample in {MAX_REDRAWS} draws; run doctor --data {source.spec}")

    def _draw(self, rng: np.random.Generator) -> tuple[Source, Sequence, np.ndarray]:
        recipe = self.recipe
        source = self.sources[int(rng.choice(len(self.sources), p=self._probability))]
        while True:
            sequence = source.sequences[int(rng.integers(len(source.sequences)))]
            if self._usable(source, sequence):
                break
        if not source.video:
            return source, sequence, np.zeros(recipe.train_frames + recipe.test_frames, int)
        frames = choose_frames(rng, sequence.visible, recipe.train_frames, recipe.test_frames, recipe.max_gap)
        return source, sequence, frames

    def _build(
        self,
        rng: np.random.Generator,
        sequence: Sequence,
        frames: np.ndarray,
        images: Many[np.ndarray] | None,
    ) -> Sample:
        recipe, n_train = self.recipe, self.recipe.train_frames
        grey = rng.random() < recipe.grey_probability and self.augment
        pictures = {i: sequence.picture(i, windows) for i, windows in Counter(frames.tolist()).items()}
        if not all(has_pixel(sequence.boxes[i : i + 1], *p.shape[1::-1])[0] for i, p in pictures.items()):
            raise _EmptyBox
        shape = len(frames), recipe.size, recipe.size, 3
        crops = np.empty(shape, np.float32) if images is None else images
        boxes = np.empty((len(frames), 4))
        for k, i in enumerate(frames.tolist()):
            scale, centre = (
                (recipe.train_scale_jitter, recipe.train_centre_jitter)
                if k < n_train
                else (recipe.test_scale_jitter, recipe.test_centre_jitter)
            )
            jittered = jitter_box(
                sequence.boxes[i], rng.standard_normal(2), rng.random(2), scale, centre, recipe.jitter_limit
            )
            gain = rng.uniform(max(0, 1 - recipe.brightness_jitter), 1 + recipe.brightness_jitter)
            boxes[k] = self._crop(
                crops[k], pictures[i], sequence.boxes[i], jittered, grey, gain if self.augment else 1.0
            )
        test_boxes = boxes[n_train:]
        place = recipe.cells, recipe.sigma, recipe.stride, recipe.filter_size
        return Sample(
            crops,
            boxes,
            label_density=normalise_density(gaussian_density(test_boxes, *place)),
            label=gaussian_label(test_boxes, *place),
            **self._proposals(rng, test_boxes),
        )

    def _crop(
        self, out: np.ndarray, frame: View, box: np.ndarray, about: np.ndarray, grey: bool, gain: float
    ) -> tuple[float, ...]:
        """Writes the normalised crop [size, size, 3] about the jittered box; returns the true box in it."""
        recipe = self.recipe
        window = crop_window(
            about,
            (frame.shape[0], frame.shape[1]),
            recipe.search_factor,
            recipe.size,
            recipe.crop_mode,
            recipe.max_scale_change,
        )
        pixels, part = frame.part(window)
        if grey:
            pixels = cv2.cvtColor(cv2.cvtColor(pixels, cv2.COLOR_RGB2GRAY), cv2.COLOR_GRAY2RGB)
        crop_into(torch.from_numpy(out), torch.from_numpy(pixels), part, gain)
        return window.to_crop(box, recipe.size)

    def _proposals(self, rng: np.random.Generator, boxes: np.ndarray) -> dict[str, np.ndarray]:
        count = self.recipe.proposal_count
        if self.recipe.proposals == "prdimp":
            drawn: list[tuple[np.ndarray, ...]] = [
                gmm_proposals(b, rng.integers(len(GMM_STDS), size=count), rng.standard_normal((count, 4)))
                for b in boxes
            ]
            names = ["proposals", "proposal_density", "gt_density"]
        elif self.recipe.proposals == "dimp":
            drawn = []
            for box in boxes:
                factors = rng.choice(PERTURB_FACTORS, count)
                made = [perturb_box(box, f, rng.standard_normal, rng.random) for f in factors]
                drawn.append(tuple(np.array(part) for part in zip(*made)))
            names = ["proposals", "proposal_iou"]
        else:
            return {}
        return {name: np.stack(part) for name, part in zip(names, zip(*drawn))}
