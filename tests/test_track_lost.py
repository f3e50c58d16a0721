"""Which boxes cannot be those of a target: without a pixel in the frame, of no size, many times the frame."""

import numpy as np
import pytest
import torch

from chase_fast.kernels.localize import STATES
from chase_fast.track.settings import OWN, PUBLISHED
from tests.known_motion import Watcher, spot

GIVEN = (120.0, 90.0, 40.0, 50.0)


class Told:
    """A device that finds what it is told: rows of `locate`."""

    def __init__(self, *row: float):
        self.row = row

    def prepare(self, targets, frame) -> None:
        pass

    def locate(self, frame, windows, geometry, noise, targets):
        return [None] * len(targets), torch.tensor([self.row] * len(targets))

    update = None  # learning is recorded, not done


def ends_in(box, refined=True, state="tracked", frame=(240, 320), before=None, **rules):
    """Result and target of a frame in which refinement ends in a box x, y, w, h."""
    tracker = Watcher(PUBLISHED["prdimp50"].override(image_size=96, **(OWN | rules)))
    tracker.init(spot(240, 320, np.array([GIVEN])), [GIVEN])
    (target,) = tracker._targets
    target.learn = lambda *arguments: setattr(target, "learned", True)
    target.place.refined = before
    x, y, w, h = box
    tracker._device = Told(y + (h - 1) / 2, x + (w - 1) / 2, h, w, float(refined), STATES.index(state), 0.5)
    (result,) = tracker.update(np.zeros((*frame, 3), np.uint8))
    return result, target


PLAUSIBLE = [(0, 0, 320, 240), (-39, 10, 40, 50), (319, 239, 40, 50), (-500, -400, 1200, 900), (5, 5, 1, 1)]
IMPOSSIBLE = {
    "left": (-40, 10, 40, 50),
    "right": (320, 10, 40, 50),
    "above": (10, -50, 40, 50),
    "below": (10, 240, 40, 50),
    "far": (-9e4, 9e4, 40, 50),
    "narrow": (50, 50, 0.1, 30),
    "flat": (50, 50, 30, 0.9),
    "wide": (-600, 0, 1281, 50),
    "tall": (0, -300, 40, 961),
}


@pytest.mark.parametrize("state", ["tracked", "uncertain", "hard_negative"])
@pytest.mark.parametrize("where", IMPOSSIBLE)
def test_a_box_that_cannot_be_is_lost(where, state):
    """The target stays where it was, and nothing is learned from the frame."""
    result, target = ends_in(IMPOSSIBLE[where], state=state)
    assert (result.state, result.score, result.box) == ("lost", 0.5, GIVEN)
    assert not hasattr(target, "learned")
    off = {"lost_outside": False, "smallest_side": 0.0, "largest_side": None}
    published, target = ends_in(IMPOSSIBLE[where], state=state, **off)
    assert published.state == state and published.box == pytest.approx(IMPOSSIBLE[where], abs=0.01)
    assert hasattr(target, "learned") == (state != "uncertain")


@pytest.mark.parametrize("box", PLAUSIBLE, ids=str)
def test_a_box_that_can_be_is_not(box):
    result, _ = ends_in(box)
    assert result.state == "tracked" and result.box == pytest.approx(box, abs=1e-3)


def test_the_rule_is_for_the_box_that_is_reported():
    """Not that of the score map: without an acceptable box the target goes back to the last refined position,
    which can lie outside a frame that has become smaller."""
    inside = (10, 10, 20, 30)
    result, _ = ends_in(inside, refined=False, frame=(60, 80), before=(200.0, 300.0))
    assert (result.state, result.box) == ("lost", GIVEN)
    result, _ = ends_in(inside, refined=False, frame=(60, 80), before=(200.0, 300.0), keep_position=True)
    assert result.state == "tracked"
    result, _ = ends_in((100, 100, 20, 30), frame=(60, 80))
    assert result.state == "lost"
    result, _ = ends_in((100, 100, 20, 30), state="lost")
    assert result.state == "lost" and result.box == GIVEN
