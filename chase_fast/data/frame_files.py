"""Which files of a folder are its frames.

Files with the ending of an image, hidden ones and companions of the operating system aside. Where a
folder holds more than one kind of them, a rule chooses, or the user is asked:

1. Names with a word such as mask, depth, seg, label or thumb beside the same names without it are not frames.
2. A few names without a number beside numbered ones (cover.jpg) are not frames.
3. Of several files per number (00000001.jpg and 00000001.png) the frames are those that come at least twice
   as often, and those that have colours where the others are masks (one channel, a palette) or are larger.
   If nothing tells them apart, or one rule contradicts the other, it is an error.

A folder without images of its own has them in a subfolder (or below): the only one that holds images,
masks and the like aside, else the one that is called as benchmarks call it (OFFICIAL), else it is an
error. Whatever is left out is said in `notes`.
"""

import os
import re
from collections import defaultdict
from collections.abc import Iterator
from collections.abc import Sequence as Many
from dataclasses import dataclass
from pathlib import Path

from PIL import Image

from chase_fast.data.decode import EXTENSIONS
from chase_fast.data.frames import hexadecimal, in_order, order_note
from chase_fast.data.notes import Note
from chase_fast.data.pillow import UNREADABLE

OFFICIAL = ("img", "img1", "imgs", "image", "images", "frames", "color", "colour", "rgb", "visible")
_SUFFIXES = tuple(EXTENSIONS)
_UNFINISHED = (".part", ".crdownload", ".partial", ".download", ".filepart", ".opdownload", ".tmp")
_NO_FRAMES = {"@eadir", "__macosx", "#recycle", "$recycle.bin", "lost+found"}
_WORDS = (
    r"(?:masks?|seg|segm|segmentations?|labels?|depths?|disp|disparity|flow|thumbs?|thumbnails?|previews?"
    r"|alpha|matte|annotations?|anno|gt|instances?|semantic|normals?|heatmaps?|overlays?|vis)"
)
_COMPANION = re.compile(rf"(?<![a-z]){_WORDS}(?![a-z])")
_NEUTRAL = re.compile(r"(?<![a-z])(?:colou?r|rgb|images?|img|frame|photo)(?![a-z])")
_DEEP = 3  # levels of subfolders that are searched
_MANY = 500  # folders that are looked into at most


class Ambiguous(ValueError):
    """A folder in which nothing says which files are the frames; the text says what to do."""


@dataclass(frozen=True)
class FrameFiles:
    """`names` of the frames in `folder`, in order; `notes`: what was left out, and how they are ordered."""

    folder: Path
    names: Many[str]
    notes: tuple[Note, ...] = ()


@dataclass(frozen=True)
class _Listing:
    images: list[str]
    folders: list[str]
    unfinished: list[str]


def frames_in(folder: Path) -> FrameFiles:
    """The frames of this very folder.

    Raises:
        OSError: it cannot be read. Ambiguous: see above.
    """
    return _chosen(folder, _list(folder))


def find_frames(folder: Path) -> FrameFiles:
    """The frames of a folder, else of its subfolders; without names where there are none.

    Raises:
        OSError: it cannot be read. Ambiguous: see above.
    """
    listing = _list(folder)
    below = [f for f in listing.folders if f.casefold() in OFFICIAL] if listing.images else listing.folders
    found = {f.name: n for f in (folder / b for b in below) if (n := _list(f).images)}
    if listing.images:
        if len(found) == 1 and len(*found.values()) > len(listing.images):
            (home,) = found
            chosen = frames_in(folder / home)
            beside = f"{len(listing.images)} beside {home}/, like {min(listing.images)}"
            note = Note("images outside the folder of the frames are left out", beside)
            return FrameFiles(chosen.folder, chosen.names, (note, *chosen.notes))
        return _chosen(folder, listing)
    found = found or {str(f.relative_to(folder)): n for f, n in _deeper(folder)}
    if not found:
        return FrameFiles(folder, ())
    home = _home(folder, list(found))
    chosen = frames_in(folder / home)
    others = [f for f in found if f != home]
    if not others:
        return chosen
    note = Note("several folders hold images, one of them is read", f"{home}/, not {_some(others)}")
    return FrameFiles(chosen.folder, chosen.names, (note, *chosen.notes))


def _list(folder: Path) -> _Listing:
    images, folders, unfinished = [], [], []
    with os.scandir(folder) as entries:
        for entry in entries:
            name, lower = entry.name, entry.name.lower()
            if name.startswith(".") or lower in _NO_FRAMES:
                continue
            if entry.is_dir():
                folders.append(name)
            elif lower.endswith(_SUFFIXES):
                images.append(name)
            elif lower.endswith(_UNFINISHED) and Path(lower).stem.endswith(_SUFFIXES):
                unfinished.append(name)
    return _Listing(images, sorted(folders), sorted(unfinished))


def _deeper(folder: Path) -> Iterator[tuple[Path, list[str]]]:
    """Folders with images two or more levels down: those of the first level that has any."""
    level = [folder / f for f in _list(folder).folders]
    looked = len(level)
    for _ in range(_DEEP - 1):
        level = [f / name for f in level for name in _list(f).folders][: max(0, _MANY - looked)]
        looked += len(level)
        found = [(f, names) for f in level if (names := _list(f).images)]
        if found:
            yield from found
            return


def _home(folder: Path, found: list[str]) -> str:
    """The subfolder of the frames among several; raises Ambiguous."""
    plain = [f for f in found if not _COMPANION.fullmatch(Path(f).name.casefold())] or found
    if len(plain) == 1:
        return plain[0]
    official = [f for f in plain if Path(f).name.casefold() in OFFICIAL]
    if len(official) == 1:
        return official[0]
    raise Ambiguous(f"{folder} holds {len(found)} folders of frames ({_some(found)}): give one of them")


def _some(names: list[str]) -> str:
    return ", ".join(names[:3]) + (" ..." if len(names) > 3 else "")


def _chosen(folder: Path, listing: _Listing) -> FrameFiles:
    names, notes = listing.images, []
    if listing.unfinished:
        example = f"{len(listing.unfinished)}, like {listing.unfinished[0]}"
        notes.append(Note("unfinished downloads are left out", example))
    ordered = in_order(names)
    if isinstance(ordered, tuple) and names:
        for rule in (_without_companions, _without_covers, _one_file_per_number):
            kept = rule(folder, names)
            if left := sorted(set(names) - set(kept)):
                example = f"{len(left)}, like {left[0]} beside {min(kept)}"
                notes.append(Note("images that are no frames are left out", example))
            names = kept
        ordered = in_order(names)
        if order := order_note(ordered):
            what = "frames are ordered by several numbers of their names, from left to right"
            notes.append(Note(what, order))
    return FrameFiles(folder, ordered, tuple(notes))


def _without_companions(folder: Path, names: list[str]) -> list[str]:
    """Rule 1."""
    stems = {n: Path(n).stem.casefold() for n in names}
    plain = {_core(s) for s in stems.values() if not _COMPANION.search(s)}
    kept = [n for n in names if not (_COMPANION.search(stems[n]) and _core(stems[n]) in plain)]
    return kept or names


def _core(stem: str) -> str:
    """A name without the words that say what it shows, and without separators."""
    return re.sub(r"[\W_]", "", _NEUTRAL.sub("", _COMPANION.sub("", stem)))


def _without_covers(folder: Path, names: list[str]) -> list[str]:
    """Rule 2. `img.jpg` beside `img (2).jpg` is the first of them."""
    bare = [n for n in names if not re.search(r"\d", Path(n).stem)]
    starts = {re.split(r"\d", n, maxsplit=1)[0].rstrip(" (_-.").casefold() for n in names}
    covers = {n for n in bare if Path(n).stem.casefold() not in starts}
    if 2 * len(bare) >= len(names):
        return names
    return [n for n in names if n not in covers]


def _forms(names: list[str]) -> dict[tuple, dict[tuple, str]]:
    """Text parts and ending of names -> the numbers in them -> name."""
    forms: dict[tuple, dict[tuple, str]] = defaultdict(dict)
    for name in names:
        stem, ending = os.path.splitext(name)
        runs = re.findall(r"\d+", stem)
        texts = tuple(re.split(r"\d+", stem.casefold()))
        if runs:
            forms[texts, ending][tuple(map(int, runs))] = name
        else:
            forms["no number", ending][texts] = name
    return forms


def _one_file_per_number(folder: Path, names: list[str]) -> list[str]:
    """Rule 3."""
    forms = _forms(names)
    if len({Path(n).suffix for n in names}) == 1 and hexadecimal([Path(n).stem for n in names]):
        return names
    if len(forms) == 1 or len(forms) > max(8, len(names) // 4):  # names without a common form: hashes, words
        return names
    rivals: dict[tuple, tuple] = {}  # forms that have a number in common -> one such number
    for a in forms:
        for b in forms:
            shared = _shared(forms[a], forms[b])
            if a != b and 2 * len(shared) >= min(len(forms[a]), len(forms[b])):
                rivals.setdefault(a, shared[0])
                rivals.setdefault(b, shared[0])
    if not rivals:
        return names
    example = {form: _example(forms[form], number) for form, number in rivals.items()}
    best = _most(forms, rivals), _best_picture(folder, example)
    if len(set(best) - {None}) != 1:
        few = " and ".join(sorted(example.values())[:2])
        raise Ambiguous(
            f"{folder} holds several files for one frame, like {few}: leave only the frames there, and move"
            " the others to another folder"
        )
    (frames,) = set(best) - {None}
    return [n for form, of in forms.items() if form == frames or form not in rivals for n in of.values()]


def _shared(a: dict[tuple, str], b: dict[tuple, str]) -> list[tuple]:
    """Numbers that both have; (7, 1) has the number 7 too."""
    length = min(len(next(iter(a))), len(next(iter(b))))
    return sorted({k[:length] for k in a} & {k[:length] for k in b})


def _example(form: dict[tuple, str], number: tuple) -> str:
    return next((n for k, n in sorted(form.items()) if k[: len(number)] == number), min(form.values()))


def _most(forms: dict[tuple, dict[tuple, str]], rivals: dict[tuple, tuple]) -> tuple | None:
    """The form of at least twice as many names as any other."""
    first, second = sorted(rivals, key=lambda f: -len(forms[f]))[:2]
    return first if len(forms[first]) >= 2 * len(forms[second]) else None


def _best_picture(folder: Path, example: dict[tuple, str]) -> tuple | None:
    """The only form with colours, else the form of the largest pictures."""
    seen = {form: look for form, name in example.items() if (look := _look(folder / name))}
    if len(seen) < len(example):
        return None
    coloured = [form for form, (colours, _) in seen.items() if colours]
    if len(coloured) == 1:
        return coloured[0]
    first, second = sorted(seen, key=lambda f: -seen[f][1])[:2]
    return first if seen[first][1] > seen[second][1] else None


def _look(file: Path) -> tuple[bool, int] | None:
    """Whether a picture has colours of its own, and how many pixels; None if that cannot be seen."""
    try:
        with Image.open(file) as image:
            return image.mode not in (
                "1",
                "L",
                "LA",
                "P",
                "PA",
                "I",
                "I;16",
                "I;16B",
                "F",
            ), image.width * image.height
    except UNREADABLE:
        return None
