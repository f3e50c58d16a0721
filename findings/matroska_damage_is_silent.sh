#!/usr/bin/env bash
# PyAV 18.1.0 (FFmpeg 8.1): zeros in the middle of a Matroska file make the reader leap to the next cluster. No
# exception is raised and no packet or frame is marked (is_corrupt): the frames between are missing without a word;
# only their time stamps, and the positions of the packets in the file, show it.
# Input: 60 frames of FFV1 at 25 per second, clusters of 0.4 s; 3 % of the bytes in the middle are zeros.
# Seen: "55 of 60 frames, 0 exceptions, 0 marked as corrupt, longest step 240 ms"
# Exits with 1 if all frames come, or if something says that some are missing.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet av==18.1.0 numpy==2.2.6
"$work/venv/bin/python" - "$work/clip.mkv" <<'PYTHON'
import sys
import av
import numpy as np

path, n = sys.argv[1], 60
noise = np.random.default_rng(0)
with av.open(path, "w", options={"cluster_time_limit": "400"}) as out:
    stream = out.add_stream("ffv1", rate=25)
    stream.width, stream.height, stream.pix_fmt = 160, 120, "yuv420p"
    for i in range(n):
        out.mux(stream.encode(av.VideoFrame.from_ndarray(noise.integers(0, 256, (120, 160, 3), dtype=np.uint8))))
    out.mux(stream.encode(None))
data = bytearray(open(path, "rb").read())
start, stop = len(data) * 50 // 100, len(data) * 53 // 100
data[start:stop] = bytes(stop - start)
open(path, "wb").write(data)

times, exceptions, marked = [], 0, 0
with av.open(path) as clip:
    video = clip.streams.video[0]
    for packet in clip.demux(video):
        marked += packet.is_corrupt
        try:
            frames = packet.decode()
        except av.FFmpegError:
            exceptions += 1
            continue
        for frame in frames:
            marked += frame.is_corrupt
            times.append(frame.pts)
step = max(b - a for a, b in zip(times, times[1:]))
print(f"{len(times)} of {n} frames, {exceptions} exceptions, {marked} marked as corrupt, longest step {step} ms")
sys.exit(0 if len(times) < n and not exceptions and not marked and step > 40 else 1)
PYTHON
