#!/bin/sh
# PyAV 18.1.0 (its bundled FFmpeg 8; Linux x86_64, Python 3.11), OpenEXR 3.5.3 as writer and second reader.
# An EXR whose last third is missing decodes without an error, also with err_detect=explode: the lines that are missing are
# zero, `frame.is_corrupt` is False. OpenEXR itself refuses the file. Truncated PNG, JPEG and TIFF are refused by FFmpeg.
# Seen:
#   whole: 0 lines of zeros
#   cut: 16 of 48 lines are zero, is_corrupt False
#   OpenEXR: refused
# Exit code: 0 if this is still so, 1 if it has changed.
set -e
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q --disable-pip-version-check av==18.1.0 OpenEXR==3.5.3 numpy==2.4.6
cd "$folder"
venv/bin/python - <<'PYTHON'
import sys

import av
import numpy as np
import OpenEXR

pixels = (np.random.default_rng(0).random((48, 64, 3)) + 0.1).astype(np.float32)
header = {"compression": OpenEXR.NO_COMPRESSION, "type": OpenEXR.scanlineimage}
with OpenEXR.File(header, {"RGB": pixels}) as file:
    file.write("whole.exr")
data = open("whole.exr", "rb").read()
line = 8 + 64 * 3 * 4  # number and size of a line, then its numbers
open("cut.exr", "wb").write(data[: len(data) - 16 * line])


def decoded(name):
    with av.open(name) as container:
        container.streams.video[0].codec_context.options = {"err_detect": "explode"}
        frame = next(container.decode(video=0))
        return frame.to_ndarray(), frame.is_corrupt


whole, _ = decoded("whole.exr")
cut, corrupt = decoded("cut.exr")
zero = int((cut == 0).all((1, 2)).sum())
print(f"whole: {int((whole == 0).all((1, 2)).sum())} lines of zeros")
print(f"cut: {zero} of 48 lines are zero, is_corrupt {bool(corrupt)}")
try:
    with OpenEXR.File("cut.exr") as file:
        refused = file.channels() is None
except Exception as e:
    refused = True
print("OpenEXR:", "refused" if refused else "read")
sys.exit(0 if np.array_equal(whole, pixels) and zero == 16 and not corrupt and refused else 1)
PYTHON
