"""Boxes and text on frames, and windows on a display."""

import os
import subprocess
import sys
from collections.abc import Sequence

import cv2
import numpy as np

from chase_fast.errors import ChaseError
from chase_fast.track.frames import Box

# RGB, told apart by colour-blind eyes too (Okabe and Ito)
COLOURS = {
    "given": (255, 255, 255),
    "tracked": (0, 190, 130),
    "uncertain": (240, 228, 66),
    "hard_negative": (86, 180, 233),
    "lost": (230, 80, 0),
}
Colour = tuple[int, int, int]
_FONT = cv2.FONT_HERSHEY_SIMPLEX
_SMALL = 480  # px: smaller frames are enlarged, for text to be read
_SCREEN = 1280, 720  # px
_WINDOW = "chase_fast"
_TRIAL = f"import cv2; cv2.namedWindow('{_WINDOW}'); cv2.waitKey(1)"


def enlargement(width: int, height: int) -> int:
    """Whole factor by which an annotated picture is larger than its frame: 1 unless the frame is tiny."""
    return max(1, -(-_SMALL // max(width, height)))


def annotate(
    image: np.ndarray,
    boxes: Sequence[Box],
    states: Sequence[str],
    scores: Sequence[float | None],
    number: int,
    fps: float | None,
) -> np.ndarray:
    """A copy of a frame with the targets' boxes in the colour of their state, state and score beside them,
    and frame number and speed in the corner.

    image: RGB uint8 [H, W, 3]. Returns BGR uint8, `enlargement` times as large.
    """
    zoom = enlargement(image.shape[1], image.shape[0])
    picture = cv2.cvtColor(image, cv2.COLOR_RGB2BGR)
    if zoom > 1:
        picture = cv2.resize(picture, None, fx=zoom, fy=zoom, interpolation=cv2.INTER_NEAREST)
    size = max(0.5, min(picture.shape[:2]) / 900)
    thick = max(2, round(2 * size))
    for k, (box, state, score) in enumerate(zip(boxes, states, scores)):
        colour = COLOURS[state][::-1]
        x, y, w, h = (round(v * zoom) for v in box)
        cv2.rectangle(picture, (x, y), (x + w, y + h), (0, 0, 0), thick + 2)
        cv2.rectangle(picture, (x, y), (x + w, y + h), colour, thick)
        parts = [f"{k}:"] if len(boxes) > 1 else []
        parts.append(state.replace("_", " "))
        if score is not None:
            parts.append(f"{score:.2f}")
        _text(picture, " ".join(parts), (x, y - thick), size, (0, 0, 0), colour)
    corner = f"frame {number}" + (f"  {fps:.1f} fps" if fps else "")
    _text(picture, corner, (0, picture.shape[0]), size, (255, 255, 255), (0, 0, 0))
    return picture


def _text(
    picture: np.ndarray, text: str, corner: tuple[int, int], size: float, colour: Colour, paper: Colour
) -> None:
    """Text on a filled label with its lower left corner there, moved until it lies inside the picture."""
    thick = max(1, round(1.2 * size))
    (width, height), below = cv2.getTextSize(text, _FONT, size, thick)
    width, height = width + 6, height + below + 4
    x = min(max(corner[0], 0), max(0, picture.shape[1] - width))
    y = min(max(corner[1], height), picture.shape[0])
    cv2.rectangle(picture, (x, y - height), (x + width, y), paper, cv2.FILLED)
    cv2.putText(picture, text, (x + 3, y - below), _FONT, size, colour, thick, cv2.LINE_AA)


def check_display(boxes: bool) -> None:
    """Raises ChaseError if no window can be opened here; boxes: whether the targets are given."""
    if problem := display_problem():
        cure = "leave out --show" if boxes else "give the target with --box x,y,w,h"
        raise ChaseError(f"{problem}: {cure}")


def display_problem() -> str | None:
    """Why no window can be opened here, or None. Tried in a process of its own: without a display OpenCV's
    toolkit ends the process instead of raising."""
    if sys.platform.startswith("linux") and not any(map(os.environ.get, ("DISPLAY", "WAYLAND_DISPLAY"))):
        return "there is no display here"
    try:
        done = subprocess.run([sys.executable, "-c", _TRIAL], capture_output=True, timeout=60)
    except (OSError, subprocess.SubprocessError) as e:
        return f"no window can be opened ({type(e).__name__})"
    return "OpenCV cannot open a window here" if done.returncode else None


def _open_window(title: str, width: int, height: int) -> None:
    """A plain window that the user can resize, not larger than most screens."""
    factor = min(1.0, _SCREEN[0] / width, _SCREEN[1] / height)
    cv2.namedWindow(title, cv2.WINDOW_NORMAL | cv2.WINDOW_KEEPRATIO | cv2.WINDOW_GUI_NORMAL)
    cv2.resizeWindow(title, round(factor * width), round(factor * height))


def draw_box(image: np.ndarray) -> Box:
    """Lets the user draw the target in a window. image: RGB uint8 [H, W, 3].

    Raises:
        ChaseError: nothing was drawn.
    """
    title = f"{_WINDOW}: draw the target's box, then Enter (c: cancel)"
    zoom = enlargement(image.shape[1], image.shape[0])
    _open_window(title, zoom * image.shape[1], zoom * image.shape[0])
    x, y, w, h = cv2.selectROI(
        title, cv2.cvtColor(image, cv2.COLOR_RGB2BGR), showCrosshair=False, printNotice=False
    )
    cv2.destroyWindow(title)
    if w == 0 or h == 0:
        raise ChaseError(
            "no box was drawn: drag the mouse over the target and press Enter, or give --box x,y,w,h"
        )
    return float(x), float(y), float(w), float(h)


class Window:
    """A window that shows pictures while the program runs."""

    def __init__(self, width: int, height: int):
        _open_window(_WINDOW, width, height)

    def show(self, picture: np.ndarray) -> bool:
        """Shows a picture, BGR; False if the user pressed q or Escape or closed the window."""
        if cv2.getWindowProperty(_WINDOW, cv2.WND_PROP_VISIBLE) < 1:
            return False
        cv2.imshow(_WINDOW, picture)
        return cv2.waitKey(1) & 0xFF not in (ord("q"), 27)

    def close(self) -> None:
        cv2.destroyAllWindows()
