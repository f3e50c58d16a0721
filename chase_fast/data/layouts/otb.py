"""OTB-100: ROOT/NAME/img/0001.jpg and groundtruth_rect.txt; some folders hold two targets.

Frame ranges of five sequences: as the benchmark's page states them (and the toolkits use them).
"""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from chase_fast.data.layouts import Layout, Listing, Place, Video, read_video
from chase_fast.data.layouts.files import chosen, folders_in, numbered, subfolders
from chase_fast.data.seen import looked_at
from chase_fast.errors import ChaseError
from chase_fast.files import read_bytes

RANGES = {
    "David": (300, 770),
    "Diving": (1, 215),
    "Football1": (1, 74),
    "Freeman3": (1, 460),
    "Freeman4": (1, 283),
}


def _targets(root: Path, folders: list[str]) -> Iterator[Place]:
    """Two annotations make NAME.1 and NAME.2; empty files do not count (Human4)."""
    for folder in folders:
        home = root / folder
        files = sorted(home.glob("groundtruth_rect*.txt"))
        looked_at(home, *files)
        files = [f for f in files if f.stat().st_size > 100 or read_bytes(f).strip()]
        for number, file in enumerate(files, 1):
            yield Place(folder if len(files) == 1 else f"{folder}.{number}", home, file, root)
        if not files:
            yield Place(folder, home, home / "groundtruth_rect.txt", root, annotated=False)


def find(root: Path, split: str | None, spec: str) -> Listing:
    """All sequences, or those of a list file (names as Jogging.1)."""
    every = list(_targets(root, subfolders(root, spec) if split is None else folders_in(root)))
    places = {p.name: p for p in every if p.annotated}
    if not places:
        raise ChaseError(f"{spec}: no folder with img/ and groundtruth_rect.txt under {root}")
    if split is None:
        return Listing(every)
    return Listing([places[n] for n in chosen(list(places), root, split, spec)])


def read(place: Place) -> Video:
    """Frames and boxes; the frames of five sequences begin or end elsewhere than their annotation."""
    video, folder = read_video(place), place.frames.name
    if len(video.frames.names) != len(video.boxes) and folder in RANGES:
        video = replace(video, frames=numbered(video.frames, *RANGES[folder]))
    number = place.truth.stem.removeprefix("groundtruth_rect.")  # Human4 has target 2 only
    also = (f"{place.name}.{number}",) if number.isdecimal() and place.name == folder else ()
    return replace(video, also=also)


LAYOUT = Layout(find, read)
