#!/usr/bin/env bash
# PyAV 18.1.0: frame.side_data raises ValueError ("31 is not a valid Type") for every frame of a video whose decoder
# adds EXIF data, which FFmpeg 8.1 knows and PyAV's enumeration does not: TIFF in MOV (microscopes, scanners), also
# other pictures with EXIF. So the display matrix, which says how the frame is turned, cannot be read from it;
# frame.rotation can.
# Input: three frames of TIFF in MOV, made by PyAV itself.
# Seen: "frame.side_data: ValueError: 31 is not a valid Type; frame.rotation: 0"
# Exits with 1 if frame.side_data can be read.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet av==18.1.0 numpy==2.2.6
"$work/venv/bin/python" - "$work/clip.mov" <<'PYTHON'
import sys
import av
import numpy as np

with av.open(sys.argv[1], "w") as out:
    stream = out.add_stream("tiff", rate=25)
    stream.width, stream.height, stream.pix_fmt = 96, 64, "rgb24"
    for i in range(3):
        out.mux(stream.encode(av.VideoFrame.from_ndarray(np.full((64, 96, 3), 60 * i, np.uint8))))
    out.mux(stream.encode(None))
with av.open(sys.argv[1]) as clip:
    frame = next(clip.decode(video=0))
    try:
        print(f"frame.side_data: {len(frame.side_data)} entries")
    except ValueError as e:
        print(f"frame.side_data: ValueError: {e}; frame.rotation: {frame.rotation}")
        sys.exit(0)
sys.exit(1)
PYTHON
