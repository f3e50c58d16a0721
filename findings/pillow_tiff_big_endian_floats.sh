#!/bin/sh
# Pillow 13.0.0 (Linux x86_64, Python 3.11), tifffile 2026.3.3 as writer and second reader.
# A grey TIFF of 32-bit floats, big endian and compressed (as some programs write thermal and depth maps): Image.open reads
# mode F without an error, and the numbers are wrong (values of 0 to 1 become up to 1e38): libtiff has put the bytes in
# order when it unpacked them, and they are swapped once more. Little endian, or uncompressed, is exact; 16-bit integers
# are exact in every form.
# Seen:
#   little endian, deflated: exact True
#   big endian, not compressed: exact True
#   big endian, deflated: exact False, largest 1.49e+38 instead of 0.992
# Exit code: 0 if this is still so, 1 if it has changed.
set -e
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q --disable-pip-version-check pillow==13.0.0 tifffile==2026.3.3
"$folder/venv/bin/python" - <<'PYTHON'
import io
import sys

import numpy as np
import tifffile
from PIL import Image

values = (np.arange(48 * 64).reshape(48, 64) % 251 / 252).astype(np.float32)


def exact(order, compression):
    file = io.BytesIO()
    tifffile.imwrite(file, values, byteorder=order, compression=compression)
    assert np.array_equal(tifffile.imread(io.BytesIO(file.getvalue())), values)
    image = Image.open(io.BytesIO(file.getvalue()))
    assert image.mode == "F"
    found = np.asarray(image)
    return np.array_equal(found, values), np.nanmax(np.abs(found))


little, plain, both = exact("<", "zlib"), exact(">", None), exact(">", "zlib")
print("little endian, deflated: exact", little[0])
print("big endian, not compressed: exact", plain[0])
print(f"big endian, deflated: exact {both[0]}, largest {both[1]:.3g} instead of {values.max():.3g}")
sys.exit(0 if little[0] and plain[0] and not both[0] else 1)
PYTHON
