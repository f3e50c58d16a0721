"""GOT-10k: ROOT/{train,val,test}/GOT-10k_Train_NNNNNN/ with 00000001.jpg, ..., groundtruth.txt and labels."""

from pathlib import Path

from chase_fast.data.annotations import has_size
from chase_fast.data.readers import folder
from chase_fast.data.readers.layout import Seen, open_root
from chase_fast.data.sequences import FileSequence, Problem
from chase_fast.errors import ChaseError

# What users found in the published frames, nothing of which stops a training; doctor --data says so. Sources:
# github.com/got-10k/toolkit issues 10, 25 and 29, github.com/visionml/pytracking issue 98.
KNOWN_BAD = {
    "GOT-10k_Train_001636": "frames 43 to 53 are wrong",
    "GOT-10k_Train_001638": "frames 25 to 33 are wrong",
    "GOT-10k_Train_007947": "the frame size changes at frame 192",
    "GOT-10k_Val_000136": "the frame size changes at frame 112",
    "GOT-10k_Val_000137": "the frame size changes",
} | {
    f"GOT-10k_Train_{n:06d}": "its first frames are copies of one image, their boxes do not fit"
    for n in (*range(8623, 8638), 9058, 9059)
}


def find(path: str, split: str | None, spec: str, seen: Seen) -> list[Path]:
    """Sequence folders; split = train, val, test, or a list of names or of 0-based positions in train."""
    root = open_root(path, spec, seen)
    present = [s for s in folder.SPLITS if (root / s).is_dir()]
    if split is not None:
        known = f"; there are {', '.join(present)}" if present else ""
        return folder.annotated(folder.select(root, split, spec, known, seen), root, spec)
    if present:
        raise ChaseError(f"{spec}: say which split, e.g. got10k:{path}:{present[0]}")
    return folder.annotated(folder.listed(root, seen), root, spec)


def read(path: Path, seen: Seen) -> tuple[FileSequence | None, list[Problem]]:
    """One sequence: a frame is visible if it is not absent, its cover > 0 and its box has a size.

    The published annotations hold boxes without size where the target has left the image: not visible, and
    no problem.
    """
    sequence, problems = folder.read_labelled(path, seen)
    if sequence is None:
        return None, problems
    return sequence.showing(sequence.visible & has_size(sequence.boxes)), problems
