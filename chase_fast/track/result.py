"""What a tracker says about one frame."""

from dataclasses import dataclass

from chase_fast.kernels._states import State
from chase_fast.track.frames import Box


@dataclass(frozen=True)
class Result:
    """One target in one frame.

    box: x, y, w, h in image pixels, floats; may reach beyond the frame. In state lost, the last one.
    score: highest value of the score map, 0 if it was NaN: after PrDiMP's softmax a density (0.2 is a perfect
        target, 1 / cells a flat map), for DiMP the classifier's output (1 is a perfect target).
    state: tracked; hard_negative (tracked, beside something similar that is learned as background);
        uncertain (a rival as good as the target: nothing is learned); lost (score too low: box kept).
    seconds: time this frame took; of several targets tracked together, each says the time of all.
    """

    box: Box
    score: float
    state: State
    seconds: float
