#!/usr/bin/env bash
# PyAV 18.1.0 (FFmpeg 8.1): behind a damaged place of an AVI the time stamps count on from before it, although the
# index of the file, which PyAV has read (stream.index_entries), holds the right ones. Who takes pts for the position
# of a frame is off by the number of lost frames until the end.
# Input: 40 frames of motion JPEG at 25 per second, some kilobytes each; 8 % of the bytes in the middle are zeros.
# Seen: "36 packets, the last one has pts 35, its entry in the index says 39"
# Exits with 1 if the last packet's pts agrees with the index.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet av==18.1.0 numpy==2.2.6
"$work/venv/bin/python" - "$work/clip.avi" <<'PYTHON'
import sys
import av
import numpy as np

path, n = sys.argv[1], 40
noise = np.random.default_rng(0)
with av.open(path, "w") as out:
    stream = out.add_stream("mjpeg", rate=25)
    stream.width, stream.height, stream.pix_fmt = 160, 120, "yuvj420p"
    for i in range(n):
        out.mux(stream.encode(av.VideoFrame.from_ndarray(noise.integers(0, 256, (120, 160, 3), dtype=np.uint8))))
    out.mux(stream.encode(None))
data = bytearray(open(path, "rb").read())
start, stop = len(data) * 50 // 100, len(data) * 58 // 100
data[start:stop] = bytes(stop - start)
open(path, "wb").write(data)

with av.open(path) as clip:
    video = clip.streams.video[0]
    index = {entry.pos + 8: entry.timestamp for entry in video.index_entries}  # pos: of the chunk's head
    packets = [p for p in clip.demux(video) if p.size]
last = packets[-1]
print(f"{len(packets)} packets, the last one has pts {last.pts}, its entry in the index says {index[last.pos]}")
assert len(packets) < n and index[last.pos] == n - 1
sys.exit(0 if last.pts != n - 1 else 1)
PYTHON
