"""Pictures of the worst frames of a tracker: truth and boxes drawn, cut to where they are, as small JPEGs."""

import base64
from dataclasses import dataclass

import cv2
import numpy as np

from chase_fast.data.evaluation import EvaluationSequence
from chase_fast.draw.palette import series_rgb
from chase_fast.errors import ChaseError
from chase_fast.evaluate.scoring import Board, overlaps

PER_SEQUENCE = 2
BAD = 0.5  # overlap from which on a frame is not worth a picture
SIZE = (336, 210)  # px, width and height of a picture
QUALITY = 72
FAR = 10_000.0  # px: OpenCV draws no longer lines
TRUTH = (255, 255, 255)


@dataclass(frozen=True)
class Picture:
    """A bad frame (counted from 1) of the first tracker; `source` is a data URL."""

    sequence: str
    frame: int
    overlap: float
    source: str


def worst_frames(values: np.ndarray, count: int = PER_SEQUENCE) -> list[int]:
    """Frames with the lowest overlap [T] (NaN: hidden) below BAD, a tenth of the sequence or more apart."""
    found: list[int] = []
    values = np.where(values < BAD, values, np.inf)
    values[:1] = np.inf
    while len(found) < count and len(values) and np.isfinite(values).any():
        # of a run of equal values (a lost target) the middle says more than its first frame
        lowest = np.flatnonzero(values <= values.min())
        frame = int(lowest[len(lowest) // 2])
        found.append(frame)
        gap = max(5, len(values) // 10)
        values[max(0, frame - gap) : frame + gap + 1] = np.inf
    return found


def worst_pictures(board: Board, limit: int) -> list[Picture]:
    """At most `limit` pictures of the first tracker: the worst frame of every sequence, then its second one;
    sequences with the lowest overlap first. A frame that cannot be read is left out."""
    first = board.outcomes[0]
    chosen = []
    for sequence in board.data.scored:
        values = overlaps(first, sequence)
        if np.isnan(values).all():
            continue
        for rank, frame in enumerate(worst_frames(values)):
            chosen.append((rank, float(np.nanmean(values)), sequence, frame, float(values[frame])))
    chosen.sort(key=lambda c: c[:2])
    pictures: list[Picture] = []
    for _, _, sequence, frame, value in chosen:
        if len(pictures) == limit:
            break
        try:
            source = _draw(board, sequence, frame)
        except ChaseError:
            continue
        pictures.append(Picture(sequence.name, frame + 1, value, source))
    return pictures


def _draw(board: Board, sequence: EvaluationSequence, index: int) -> str:
    image = sequence.frame(index)
    boxes = [(TRUTH, sequence.boxes[index])]
    for number, outcome in enumerate(board.outcomes):
        run = outcome.first_run(sequence.name)
        if index < len(run) and np.isfinite(run[index]).all():
            boxes.append((series_rgb(number), run[index]))
    corner, scale = _view(image.shape[1], image.shape[0], np.array([b for _, b in boxes[:2]]))
    matrix = np.array([[scale, 0, -corner[0] * scale], [0, scale, -corner[1] * scale]])
    shrink = cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR
    picture = cv2.warpAffine(np.ascontiguousarray(image), matrix, SIZE, flags=shrink)
    for colour, box in reversed(boxes):
        box = np.clip(box, -FAR, FAR)
        low = np.clip(np.round((box[:2] - corner) * scale), -FAR, FAR).astype(int)
        high = np.clip(np.round((box[:2] + box[2:] - corner) * scale), -FAR, FAR).astype(int)
        for thick, ink in ((4, (0, 0, 0)), (2, colour)):
            cv2.rectangle(picture, low.tolist(), high.tolist(), ink, thick)
    _, data = cv2.imencode(".jpg", picture[:, :, ::-1], [cv2.IMWRITE_JPEG_QUALITY, QUALITY])
    return "data:image/jpeg;base64," + base64.b64encode(data.tobytes()).decode()


def _view(width: int, height: int, boxes: np.ndarray) -> tuple[np.ndarray, float]:
    """Upper left corner and scale of the part of a frame that shows the boxes [K, 4] and what is around."""
    low, high = boxes[:, :2].min(0), (boxes[:, :2] + boxes[:, 2:]).max(0)
    low, high = np.clip(low, 0, (width, height)), np.clip(high, 0, (width, height))
    aspect = SIZE[0] / SIZE[1]
    span = max((high - low)[0], (high - low)[1] * aspect) * 1.8
    span = min(max(span, SIZE[0] / 3), max(width, height * aspect))
    view = np.array([span, span / aspect])
    corner = (low + high) / 2 - view / 2
    inside = np.maximum(np.array([width, height]) - view, 0)
    return np.clip(corner, 0, inside) - np.maximum(view - (width, height), 0) / 2, SIZE[0] / span
