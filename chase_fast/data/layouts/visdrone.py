"""VisDrone2019-SOT: ROOT/{sequences/NAME/img0000001.jpg, annotations/NAME.txt, attributes/NAME_attr.txt}.

The challenge set has ROOT/initialization/NAME.txt (first box only) instead of annotations.
"""

from dataclasses import replace
from pathlib import Path

from chase_fast.data.layouts import Layout, Listing, Place, Video
from chase_fast.data.layouts.files import chosen, folders_in, is_folder, named_flags, stems
from chase_fast.data.seen import looked_at
from chase_fast.remarks import Notes, Remark

# the order of the columns in attributes/NAME_attr.txt
ATTRIBUTES = (
    "Aspect Ratio Change", "Background Clutter", "Camera Motion", "Fast Motion", "Full Occlusion",
    "Illumination Variation", "Low Resolution", "Out-of-View", "Partial Occlusion", "Similar Object",
    "Scale Variation", "Viewpoint Change",
)  # fmt: skip


def find(root: Path, split: str | None, spec: str) -> Listing:
    """split: a folder under ROOT that holds such a set (VisDrone2019-SOT-test-dev), or a list of names."""
    if split is not None and is_folder(root / split):
        root, split = root / split, None
    looked_at(root)
    hidden = not is_folder(root / "annotations") and is_folder(root / "initialization")
    annotations, videos = root / ("initialization" if hidden else "annotations"), root / "sequences"
    known = stems(annotations, spec)
    names = chosen(known, root, split, spec, f" and no folder under {root}")
    if split is None and is_folder(videos):
        names = sorted({*known, *folders_in(videos)})
    there = set(known)
    return Listing([Place(n, videos / n, annotations / f"{n}.txt", root, n in there) for n in names])


def describe(place: Place, video: Video) -> Video:
    """The attributes."""
    remarks: list[Remark] = []
    file = place.root / "attributes" / f"{place.name}_attr.txt"
    attributes = named_flags(file, ATTRIBUTES, Notes(place.name, remarks))
    return replace(video, attributes=attributes, remarks=tuple(remarks))


LAYOUT = Layout(find, describe=describe)
