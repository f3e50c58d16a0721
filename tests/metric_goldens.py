"""What the public evaluation toolkits say (tests/data/metrics): names, boxes and the comparison of numbers.

`python tests/data/metrics/select.py FULL_SET` makes the copy; CHASE_FAST_GOLDEN=FULL_SET uses the full set.
"""

import functools
import json
import math
import os

import numpy as np

from chase_fast.evaluate.protocols import Truth
from tests.golden import ROOT

# toolkit -> the protocol that equals it
PROTOCOL_OF = {
    "got10k_toolkit/GOT-10k": "got10k",
    "got10k_toolkit/OTB": "otb",
    "got10k_toolkit/UAV123": "uav123-got10k",
    "got10k_toolkit/LaSOT": "lasot-got10k",
    "pysot/absent_attr=none": "pysot",
    "pysot/absent_attr=present": "pysot-absent",
    "pytracking/uav/exclude_invalid=False": "uav123-pytracking",
    "pytracking/uav/exclude_invalid=True": "uav123-pytracking-valid",
    "pytracking/otb/exclude_invalid=False": "otb-pytracking",
    "pytracking/otb/exclude_invalid=True": "otb-pytracking-valid",
    "pytracking/lasot/exclude_invalid=False": "lasot-pytracking",
    "pytracking/lasot/exclude_invalid=True": "lasot-pytracking-valid",
    "lasot_official": "lasot-official",
    "visdrone_otb_matlab": "visdrone",
    "trackingnet_server": "trackingnet",
    "trackingnet_devkit_executed": "trackingnet",
}
FOLDER = os.path.join(ROOT, "metrics")


@functools.cache
def numbers() -> dict:
    """metrics.json."""
    with open(os.path.join(FOLDER, "metrics.json")) as f:
        return json.load(f)


@functools.cache
def boxes() -> dict[str, np.ndarray]:
    """synthetic.npz."""
    with np.load(os.path.join(FOLDER, "synthetic.npz")) as z:
        return {key: z[key] for key in z.files}


def synthetic() -> tuple[list[Truth], dict[str, np.ndarray]]:
    """The ten synthetic sequences and the predictions on them."""
    z = boxes()
    truths = [
        Truth(name, z[f"gt_{name}"], z[f"absent_{name}"] == 1, z[f"cover_{name}"], tuple(size))
        for name, size in zip(map(str, z["names"]), z["size"].tolist(), strict=True)
    ]
    return truths, {t.name: z[f"pred_{t.name}"] for t in truths}


def probe(kind: str) -> tuple[Truth, np.ndarray]:
    """The clean sequence of 40 frames, changed in one way."""
    true, boxes_ = boxes()["probe_gt"].copy(), boxes()["probe_pred"].copy()
    absent, cover = np.zeros(40, bool), np.full(40, 8)
    if kind in ("gt_nan_row", "gt_nan_row_cover0"):
        true[7] = np.nan
        cover[7] = 8 if kind == "gt_nan_row" else 0
    elif kind == "gt_zero_row":
        true[7] = 0
    elif kind == "gt_x_equals_0":
        true[7, 0] = 0
    elif kind == "pred_nan_row":
        boxes_[7] = np.nan
    elif kind == "pred_zero_width":
        boxes_[7, 2] = 0
    elif kind == "pred_negative_width":
        boxes_[7, 2] = -5
    elif kind == "pred_and_gt_zero_row":
        true[7] = boxes_[7] = 0
    elif kind == "pred_too_short":
        boxes_ = boxes_[:35]
    elif kind == "pred_too_long":
        boxes_ = np.concatenate([boxes_, boxes_[-3:]])
    elif kind == "all_absent_but_first":
        absent[1:] = True
    elif kind == "all_cover_0":
        cover[:] = 0
    elif kind == "pred_first_row_wrong":
        boxes_[0] = true[0] + [60, 0, 0, 0]
    elif kind == "gt_partly_left_of_image":
        true[7], boxes_[7] = (-12, 60, 30, 40), (0, 60, 18, 40)
    else:
        assert kind == "clean", kind
    return Truth("probe", true, absent, cover, (320, 240)), boxes_


def assert_numbers(found: dict[str, float], expected: dict, tolerance: float, what: str) -> None:
    """The same names and, to an absolute tolerance, the same values; "nan" only where NaN was found."""
    assert set(found) == set(expected), what
    for name, value in expected.items():
        value = float(value)
        same = math.isnan(found[name]) if math.isnan(value) else abs(found[name] - value) <= tolerance
        assert same, f"{what} {name}: {found[name]!r}, the toolkit says {value!r}"
