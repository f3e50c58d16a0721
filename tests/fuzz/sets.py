"""Little datasets of every layout, for evaluation with result files beside them and for training."""

from collections.abc import Callable
from pathlib import Path

from tests import trees
from tests.benchmarks import boxes, got10k_tree, lines, write, write_frames
from tests.fuzz import media

LENGTHS = {"a": 8, "b": 6}
SHIFT = (2.0, 1.0)  # of the result boxes against the annotated ones: overlaps far from 0 and 1


def _got10k(root: Path) -> None:
    got10k_tree(root, LENGTHS)


def _trackingnet(root: Path) -> None:
    for seed, (name, length) in enumerate(LENGTHS.items()):
        write_frames(root / "TEST" / "frames" / name, length, "{}.jpg", 0, seed)
        write(root / "TEST" / "anno" / f"{name}.txt", lines(boxes(length)))


def _lasot(root: Path) -> None:
    for seed, (name, length) in enumerate(LENGTHS.items()):
        home = root / "cat" / f"cat-{name}"
        write_frames(home / "img", length, seed=seed)
        write(home / "groundtruth.txt", lines(boxes(length)))
        for flag in ("full_occlusion", "out_of_view"):
            write(home / f"{flag}.txt", ",".join("0" * length) + "\n")
        write(root / "att" / f"cat-{name}.txt", ",".join("1" + "0" * 13) + "\n")
    write(root / "testing_set.txt", "".join(f"cat-{name}\n" for name in LENGTHS))


def _otb(root: Path) -> None:
    for seed, (name, length) in enumerate(LENGTHS.items()):
        write_frames(root / name / "img", length, "{:04d}.jpg", seed=seed)
        write(root / name / "groundtruth_rect.txt", lines(boxes(length), "\t,"[seed]))


def _uav123(root: Path) -> None:
    for seed, (name, length) in enumerate(LENGTHS.items()):
        write_frames(root / "data_seq" / "UAV123" / name, length, "{:06d}.jpg", seed=seed)
        write(root / "anno" / "UAV123" / f"{name}.txt", lines(boxes(length)))
        write(root / "anno" / "UAV123" / "att" / f"{name}.txt", ",".join("010000000000") + "\n")


def _visdrone(root: Path) -> None:
    for seed, (name, length) in enumerate(LENGTHS.items()):
        write_frames(root / "sequences" / name, length, "img{:07d}.jpg", seed=seed)
        write(root / "annotations" / f"{name}.txt", lines(boxes(length)))
        write(root / "attributes" / f"{name}_attr.txt", ",".join("000000000001") + "\n")


def _vot(root: Path) -> None:
    for seed, (name, length) in enumerate(LENGTHS.items()):
        home = root / "sequences" / name
        write_frames(home / "color", length, seed=seed)
        corners = [(x, y, x + w, y, x + w, y + h, x, y + h) for x, y, w, h in boxes(length)]
        write(home / "groundtruth.txt", lines(corners if seed else boxes(length)))
        write(home / "occlusion.tag", "0\n" * length)
        write(home / "camera_motion.tag", "1\n" * length)
    write(root / "sequences" / "list.txt", "\n".join(LENGTHS) + "\n")


def _folder(root: Path) -> None:
    for seed, (name, length) in enumerate(LENGTHS.items()):
        write_frames(root / name, length, seed=seed)
        write(root / name / "groundtruth.txt", lines(boxes(length)))


# kind of dataset: maker of its tree, split of its SPEC, name of a sequence in results
LAYOUTS: dict[str, tuple[Callable[[Path], None], str, str]] = {
    "got10k": (_got10k, ":val", "{}"),
    "trackingnet": (_trackingnet, "", "{}"),
    "lasot": (_lasot, ":test", "cat-{}"),
    "otb": (_otb, "", "{}"),
    "uav123": (_uav123, "", "{}"),
    "visdrone": (_visdrone, "", "{}"),
    "vot": (_vot, "", "{}"),
    "folder": (_folder, "", "{}"),
}


def write_results(folder: Path, layout: str, name: str = "{}") -> None:
    """Boxes beside the annotated ones and times, as the public toolkits keep them: got10k, flat or
    pytracking."""
    for sequence, length in LENGTHS.items():
        moved = boxes(length)
        moved[1:, :2] += SHIFT
        known = name.format(sequence)
        clock = "".join(f"{0.02 + 0.001 * k:.8f}\n" for k in range(length))
        if layout == "got10k":
            write(folder / known / f"{known}_001.txt", lines(moved))
            write(folder / known / f"{known}_time.txt", clock)
            continue
        write(folder / f"{known}.txt", lines(moved, "\t" if layout == "pytracking" else ","))
        parent = folder if layout == "pytracking" else folder / "times"
        write(parent / f"{known}_time.txt", clock)


def write_benchmark(root: Path, kind: str, layout: str = "flat") -> None:
    """`data`, a benchmark of this kind, and `results`, the files of a tracker."""
    make, _, name = LAYOUTS[kind]
    make(root / "data")
    write_results(root / "results", layout, name)


def write_training(root: Path, kind: str) -> None:
    """`data`, a training set of this kind."""
    if kind == "folder":
        media.write_images(root / "data" / "walk", "png")
    else:
        getattr(trees, kind)(root / "data")


# kind of training set: split of its SPEC
TRAINING = {"got10k": ":train", "trackingnet": ":0,1", "lasot": ":train", "coco": ":train2017", "folder": ""}
