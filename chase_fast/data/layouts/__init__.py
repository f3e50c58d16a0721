"""Datasets as they lie on disk, one file each: which sequences a split names, and their frames, boxes, flags
and attributes. Training (`data.sources`) and evaluation (`data.evaluation`) are views of what they give.

A new kind of dataset is a file NAME.py here with its LAYOUT, and a line in `chase_fast.datasets`.
"""

import importlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from chase_fast.data.frame_files import FrameFiles
from chase_fast.data.layouts.files import boxes_of, frames_of
from chase_fast.remarks import Remark


@dataclass(frozen=True)
class Place:
    """Where a sequence lies: its name, the folder of its frames (or one above), its annotation, the root of
    the dataset. annotated: False where the annotation is not there."""

    name: str
    frames: Path
    truth: Path
    root: Path
    annotated: bool = True


@dataclass(frozen=True)
class Listing:
    """The sequences of a split, in its order; remarks on what is not there."""

    places: Sequence[Place]
    remarks: Sequence[Remark] = ()


@dataclass(frozen=True)
class Video:
    """One target in one video, as it is annotated. Boxes and frames may differ in number: views judge that.

    Attributes:
        truth: the file of the boxes.
        frames: folder and names of the T' frames, in order; how they were chosen.
        boxes: [T, 4] float64 x, y, w, h in pixels, as in the file; NaN where the target is absent or unknown.
        absent: [T] bool, the target is not in the picture; None if the dataset does not say.
        cover: [T] int 0 ... 8, visible eighths (GOT-10k); None if the dataset does not say.
        unflagged: a file of flags that should be there and is not: what is visible is not known.
        also: other names that toolkits give this sequence.
        attributes: challenges that the dataset names -> whether this sequence has them; empty if unknown.
        declared_size: (width, height) that the dataset states, None if it states none.
        remarks: what was left aside when this was read.
    """

    truth: Path
    frames: FrameFiles
    boxes: np.ndarray = field(repr=False)
    absent: np.ndarray | None = field(default=None, repr=False)
    cover: np.ndarray | None = field(default=None, repr=False)
    unflagged: Path | None = None
    also: tuple[str, ...] = ()
    attributes: Mapping[str, bool] = field(default_factory=dict, repr=False)
    declared_size: tuple[int, int] | None = None
    remarks: tuple[Remark, ...] = ()


def read_video(place: Place) -> Video:
    """Boxes and frames, no flags; raises Unusable."""
    return Video(place.truth, boxes=boxes_of(place.truth), frames=frames_of(place.frames))


@dataclass(frozen=True)
class Layout:
    """How the videos of one kind lie on disk.

    Attributes:
        find: (root, split or None, spec for messages) -> the sequences; raises ChaseError.
        read: a sequence -> frames, boxes and flags; raises Unusable.
        describe: adds what only evaluation uses: attributes, the official annotation; raises Unusable.
        train_split: what no split means to training; otherwise `find` says what it means.
        check_train: (split, spec), raises ChaseError for a split that cannot be learned from.
        sizeless_is_absent: a box without size means that the target is absent; else it is an error.
        known_bad: sequence -> what is known to be wrong with it as published.
    """

    find: Callable[[Path, str | None, str], Listing]
    read: Callable[[Place], Video] = read_video
    describe: Callable[[Place, Video], Video] | None = None
    train_split: str | None = None
    check_train: Callable[[str | None, str], object] | None = None
    sizeless_is_absent: bool = True
    known_bad: Mapping[str, str] = field(default_factory=dict)


def layout(kind: str) -> Layout:
    """The layout of a kind of videos."""
    return importlib.import_module(f"{__name__}.{kind}").LAYOUT
