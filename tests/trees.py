"""A little tree on disk of every kind of dataset, with real JPEG frames of the synthetic video.

Each function writes a tree under `path` and returns its `kind:path:split`; samples can be drawn from all of
them. Frames are 96 x 72 pixels; the sequences of one tree differ from those of a tree with another `start`.
"""

import functools
import json
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np

from chase_fast.data.synthetic import WIDTH, SyntheticSequences

SIZE = (96, 72)  # width, height
LENGTH = 24
SEQUENCES = 3


@functools.cache
def clip(number: int) -> tuple[tuple[bytes, ...], np.ndarray]:
    """JPEG frames and boxes [LENGTH, 4] (NaN = absent) of the `number`-th synthetic sequence that mostly
    shows its target."""
    sequences = (SyntheticSequences("trees")[k] for k in range(1000))
    good = (s for s in sequences if np.count_nonzero(s.visible[:LENGTH]) >= LENGTH - 4)
    sequence = next(s for i, s in enumerate(good) if i == number)
    frames = []
    for i in range(LENGTH):
        small = cv2.resize(sequence.frame(i), SIZE, interpolation=cv2.INTER_AREA)
        frames.append(cv2.imencode(".jpg", small[..., ::-1])[1].tobytes())
    return tuple(frames), np.round(sequence.boxes[:LENGTH] * (SIZE[0] / WIDTH), 2)


def write_clip(
    folder: Path, truth: Path, number: int, pattern: str, first: int, absent: float = 0.0
) -> np.ndarray:
    """Frames into `folder`, boxes (four times `absent` there) into `truth`; returns visible [LENGTH] bool."""
    frames, boxes = clip(number)
    folder.mkdir(parents=True, exist_ok=True)
    truth.parent.mkdir(parents=True, exist_ok=True)
    for i, frame in enumerate(frames):
        (folder / pattern.format(i + first)).write_bytes(frame)
    rows = np.nan_to_num(boxes, nan=absent)
    truth.write_text("".join(",".join(f"{v:g}" for v in row) + "\n" for row in rows))
    return ~np.isnan(boxes).any(1)


def trackingnet(path: Path, sets: tuple[int, ...] = (0, 1), start: int = 0) -> str:
    """SEQUENCES sequences, dealt out to TRAIN_k for k in `sets`."""
    root = Path(path)
    for i in range(SEQUENCES):
        home, name = root / f"TRAIN_{sets[i % len(sets)]}", f"video{start + i}_0"
        write_clip(home / "frames" / name, home / "anno" / f"{name}.txt", start + i, "{}.jpg", 0)
    return f"trackingnet:{root}:{','.join(str(k) for k in sets)}"


def lasot(path: Path, start: int = 0) -> str:
    """Sequences cat-2, cat-3, ... and the training_set.txt that names them."""
    root, names = Path(path), []
    for i in range(SEQUENCES):
        names.append(f"cat-{start + i + 2}")
        home = root / "cat" / names[-1]
        visible = write_clip(home / "img", home / "groundtruth.txt", start + i, "{:08d}.jpg", 1)
        (home / "full_occlusion.txt").write_text(",".join("0" if v else "1" for v in visible))
        (home / "out_of_view.txt").write_text(",".join("0" for _ in visible))
    (root / "training_set.txt").write_text("\n".join(names) + "\n")
    return f"lasot:{root}:train"


def got10k(path: Path, split: str = "train", start: int = 0) -> str:
    """Sequences of one split with absence.label and cover.label."""
    root, names = Path(path), []
    for i in range(SEQUENCES):
        names.append(f"GOT-10k_{split.capitalize()}_{start + i + 1:06d}")
        home = root / split / names[-1]
        visible = write_clip(home, home / "groundtruth.txt", start + i, "{:08d}.jpg", 1)
        (home / "absence.label").write_text("".join("0\n" if v else "1\n" for v in visible))
        (home / "cover.label").write_text("".join("8\n" if v else "0\n" for v in visible))
    (root / split / "list.txt").write_text("\n".join(names) + "\n")
    return f"got10k:{root}:{split}"


def coco(path: Path, year: int = 2017, start: int = 0) -> str:
    """images/trainYEAR, named as that year's, and annotations/instances_trainYEAR.json: two boxes per image
    (the second one half as large), one crowd and one box without size."""
    root, split = Path(path), f"train{year}"
    prefix = f"COCO_{split}_" if year == 2014 else ""
    home = root / "images" / split
    home.mkdir(parents=True, exist_ok=True)
    images, annotations = [], []

    def annotate(image: int, box: list[float], crowd: int = 0) -> None:
        annotations.append(
            {
                "id": 1000 + len(annotations),
                "image_id": image,
                "bbox": box,
                "iscrowd": crowd,
                "category_id": 1,
                "area": box[2] * box[3],
                "segmentation": [[0.0, 0.0, 1.0, 0.0, 1.0, 1.0]],
            }
        )

    for i in range(SEQUENCES):
        frames, boxes = clip(start + i)
        for t in np.flatnonzero(~np.isnan(boxes).any(1))[::6].tolist():
            number = 100 * (start + i) + t + 9
            name = f"{prefix}{number:012d}.jpg"
            (home / name).write_bytes(frames[t])
            images.append({"id": number, "file_name": name, "width": SIZE[0], "height": SIZE[1]})
            x, y, w, h = boxes[t].tolist()
            annotate(number, [x, y, w, h])
            annotate(number, [x, y, w / 2, h / 2])
    annotate(images[0]["id"], [0.0, 0.0, 50.0, 40.0], crowd=1)
    annotate(images[0]["id"], [10.0, 10.0, 0.0, 5.0])
    file = root / "annotations" / f"instances_{split}.json"
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps({"info": {"year": year}, "images": images, "annotations": annotations}))
    return f"coco:{root}:{split}"


def uav123(path: Path, start: int = 0) -> str:
    for i in range(start, start + SEQUENCES):
        anno = Path(path) / "anno" / "UAV123" / f"boat{i}.txt"
        write_clip(Path(path) / "data_seq" / "UAV123" / f"boat{i}", anno, i, "{:06d}.jpg", 1, np.nan)
    return f"uav123:{path}"


def otb(path: Path, start: int = 0) -> str:
    for i in range(start, start + SEQUENCES):
        home = Path(path) / f"Car{i + 1}"
        write_clip(home / "img", home / "groundtruth_rect.txt", i, "{:04d}.jpg", 1)
    return f"otb:{path}"


def visdrone(path: Path, start: int = 0) -> str:
    for i in range(start, start + SEQUENCES):
        name = f"uav{i + 1}_s"
        anno = Path(path) / "annotations" / f"{name}.txt"
        write_clip(Path(path) / "sequences" / name, anno, i, "img{:07d}.jpg", 1)
    return f"visdrone:{path}"


def vot(path: Path, start: int = 0) -> str:
    for i in range(start, start + SEQUENCES):
        home = Path(path) / f"clip{i}"
        write_clip(home / "color", home / "groundtruth.txt", i, "{:08d}.jpg", 1)
    return f"vot:{path}"


def folder(path: Path, start: int = 0) -> str:
    for i in range(start, start + SEQUENCES):
        home = Path(path) / f"clip{i}"
        write_clip(home, home / "groundtruth.txt", i, "{:08d}.jpg", 1, np.nan)
    return f"folder:{path}"


# kind of dataset -> what writes its tree and returns its spec
TREES: dict[str, Callable[[Path], str]] = {
    "got10k": got10k,
    "trackingnet": trackingnet,
    "lasot": lasot,
    "uav123": uav123,
    "otb": otb,
    "visdrone": visdrone,
    "vot": vot,
    "coco": coco,
    "folder": folder,
}
