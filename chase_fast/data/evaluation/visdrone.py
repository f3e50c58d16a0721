"""VisDrone2019-SOT: ROOT/{sequences/NAME/img0000001.jpg, annotations/NAME.txt, attributes/NAME_attr.txt}.

The challenge set has ROOT/initialization/NAME.txt (first box only) instead of annotations.
"""

from collections.abc import Callable
from pathlib import Path

from chase_fast.data.evaluation.listing import chosen, open_root, stems
from chase_fast.data.evaluation.types import EvaluationSequence, annotation, image_files, make, named_flags

# the order of the columns in attributes/NAME_attr.txt
ATTRIBUTES = (
    "Aspect Ratio Change", "Background Clutter", "Camera Motion", "Fast Motion", "Full Occlusion",
    "Illumination Variation", "Low Resolution", "Out-of-View", "Partial Occlusion", "Similar Object",
    "Scale Variation", "Viewpoint Change",
)  # fmt: skip


def visdrone(path: str, split: str | None, spec: str) -> dict[str, Callable[[], EvaluationSequence]]:
    """Split: a folder under ROOT that holds such a set (VisDrone2019-SOT-test-dev), or a list of names."""
    root = open_root(path, spec)
    if split is not None and (root / split).is_dir():
        root, split = root / split, None
    hidden = not (root / "annotations").is_dir() and (root / "initialization").is_dir()
    annotations = root / ("initialization" if hidden else "annotations")
    names = chosen(stems(annotations, spec), root, split, spec, f" and no folder under {root}")
    return {n: lambda n=n: _read(root, annotations, n) for n in names}


def _read(root: Path, annotations: Path, name: str) -> EvaluationSequence:
    file = annotations / f"{name}.txt"
    attributes = named_flags(root / "attributes" / f"{name}_attr.txt", ATTRIBUTES)
    frames = image_files(root / "sequences" / name)
    return make(name, frames, annotation(file), file, attributes=attributes)
