"""Plain folders of sequences: groundtruth.txt beside the frames or above them, maybe GOT-10k's labels."""

from pathlib import Path

from chase_fast.data.layouts import Layout, Listing
from chase_fast.data.layouts.files import is_file
from chase_fast.data.layouts.got10k import TRUTH, describe, listing, read, select


def find(root: Path, split: str | None, spec: str) -> Listing:
    """A folder of sequences, or one sequence; split: a subfolder, or a list file of names or numbers."""
    if split is None and is_file(root / TRUTH):
        return listing([root], root, spec)
    return listing(select(root, split, spec), root, spec)


LAYOUT = Layout(find, read, describe, sizeless_is_absent=False)
