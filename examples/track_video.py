"""Follow a target through a video: python examples/track_video.py [VIDEO X,Y,W,H CHECKPOINT]

Without arguments it makes a short video and trains a tracker for seconds: that shows the way, not good
tracking. With your video, the target's box in its first frame and a checkpoint (a public one, see
public_checkpoint.py, or best.safetensors of a training) it writes what `python -m chase_fast.track` writes,
step by step.
"""

import sys
from pathlib import Path

import cv2

import chase_fast

OUT = Path("runs/example_track")


def demo_video(path: Path) -> tuple[float, ...]:
    """Writes 40 frames of synthetic video; returns the target's box in the first one."""
    from chase_fast.data.synthetic import SyntheticSequences

    sequence = SyntheticSequences("example")[0]
    height, width = sequence.frame(0).shape[:2]
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"MJPG"), 25, (width, height))
    for i in range(40):
        writer.write(sequence.frame(i)[..., ::-1])
    writer.release()
    return tuple(sequence.boxes[0])


if __name__ == "__main__":
    OUT.mkdir(parents=True, exist_ok=True)
    if len(sys.argv) == 4:
        video, checkpoint = sys.argv[1], sys.argv[3]
        box = tuple(map(float, sys.argv[2].split(",")))
    else:
        video = str(OUT / "demo.avi")
        box = demo_video(OUT / "demo.avi")
        run = chase_fast.train(
            "demo", OUT / "tracker", resume=(OUT / "tracker").exists(), epochs=1, iterations=10
        )
        checkpoint = run.checkpoint

    tracker = chase_fast.Tracker.load(checkpoint, preset="fast")
    capture, found = cv2.VideoCapture(video), []
    while (frame := capture.read()[1]) is not None:
        rgb = frame[..., ::-1].copy()  # OpenCV gives BGR
        if found:
            result = tracker.update(rgb)
            found.append(result.box)
            print(
                f"frame {len(found) - 1}: {result.state}, score {result.score:.2f}, box",
                *map(round, result.box),
            )
        else:
            tracker.init(rgb, box)
            found.append(box)
    (OUT / "boxes.txt").write_text("".join(",".join(f"{v:.2f}" for v in b) + "\n" for b in found))
    print(f"{len(found)} boxes in {OUT / 'boxes.txt'}")
