"""Targets that move by known parts of a pixel are found where they are: window, patch, refinement, frame."""

import functools

import numpy as np
import pytest
import torch

from chase_fast.data.labels import gaussian_label
from chase_fast.kernels import localize
from chase_fast.kernels.localize.reference import Geometry, compare_peaks
from chase_fast.track.captured import Captured
from chase_fast.track.patch import search_window
from chase_fast.track.settings import OWN, STRIDE, TrackSettings
from chase_fast.track.step import Eager
from tests.known_motion import Watcher, centre_errors, path, seen, spot
from tests.tolerances import BATCHED_PX, CENTRE_PX

SIZE, AREA = 96, 4.0  # patch px; side of the search area over that of the target
SCALES = {1: 1.3, 2: 2.45, 3: 3.4, 4: 4.3}  # frame px per patch px at which every n-th pixel is read
SETTINGS = TrackSettings(
    image_size=SIZE,
    search_area=AREA,
    border="replicate",
    max_scale_change=None,
    softmax=False,
    lost_below=0.05,
    hard_negative_above=2.0,
    distractor_above=2.0,
    update_iterations=0,
    hard_negative_iterations=0,
    update_interval=1000,
    refine_iterations=12,
    step=0.4,
    random_boxes=3,
)
EXACT = SETTINGS.override(**OWN)
FRAMES, HEIGHT, WIDTH = 13, 480, 640


@functools.cache
def video(n: int, aspect: float = 1.2) -> tuple[list[np.ndarray], np.ndarray]:
    """Frames and boxes [FRAMES, 1, 4] of a target whose search window is read from every n-th pixel."""
    side = SCALES[n] * SIZE / AREA
    boxes = path(250.3, 170.6, side * aspect**0.5, side / aspect**0.5, FRAMES)[:, None]
    return [spot(HEIGHT, WIDTH, b) for b in boxes], boxes


def errors(settings: TrackSettings, n: int, **how) -> np.ndarray:
    """[FRAMES - 1, 1, 2]."""
    frames, boxes = video(n)
    return centre_errors(Watcher(settings, **how).follow(frames, boxes[0]), boxes[1:])


def test_the_videos_are_read_from_every_nth_pixel():
    for n, scale in SCALES.items():
        assert search_window((200, 200), scale * SIZE, (HEIGHT, WIDTH), SIZE).every == n


@pytest.mark.parametrize("device", [Eager, Captured])
@pytest.mark.parametrize("n", SCALES)
def test_the_exact_form_finds_centres(n, device):
    """On average and in every frame: a spot that is sampled and resized keeps its centre of mass."""
    found = errors(EXACT, n, device=device)
    assert np.abs(found.mean((0, 1))).max() < CENTRE_PX and np.abs(found).max() < CENTRE_PX


@pytest.mark.parametrize("n", SCALES)
def test_the_published_half_pixel_is_one_of_the_patch(n):
    found = errors(EXACT.override(half_pixel_offset=True), n)
    np.testing.assert_allclose(found, SCALES[n] / 2, atol=CENTRE_PX)


@pytest.mark.parametrize("n", SCALES)
def test_the_published_thinning_is_off_by_the_first_pixel_that_was_read(n):
    """Up to (n - 1) / 2 px to either side, in steps of one pixel."""
    found = errors(EXACT.override(thinning_offset=True), n)
    assert np.abs(found).max() == pytest.approx((n - 1) / 2, abs=CENTRE_PX)
    steps = found - (n - 1) / 2
    np.testing.assert_allclose(steps, np.rint(steps), atol=CENTRE_PX)
    assert len(np.unique(np.rint(steps))) == n


@pytest.mark.parametrize("n", [2, 3])
def test_one_launch_on_a_gpu_finds_them_too(n, monkeypatch):
    if why := localize.CAN_RUN["triton"](torch.device("cpu"), torch.float32):
        pytest.skip(why)
    expected = errors(EXACT, n, device=Captured)
    monkeypatch.setenv("CHASE_FAST_BACKEND", "localize=triton")
    found = errors(EXACT, n, device=Captured)
    assert np.abs(found.mean((0, 1))).max() < CENTRE_PX
    np.testing.assert_allclose(found, expected, atol=BATCHED_PX)


@pytest.mark.parametrize("device", [Eager, Captured])
def test_several_targets(device):
    boxes = np.stack([path(100.2, 90.7, 24, 20, 6), path(380.9, 300.4, 30, 42, 6)], 1)
    frames = [spot(HEIGHT, WIDTH, b) for b in boxes]
    found = centre_errors(Watcher(EXACT, device).follow(frames, boxes[0]), boxes[1:])
    assert np.abs(found).max() < CENTRE_PX


@pytest.mark.parametrize(
    "changes",
    [
        {
            "image_size": 80,
            "search_area": 4 * 80 / 96,
        },  # an odd number of cells: the window is half a cell off
        {"border": "inside_major", "max_scale_change": 1.5},
        {"border": "inside"},
    ],
    ids=["odd", "inside_major", "inside"],
)
@pytest.mark.parametrize("corner", [False, True])
def test_other_windows(changes, corner):
    """In the middle of a frame and about its corner, where windows are shifted, shrunk or padded."""
    x, y = (9.4, 8.3) if corner else (120.3, 90.6)
    boxes = path(x, y, 62, 50, 6)[:, None]
    frames = [spot(240, 320, b) for b in boxes]
    found = centre_errors(Watcher(EXACT.override(**changes)).follow(frames, boxes[0]), boxes[1:])
    assert np.abs(found).max() < CENTRE_PX


@pytest.mark.parametrize("taps, cells", [(4, 6), (4, 5), (5, 6), (5, 5)])
def test_the_score_map_means_the_pixels_of_its_training_label(taps, cells):
    """The label's peak leads back to the target, for all parities."""
    size, scale = cells * STRIDE, 2.5
    side = cells + (taps + 1) % 2
    cell = np.array([2, 3])  # column, row
    centre = (cell + 0.5 * (taps % 2)) * STRIDE  # edges of the patch
    label = gaussian_label(np.array([[*centre - 10, 20, 20]]), side, 1.0, STRIDE, taps)
    window = np.array([200.0, 300.0])  # row, column
    rows = [window, [40, 50], window, [scale], [480, 640]]
    geometry = Geometry(*(torch.tensor(np.array([r]), dtype=torch.float64) for r in rows))
    movement, _, _ = compare_peaks(torch.from_numpy(label), geometry, SETTINGS, STRIDE)
    np.testing.assert_allclose(movement[0].numpy(), (centre - size / 2)[::-1] * scale, atol=1e-9)


def test_the_first_box_lies_on_the_target_in_every_copy():
    """Shifted, mirrored, blurred and rotated ones; windows of even and odd size, thinned or not."""
    inside = EXACT.override(shifts=((0.2, 0.2), (-0.2, 0.2)), random_shift=0.1, dropouts=())

    def off(scale: float, settings: TrackSettings) -> float:
        side = scale * SIZE / AREA
        box = np.array([250.3, 171.9, side * 1.1, side / 1.1])
        watcher = Watcher(settings)
        watcher.init(spot(HEIGHT, WIDTH, box[None]), [box])
        patches, boxes = watcher._network.learned
        assert len(patches) == len(boxes) == inside.first_samples
        true = seen(patches)
        return (boxes[:, :2] + boxes[:, 2:] / 2 - true[:, :2] - true[:, 2:] / 2).abs().max().item()

    scales = [0.45, 0.456, *SCALES.values(), 2.47]
    exact, published = (
        [off(scale, inside.override(first_box_offset=flag)) for scale in scales] for flag in (False, True)
    )
    assert max(exact) < CENTRE_PX
    assert max(published) > 0.9, "mirrored and rotated where it is not in the middle"
    assert max(published[2:]) > 0.4, "windows of an even number of pixels"
