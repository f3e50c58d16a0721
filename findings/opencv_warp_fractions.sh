#!/bin/bash
# cv2.warpAffine and cv2.remap (INTER_LINEAR, float32 images): OpenCV 4.12 rounds source positions to 1/32 pixel,
# OpenCV 5.0 does not. A shift of 1/64 px is no shift in 4.12; search patches, rotated copies of a target and
# boxes refined on them therefore differ between the two by up to 1/64 px times the local contrast.
#
# Input: a ramp, image[y, x] = 32 x, moved right by 1/100, 1/50, 1/40 and 3/10 px; exact is -32 * shift at every
# inner pixel. Seen (change of the middle pixel over -32, that is the shift that took place):
#   opencv-python-headless 4.12.0.88   warpAffine 0 0.03125 0.03125 0.3125     remap 0 0.03125 0.03125 0.3125
#   opencv-python-headless 5.0.0.93    warpAffine 0.01 0.02 0.025 0.3          remap 0.01 0.02 0.025 0.3
# Exits 1 if either version does something else.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cat > "$folder/look.py" <<'PY'
import sys

import cv2
import numpy as np

x = np.arange(64, dtype=np.float32)
ramp = np.tile(32 * x, (64, 1))
rows = np.tile(x[:, None], (1, 64))
rounded = sys.argv[1] == "rounded"
for shift in (0.01, 0.02, 0.025, 0.3):
    how = {"flags": cv2.INTER_LINEAR, "borderMode": cv2.BORDER_REPLICATE}
    affine = cv2.warpAffine(ramp, np.array([[1, 0, shift], [0, 1, 0]]), (64, 64), **how)
    mapped = cv2.remap(ramp, np.tile(x - np.float32(shift), (64, 1)), rows, cv2.INTER_LINEAR)
    found = [float(ramp[32, 32] - image[32, 32]) / 32 for image in (affine, mapped)]
    print(cv2.__version__, shift, "warpAffine %.5f remap %.5f" % tuple(found))
    expected = round(shift * 32) / 32 if rounded else shift
    if any(abs(f - expected) > 1e-4 for f in found):
        sys.exit(f"expected {expected}")
PY
for pair in rounded:4.12.0.88 exact:5.0.0.93; do
    python3 -m venv "$folder/${pair%%:*}"
    "$folder/${pair%%:*}/bin/pip" install -q "opencv-python-headless==${pair##*:}"
    "$folder/${pair%%:*}/bin/python" "$folder/look.py" "${pair%%:*}"
done
