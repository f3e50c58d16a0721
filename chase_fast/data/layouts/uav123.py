"""UAV123, UAV20L and UAV123@10fps: ROOT/data_seq/{UAV123,UAV123_10fps}/FOLDER/000001.jpg and
ROOT/anno/{UAV123,UAV20L,UAV123_10fps}/NAME.txt."""

from dataclasses import replace
from pathlib import Path

from chase_fast.data.layouts import Layout, Listing, Place, Video, read_video
from chase_fast.data.layouts.files import (
    Unusable,
    boxes_of,
    chosen,
    frames_of,
    is_folder,
    named_flags,
    numbered,
    stems,
)
from chase_fast.data.seen import looked_at
from chase_fast.errors import ChaseError
from chase_fast.remarks import Notes, Remark

SETS = ("UAV123", "UAV20L", "UAV123_10fps")
SLOW = 3  # UAV123_10fps keeps every third frame, numbered anew
# the order of the columns in anno/UAV123/att/NAME.txt
ATTRIBUTES = (
    "Scale Variation", "Aspect Ratio Change", "Low Resolution", "Fast Motion", "Full Occlusion",
    "Partial Occlusion", "Out-of-View", "Background Clutter", "Illumination Variation", "Viewpoint Change",
    "Camera Motion", "Similar Object",
)  # fmt: skip
# First and last frame of the parts of long videos (official table, as in uav123.json of the got10k toolkit,
# MIT licence). Part k of FOLDER is sequence FOLDER_k. Every other sequence is a whole folder from frame 1.
_PARTS = """
bird1 1-253 775-1477 1573-2437
car1 1-751 751-1627 1627-2629
car6 1-487 487-1807 1807-2953 2953-3925 3925-4861
car8 1-1357 1357-2575
car16 1-415 415-1993
group1 1-1333 1333-2515 2515-3925 3925-4873
group2 1-907 907-1771 1771-2683
group3 1-1567 1567-2827 2827-4369 4369-5527
person2 1-1189 1189-2623
person4 1-1501 1501-2743
person5 1-877 877-2101
person7 1-1249 1249-2065
person8 1-1075 1075-1525
person12 1-601 601-1621
person14 1-847 847-1813 1813-2923
person17 1-1501 1501-2347
person19 1-1243 1243-2791 2791-4357
truck4 1-577 577-1261
uav1 1-1555 1555-2377 2473-3469
"""
PARTS: dict[str, tuple[str, int, int]] = {
    f"{folder}_{k}": (folder, int(part.split("-")[0]), int(part.split("-")[1]))
    for folder, *parts in map(str.split, _PARTS.strip().splitlines())
    for k, part in enumerate(parts, 1)
}


def find(root: Path, split: str | None, spec: str) -> Listing:
    """split: UAV123 (default), UAV20L, UAV123_10fps, or a list of names of UAV123 (or the only set there)."""
    looked_at(root / "anno")
    there = [s for s in SETS if is_folder(root / "anno" / s)]
    version = split if split in SETS else (there or SETS)[0]
    annotations = root / "anno" / version
    known = stems(annotations, spec)
    if not known:
        raise ChaseError(f"{spec}: no annotations NAME.txt in {annotations}")
    names = chosen(known, root, None if split in SETS else split, spec, f" and none of {', '.join(SETS)}")
    videos = root / "data_seq" / ("UAV123" if version == "UAV20L" else version)
    folders = {n: n if version == "UAV20L" else PARTS.get(n, (n,))[0] for n in names}
    return Listing([Place(n, videos / folders[n], annotations / f"{n}.txt", root) for n in names])


def read(place: Place) -> Video:
    """Frames and boxes. The table is that of UAV123: at a third of the rate parts begin at a third, and end
    with their annotation."""
    version = place.truth.parent.name
    if version == "UAV20L" or place.name not in PARTS:
        return read_video(place)
    boxes = boxes_of(place.truth)
    _, first, last = PARTS[place.name]
    if version == "UAV123_10fps":
        first = (first - 1) // SLOW + 1
        last = first + len(boxes) - 1
    if len(boxes) != last - first + 1:
        raise Unusable(
            f"{place.truth} has {len(boxes)} boxes, frames {first} to {last} are {last - first + 1}"
        )
    return Video(place.truth, numbered(frames_of(place.frames), first, last), boxes)


def describe(place: Place, video: Video) -> Video:
    """The attributes."""
    remarks: list[Remark] = []
    file = place.truth.parent / "att" / f"{place.name}.txt"
    attributes = named_flags(file, ATTRIBUTES, Notes(place.name, remarks))
    return replace(video, attributes=attributes, remarks=tuple(remarks))


LAYOUT = Layout(find, read, describe)
