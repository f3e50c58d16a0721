"""VisDrone2019-SOT: ROOT/{sequences/NAME/img0000001.jpg, annotations/NAME.txt, attributes/NAME_attr.txt}.

The challenge set has ROOT/initialization/NAME.txt (first box only) instead of annotations.
"""

from pathlib import Path

from chase_fast.data.evaluation.listing import chosen, is_folder, open_root, stems, unannotated
from chase_fast.data.evaluation.types import (
    EvaluationSequence,
    Listing,
    annotation,
    image_files,
    make,
    named_flags,
)
from chase_fast.remarks import Notes, Remark

# the order of the columns in attributes/NAME_attr.txt
ATTRIBUTES = (
    "Aspect Ratio Change", "Background Clutter", "Camera Motion", "Fast Motion", "Full Occlusion",
    "Illumination Variation", "Low Resolution", "Out-of-View", "Partial Occlusion", "Similar Object",
    "Scale Variation", "Viewpoint Change",
)  # fmt: skip


def visdrone(path: str, split: str | None, spec: str) -> Listing:
    """Split: a folder under ROOT that holds such a set (VisDrone2019-SOT-test-dev), or a list of names."""
    root = open_root(path, spec)
    if split is not None and is_folder(root / split):
        root, split = root / split, None
    hidden = not is_folder(root / "annotations") and is_folder(root / "initialization")
    annotations = root / ("initialization" if hidden else "annotations")
    known = stems(annotations, spec)
    names = chosen(known, root, split, spec, f" and no folder under {root}")
    remarks = unannotated(root / "sequences", known) if split is None else []
    return Listing({n: lambda n=n: _read(root, annotations, n) for n in names}, remarks)


def _read(root: Path, annotations: Path, name: str) -> EvaluationSequence:
    file = annotations / f"{name}.txt"
    remarks: list[Remark] = []
    attributes = named_flags(root / "attributes" / f"{name}_attr.txt", ATTRIBUTES, Notes(name, remarks))
    frames = image_files(root / "sequences" / name)
    return make(name, frames, annotation(file), file, remarks, attributes=attributes)
