"""The kinds of datasets: how they are named on a command line, called on a page and scored.

A kind is a line of this table and a file data/layouts/KIND.py (packed and synthetic are this package's own).
Help pages read it, so it imports nothing.
"""

from dataclasses import dataclass


@dataclass(frozen=True)
class Kind:
    """title: for people; usage: its SPEC; protocols: by which evaluate scores it unless others are asked for,
    empty: it is for training only."""

    title: str
    usage: str
    protocols: tuple[str, ...] = ()


KINDS = {
    "got10k": Kind("GOT-10k", "got10k:ROOT:SPLIT (train, val, test or a list file)", ("got10k",)),
    "trackingnet": Kind(
        "TrackingNet",
        "trackingnet:ROOT:SPLIT (train, TRAIN_k, sets such as 0-3 or 0,1,2; evaluate: TEST or a list)",
        ("trackingnet",),
    ),
    "lasot": Kind("LaSOT", "lasot:ROOT[:SPLIT] (train, test, all or a list file)", ("lasot-official",)),
    "uav123": Kind(
        "UAV123",
        "uav123:ROOT[:SPLIT] (UAV123, UAV20L, UAV123_10fps or a list file)",
        ("uav123-got10k", "uav123-pytracking"),
    ),
    "otb": Kind("OTB", "otb:ROOT[:LIST]", ("otb",)),
    "visdrone": Kind("VisDrone", "visdrone:ROOT[:SPLIT] (a subfolder or a list file)", ("visdrone",)),
    "vot": Kind("VOT", "vot:ROOT[:LIST]", ("otb",)),
    "coco": Kind("COCO", "coco:ROOT:SPLIT (train2017, train2014, val2017, ...)"),
    "folder": Kind(
        "",
        "folder:PATH[:SPLIT][:A-B%] (sequences with frames and groundtruth.txt; a share such as 0-80%)",
        ("got10k",),
    ),
    "packed": Kind("", "packed:DIR[:LIST] (what data.pack wrote; LIST is a file of sequence names)"),
    "synthetic": Kind("", "synthetic[:NAME] (procedural video, no files; every NAME is another set)"),
}
BENCHMARKS = {name: kind for name, kind in KINDS.items() if kind.protocols}
