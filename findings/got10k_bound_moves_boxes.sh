#!/usr/bin/env bash
# got10k 0.1.3 (the GOT-10k toolkit): bounding a box by the picture moves it instead of cropping it.
#
# got10k.utils.metrics.rect_iou(..., bound=(W, H)), by which AO and SR of GOT-10k are computed, clips x and y to the
# picture and then the width to W - x: a box that begins left of the picture (or above it) is moved to x = 0 with its
# full width. A prediction that is exactly the visible part of a target that is half outside scores 0.6 instead of 1;
# one that is 12 px too wide scores 1. On the right and the lower border boxes are cropped, as one expects.
#
# Input: two boxes in a picture of 320 x 240, made here.
# Output seen (Python 3.11, numpy 2.4.6):
#   left border: visible part of the target 0.6, moved box of full width 1.0
#   right border: visible part of the target 1.0
# Exit code: 0 if this is still so, 1 if it has changed.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" -q --disable-pip-version-check install got10k==0.1.3 six numpy==2.4.6 matplotlib opencv-python-headless==4.13.0.92
cd "$work"
"$work/venv/bin/python" - <<'PYTHON'
import sys

import numpy as np
from got10k.utils.metrics import rect_iou


def overlap(prediction, target):
    return float(rect_iou(np.array([prediction], float), np.array([target], float), bound=(320, 240))[0])


left, right = (-12, 60, 30, 40), (302, 60, 30, 40)
visible, moved = overlap((0, 60, 18, 40), left), overlap((0, 60, 30, 40), left)
other = overlap((302, 60, 18, 40), right)
print(f"left border: visible part of the target {visible:.1f}, moved box of full width {moved:.1f}")
print(f"right border: visible part of the target {other:.1f}")
sys.exit(0 if np.allclose((visible, moved, other), (0.6, 1, 1)) else 1)
PYTHON
