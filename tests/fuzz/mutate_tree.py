"""Damage of the tree: what should be a file is something else, has another name or company."""

import os
import shutil
from pathlib import Path

import numpy as np


def change(rng: np.random.Generator, folder: Path, path: Path) -> str:
    """Changes the file `path` below `folder`, or its surroundings; says what was done."""
    changes = [*_CHANGES, *([] if os.getuid() == 0 else [_unreadable])]  # root reads everything
    return changes[int(rng.integers(len(changes)))](rng, folder, path)


def _missing(rng, folder, path):
    path.unlink()
    return "missing"


def _empty(rng, folder, path):
    path.write_bytes(b"")
    return "empty"


def _folder(rng, folder, path):
    path.unlink()
    path.mkdir()
    return "is a folder"


def _fifo(rng, folder, path):
    path.unlink()
    os.mkfifo(path)
    return "is a pipe that nobody writes"


def _loop(rng, folder, path):
    path.unlink()
    path.symlink_to(path.name)
    return "is a link to itself"


def _dangling(rng, folder, path):
    path.unlink()
    path.symlink_to("nowhere")
    return "is a link to nothing"


def _elsewhere(rng, folder, path):
    """A good link: nothing has changed."""
    kept = folder.parent / f"kept-{path.name}"
    path.rename(kept)
    path.symlink_to(kept)
    return "is a link to the same content"


def _renamed(rng, folder, path):
    names = [
        f"{path.name}.bak",
        path.name.upper(),
        path.stem,
        f" {path.name}",
        f"{path.stem} (1){path.suffix}",
    ]
    new = path.with_name(names[int(rng.integers(len(names)))])
    path.rename(new)
    return f"renamed to {new.name!r}"


def _companion(rng, folder, path):
    """What systems and people leave beside files; none of it is an input."""
    names = (
        f"._{path.name}",
        ".DS_Store",
        "Thumbs.db",
        "desktop.ini",
        f"{path.name}~",
        f".{path.name}.swp",
        "notes.md",
    )
    new = path.with_name(names[int(rng.integers(len(names)))])
    new.write_bytes(b"\x00\x05\x16\x07" + bytes(100))
    return f"{new.name} beside it"


def _subfolder(rng, folder, path):
    new = path.parent / str(rng.choice(("extra", ".ipynb_checkpoints", "__MACOSX", "preview")))
    new.mkdir(exist_ok=True)
    (new / path.name).write_bytes(path.read_bytes())
    return f"a copy of it in {new.name}/ beside it"


def _no_parent(rng, folder, path):
    if path.parent == folder:
        return _missing(rng, folder, path)
    shutil.rmtree(path.parent)
    return "its folder is missing"


def _file_for_parent(rng, folder, path):
    if path.parent == folder:
        return _folder(rng, folder, path)
    shutil.rmtree(path.parent)
    path.parent.write_text("no folder\n")
    return "a file stands where its folder was"


def _unreadable(rng, folder, path):
    path.chmod(0)
    return "may not be read"


_CHANGES = (
    _missing, _missing, _empty, _empty, _folder, _folder, _loop, _dangling, _elsewhere, _renamed,
    _renamed, _companion, _companion, _subfolder, _no_parent, _file_for_parent, _fifo,
)  # fmt: skip
