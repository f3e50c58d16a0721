#!/bin/sh
# opencv-python 5.0.0.93 (Linux x86_64, Python 3.11), Pillow 13.0.0.
# A TIFF with Orientation 6 ("turn by 90 degrees to show it"): cv2.imdecode turns it even with IMREAD_UNCHANGED and with
# IMREAD_IGNORE_ORIENTATION, which keep a JPEG of the same tag as it is stored; cv2.imread refuses the same bytes in a file
# (an internal check, "original_ptr == real_mat.data", logged as an error; the result is None). So one frame has three
# readings, and boxes annotated on stored pixels do not fit the decoded ones.
# Seen:
#   stored 64 x 48
#   imdecode, unchanged: 48 x 64
#   imdecode, orientation ignored: 48 x 64
#   imread, orientation ignored: None
#   JPEG, orientation ignored: 64 x 48
# Exit code: 0 if this is still so, 1 if it has changed.
set -e
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q --disable-pip-version-check opencv-python==5.0.0.93 pillow==13.0.0
cd "$folder"
venv/bin/python - <<'PYTHON'
import sys

import cv2
import numpy as np
from PIL import Image

cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)
pixels = np.random.default_rng(0).integers(0, 256, (48, 64, 3), dtype=np.uint8)
image = Image.fromarray(pixels)
image.save("frame.tif", tiffinfo={274: 6})
exif = Image.Exif()
exif[274] = 6
image.save("frame.jpg", exif=exif)
ignored = cv2.IMREAD_COLOR | cv2.IMREAD_IGNORE_ORIENTATION


def size(array):
    return None if array is None else (array.shape[1], array.shape[0])


data = np.fromfile("frame.tif", np.uint8)
found = {
    "imdecode, unchanged": size(cv2.imdecode(data, cv2.IMREAD_UNCHANGED)),
    "imdecode, orientation ignored": size(cv2.imdecode(data, ignored)),
    "imread, orientation ignored": size(cv2.imread("frame.tif", ignored)),
    "JPEG, orientation ignored": size(cv2.imread("frame.jpg", ignored)),
}
print("stored 64 x 48")
for how, what in found.items():
    print(f"{how}: {what and '{} x {}'.format(*what)}")
sys.exit(0 if list(found.values()) == [(48, 64), (48, 64), None, (64, 48)] else 1)
PYTHON
