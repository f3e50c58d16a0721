"""Seeded damage: one input file (or the tree around it) is changed in a way that is said in one line.

Each `mutate_*` module holds functions `(rng, ...) -> (changed, what was done)`; this one chooses among them
by the kind of the file. The same generator state and the same files give the same damage.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from tests.fuzz import mutate_archive, mutate_bytes, mutate_json, mutate_text, mutate_tree

TREE_SHARE = 0.15  # of the inputs: files replaced, renamed, missing, beside others
STRUCTURE_SHARE = 0.7  # of the others, where the format is known
MOST = 3  # changes of one file
TEXTS = (".txt", ".label", ".tag", ".ini", ".csv")
_ATTEMPTS = 50


@dataclass(frozen=True)
class Mutation:
    """path: the file, relative to the input folder; empty for a command line. text: what was done."""

    path: str
    text: str


def files_of(folder: Path, targets: tuple[str, ...]) -> list[str]:
    """Relative paths of the files that the globs name, in a fixed order."""
    found = {p.relative_to(folder).as_posix() for t in targets for p in folder.glob(t) if p.is_file()}
    return sorted(found)


def mutate(rng: np.random.Generator, folder: Path, targets: tuple[str, ...]) -> Mutation:
    """Damages one of the files that `targets` name below `folder`."""
    names = files_of(folder, targets)
    name = str(rng.choice(names))
    path = folder / name
    if rng.random() < TREE_SHARE:
        return Mutation(name, mutate_tree.change(rng, folder, path))
    before = path.read_bytes()
    donor = folder / str(rng.choice(names))
    for _ in range(_ATTEMPTS):
        data, said = before, []
        for _ in range(min(MOST, int(rng.geometric(0.6)))):
            data, what = _once(rng, path.name, data, donor.read_bytes())
            said.append(what)
        if data != before:
            path.write_bytes(data)
            return Mutation(name, ", then ".join(said))
    raise RuntimeError(f"{path} could not be changed")


def _once(rng: np.random.Generator, name: str, data: bytes, donor: bytes) -> tuple[bytes, str]:
    """One change of the bytes of a file; those that need the format's structure fall back to plain bytes."""
    change = _structure(name, data)
    if change is not None and rng.random() < STRUCTURE_SHARE:
        try:
            return change(rng, data)
        except Exception:  # an earlier change has broken its form
            pass
    return mutate_bytes.change(rng, data, donor)


def _structure(name: str, data: bytes):
    suffix = Path(name).suffix
    if suffix in TEXTS:
        return mutate_text.change
    if suffix == ".json":
        return mutate_json.change
    if suffix == ".jsonl":
        return mutate_json.change_line
    if suffix == ".safetensors":
        return mutate_archive.change_safetensors
    if data[:2] == b"PK":
        return mutate_archive.change_zip
    return None
