#!/usr/bin/env bash
# OpenCV 5.0 (opencv-python-headless 5.0.0.93): cv2.VideoCapture turns a video by 180 degrees whose display matrix says
# that it is mirrored (front cameras of phones, ffmpeg -display_hflip); a player mirrors it: left and right change
# places, top and bottom do not. CAP_PROP_ORIENTATION_META says 180. Boxes of targets lie upside down.
# Input: H.264 in MP4 by PyAV, upper left quarter white, the rest black, stream.set_display_rotation(0, hflip=True).
# Seen: "shown by a player: white at the upper right; OpenCV gives white at the lower right, orientation 180"
# Exits with 1 if OpenCV gives the white quarter where players show it.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet av==18.1.0 numpy==2.2.6 opencv-python-headless==5.0.0.93
"$work/venv/bin/python" - "$work/clip.mp4" <<'PYTHON'
import sys
import av
import cv2
import numpy as np

path = sys.argv[1]
picture = np.zeros((64, 96, 3), np.uint8)
picture[:32, :48] = 255
with av.open(path, "w") as out:
    stream = out.add_stream("libx264", rate=25)
    stream.width, stream.height, stream.pix_fmt = 96, 64, "yuv420p"
    stream.set_display_rotation(0, hflip=True)
    for _ in range(3):
        out.mux(stream.encode(av.VideoFrame.from_ndarray(picture)))
    out.mux(stream.encode(None))
capture = cv2.VideoCapture(path)
found, image = capture.read()
assert found
rows = {"upper": image[16], "lower": image[48]}
where = [f"{r} {c}" for r, row in rows.items() for c, x in (("left", 24), ("right", 72)) if row[x].mean() > 128]
turned = capture.get(cv2.CAP_PROP_ORIENTATION_META)
print(f"shown by a player: white at the upper right; OpenCV gives white at the {', '.join(where)}, orientation {turned:g}")
sys.exit(0 if where != ["upper right"] else 1)
PYTHON
