"""tracker.json in a folder of results: which tracker made them, how it was set, what it was trained on."""

from pathlib import Path
from typing import Any

from chase_fast.fields import Fields, read_object

ABOUT = "tracker.json"
UNKNOWN = "its own result files"


def read_about(folder: Path) -> Fields | None:
    """What tracker.json says; None without one. Raises ChaseError if it cannot be read."""
    try:
        return read_object(folder / ABOUT)
    except FileNotFoundError:
        return None


def described(about: Fields | None) -> str:
    """How a tracker was run, in one line.

    Raises:
        ChaseError: it is not what this package writes.
    """
    if about is None:
        return UNKNOWN
    parts = []
    if "checkpoint" in about:
        parts.append(f"checkpoint {about.text('checkpoint')[:12]}, preset {about.text('preset')}")
        parts[0] += f", {about.text('precision', 'fp32')}"
        parts[0] += f" by {about.text('engine')}" if "engine" in about else ""
    elif "opencv" in about:
        parts.append(f"OpenCV {about.text('version')} {about.text('opencv')}")
    return "; ".join([*parts, *about.texts("measured_with", [])]) or UNKNOWN


def trained_on(about: Fields | None, names: list[str]) -> dict[str, list[str]] | None:
    """Role (train, val, init) -> those of the sequences that the tracker has seen; None: not known."""
    stored = None if about is None else about.inner("trained_on", None)
    if stored is None:
        return None
    here = set(names)
    seen: dict[str, Any] = {role: [n for n in stored.texts(role) if n in here] for role in ("train", "val")}
    return seen | {"init": stored.texts("init")}


def notice(seen: dict[str, list[str]] | None, scored: int) -> str:
    """What a reader of the scores must know about it, in one line; empty where there is nothing."""
    if not seen or not (seen["train"] or seen["val"]):
        return ""
    parts = []
    if count := len(seen["train"]):
        parts.append(f"trained on {count} of these {scored} sequences ({_some(seen['train'])})")
    if count := len(seen["val"]):
        parts.append(f"its epoch was chosen on {count} of these {scored} sequences ({_some(seen['val'])})")
    if seen["init"]:
        parts.append(f"it began from {', '.join(seen['init'])}, of which this is not known")
    return "; ".join(parts)


def _some(names: list[str]) -> str:
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")
