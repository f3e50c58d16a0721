"""Dataset layouts on disk: which sequence folders a `kind:path[:split]` names."""

import os
from pathlib import Path

from chase_fast.errors import ChaseError

GOT10K_SPLITS = ("train", "val", "test")


def _is_sequence(folder: Path) -> bool:
    return (folder / "groundtruth.txt").is_file()


def _lines(file: Path) -> list[str]:
    lines = file.read_text("utf-8-sig", errors="replace").splitlines()
    return [line.strip() for line in lines if line.strip()]


def _listed(folder: Path) -> list[Path]:
    """Sequence folders of a split folder, in the order of its list.txt, else sorted."""
    names = folder / "list.txt"
    if names.is_file():
        return [folder / line for line in _lines(names)]
    return sorted(Path(e.path) for e in os.scandir(folder) if e.is_dir() and not e.name.startswith("."))


def _split_folders(root: Path) -> list[Path]:
    """Folders whose children are sequences: root's train, val, test where they exist, else root itself."""
    return [root / s for s in GOT10K_SPLITS if (root / s).is_dir()] or [root]


def _list_file(root: Path, split: str) -> Path | None:
    """A list file is looked for as given, then under root."""
    return next((p for p in (Path(split).expanduser(), root / split) if p.is_file()), None)


def _from_list(root: Path, file: Path, spec: str) -> list[Path]:
    """Folders of a list of names, or of 0-based positions in the order of train (else val, test, root)."""
    lines = _lines(file)
    homes = [*_split_folders(root), root]
    named = [next((h / line for h in homes if (h / line).is_dir()), None) for line in lines]
    if all(line.isdecimal() for line in lines) and None in named:
        known = _listed(homes[0])
        if too_big := [line for line in lines if int(line) >= len(known)]:
            raise ChaseError(
                f"{spec}: {file} asks for number {too_big[0]} (from 0), but {homes[0]} has {len(known)}"
            )
        return [known[int(line)] for line in lines]
    if None in named:
        line = lines[named.index(None)]
        raise ChaseError(f"{spec}: {file} names {line!r}, which is no folder under {homes[0]}")
    return named


def _root(path: str, spec: str) -> Path:
    root = Path(path).expanduser()
    if not root.is_dir():
        raise ChaseError(f"{spec}: there is no folder {root}")
    return root


def _select(root: Path, split: str, spec: str, known: str) -> list[Path]:
    """Sequence folders of a split folder or a list file."""
    if (root / split).is_dir():
        folders = _listed(root / split)
        if missing := [f for f in folders if not f.is_dir()]:
            raise ChaseError(f"{spec}: {root / split / 'list.txt'} names {missing[0].name!r}: no such folder")
        return folders
    if file := _list_file(root, split):
        return _from_list(root, file, spec)
    raise ChaseError(f"{spec}: split {split!r} is neither a folder under {root} nor a list file{known}")


def got10k(path: str, split: str | None, spec: str) -> list[Path]:
    """GOT-10k layout ROOT/{train,val,test}/SEQUENCE; split = one of these, or a list of names or numbers."""
    root = _root(path, spec)
    present = [s for s in GOT10K_SPLITS if (root / s).is_dir()]
    known = f"; there are {', '.join(present)}" if present else ""
    if split is not None:
        return _select(root, split, spec, known)
    if present:
        raise ChaseError(f"{spec}: say which split, e.g. got10k:{path}:{present[0]}")
    return _listed(root)


def folder(path: str, split: str | None, spec: str) -> list[Path]:
    """Plain folder of sequences, or one sequence; split = a subfolder, or a list file of names or numbers."""
    root = _root(path, spec)
    if split is not None:
        return _select(root, split, spec, "")
    return [root] if _is_sequence(root) else _listed(root)
