#!/bin/sh
# opencv-python 5.0.0.93 (Linux x86_64, Python 3.11), numpy 2.4.6.
# An RGB TIFF of 16 bits, read by cv2.imdecode(data, IMREAD_COLOR_RGB | IMREAD_ANYDEPTH): not compressed it comes out as BGR,
# deflated (or LZW) with numbers that are not in the file. IMREAD_COLOR | IMREAD_ANYDEPTH (BGR) of the same bytes is exact.
# With planes stored apart (PlanarConfiguration 2) IMREAD_UNCHANGED is wrong as well. Shape and type are right, there is no
# error and no warning: frames of 16-bit TIFF sequences have wrong colours or are noise.
# Seen:
#   not compressed: BGR exact True, RGB exact False
#   deflated: BGR exact True, RGB exact False
#   separate planes, unchanged: exact False
# Exit code: 0 if this is still so, 1 if it has changed.
set -e
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q --disable-pip-version-check opencv-python==5.0.0.93 numpy==2.4.6 tifffile==2026.3.3
"$folder/venv/bin/python" - <<'PYTHON'
import io
import sys

import cv2
import numpy as np
import tifffile

rgb = np.random.default_rng(0).integers(0, 65536, (48, 64, 3), dtype=np.uint16)


def written(**options):
    file = io.BytesIO()
    tifffile.imwrite(file, **options)
    data = file.getvalue()
    back = tifffile.imread(io.BytesIO(data))
    assert np.array_equal(back if back.shape == rgb.shape else np.moveaxis(back, 0, 2), rgb)
    return np.frombuffer(data, np.uint8)


def exact(data, flags, order):
    found = cv2.imdecode(data, flags)
    assert found.shape == rgb.shape and found.dtype == rgb.dtype
    return np.array_equal(found[..., ::order], rgb)


results = []
for how, compression in (("not compressed", None), ("deflated", "zlib")):
    data = written(data=rgb, photometric="rgb", compression=compression)
    bgr = exact(data, cv2.IMREAD_COLOR | cv2.IMREAD_ANYDEPTH, -1)
    direct = exact(data, cv2.IMREAD_COLOR_RGB | cv2.IMREAD_ANYDEPTH, 1)
    print(f"{how}: BGR exact {bgr}, RGB exact {direct}")
    results += [bgr, direct]
apart = written(data=np.moveaxis(rgb, 2, 0), photometric="rgb", planarconfig="separate")
results.append(exact(apart, cv2.IMREAD_UNCHANGED, -1))
print("separate planes, unchanged: exact", results[-1])
sys.exit(0 if results == [True, False, True, False, False] else 1)
PYTHON
