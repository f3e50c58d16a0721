"""Which runs stand side by side in a comparison, and under which conditions they may be compared."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from chase_fast.errors import ChaseError
from chase_fast.report.files import common_kind, seed_folders
from chase_fast.report.run import Entry, Run
from chase_fast.report.search.read import read_search
from chase_fast.report.train.read import read_train
from chase_fast.report.words import plain

READ = {"train": read_train, "search": read_search}
# flags that decide what the compared loss measures: where they differ, the numbers do not compare
MEASURE = {
    "train": (
        "val",
        "image_size",
        "train_frames",
        "test_frames",
        "max_gap",
        "classifier",
        "filter_iterations",
    ),
    "search": ("holdout", "image_size", "train_frames", "test_frames", "classifier", "filter_iterations"),
}
SAMPLES = {
    "train": "val_batches",
    "search": "holdout_batches",
}  # times batch: COUNT, the samples of that loss
COUNT = "samples measured"
# flags that are compared themselves (the cell), label a run, or leave its result as it is
FREE = {
    *(
        "recipe",
        "cell",
        "channels",
        "flavour",
        "seed",
        "workers",
        "device",
        "threads",
        "channels_last",
        "compile",
    ),
    *("checkpoint_minutes", "checkpoint_iterations"),
}
VERSIONS = ("chase_fast", "torch")


@dataclass(frozen=True)
class Group:
    """Runs whose losses compare: the same command, validation data and measure."""

    kind: str
    entries: tuple[Entry, ...]
    measure: dict[str, str]  # {} where config.json is missing

    also: tuple[str, ...] = ()  # keys of `measure` that tell it from other groups

    @property
    def title(self) -> str:
        if not self.measure:
            return "unknown data"
        first = ("val" if self.kind == "train" else "holdout", "classifier", "image_size", COUNT)
        known = [self.measure.get(key, "?") for key in first]
        words = [*known[:2], f"{known[2]} px", f"{known[3]} samples"]
        return ", ".join(words + [f"{k} {self.measure.get(k, '?')}" for k in self.also if k not in first])


def open_entries(paths: Sequence[Path], names: Sequence[str] = ()) -> list[Entry]:
    """Reads every run of a comparison.

    Args:
        paths: folders of runs, or of seeds (seed_K).
        names: what to call them; none: by their folders.

    Raises:
        ChaseError: a folder is no run, has no epoch yet or unreadable files, or is named twice; the seeds of
            a folder were not measured alike.
    """
    if names and len(names) != len(paths):
        raise ChaseError(f"--names gives {len(names)} names for {len(paths)} runs; give one for each")
    resolved = [path.resolve() for path in paths]
    for i, path in enumerate(resolved):
        if path in resolved[:i]:
            raise ChaseError(f"{paths[i]} is given twice; give every run once")
    shown = list(names) or _names(resolved)
    if twice := sorted({name for name in shown if shown.count(name) > 1}):
        raise ChaseError(f"two runs are called {twice[0]}; give a different name to each with --names")
    return [_entry(name, path, number) for number, (name, path) in enumerate(zip(shown, paths))]


def _names(paths: Sequence[Path]) -> list[str]:
    """The last parts of the paths, as many as tell them apart."""
    depth = max(len(path.parts) for path in paths)
    for count in range(1, depth + 1):
        names = ["/".join(path.parts[-count:]) for path in paths]
        if len(set(names)) == len(names):
            return names
    return [str(path) for path in paths]


def _entry(name: str, path: Path, number: int) -> Entry:
    folders = seed_folders(path) or [path]
    kind = common_kind(path, folders)
    runs = [READ[kind](folder) for folder in folders]
    for run in runs:
        if run.problems:
            raise ChaseError(f"{run.path}: {run.problems[0]}; it cannot be compared until that is repaired")
    started = tuple(run for run in runs if run.series(run.LOSS))
    if not started:
        raise ChaseError(
            f"{path}: history.jsonl has no {runs[0].LOSS.replace('_', ' ')} yet; nothing to compare"
        )
    for key, values in conditions(started, kind).items():
        if len(values) > 1 and (key in MEASURE[kind] or key == COUNT):
            raise ChaseError(f"{path}: its seeds differ in {key} ({', '.join(values)}), so they have no mean")
    return Entry(name, path, kind, started, number)


def conditions(runs: Sequence[Run], kind: str) -> dict[str, list[str]]:
    """Values of every flag that matters, over the seeds; {} if no config.json says them."""
    found: dict[str, list[str]] = {}
    for run in runs:
        flags = run.config.get("config")
        if not isinstance(flags, dict):
            continue
        batch, batches = flags.get("batch"), flags.get(SAMPLES[kind])
        known = {k: v for k, v in flags.items() if k not in FREE and k != SAMPLES[kind]}
        if isinstance(batch, int) and isinstance(batches, int):
            known[COUNT] = batch * batches
        versions = run.config.get("versions")
        if isinstance(versions, dict):
            known |= {f"version of {k}": versions.get(k) for k in VERSIONS}
        known["commit"] = run.config.get("commit")
        for key, value in known.items():
            if (text := plain(value)) not in found.setdefault(key, []):
                found[key].append(text)
    return found


def groups(entries: Sequence[Entry]) -> list[Group]:
    """Entries by command and measure, in the order given; one without config.json stands alone."""
    sets: dict[tuple[str, object], list[Entry]] = {}
    measures: dict[tuple[str, object], dict[str, str]] = {}
    for entry in entries:
        known = conditions(entry.runs, entry.kind)
        measure = {k: known[k][0] for k in (*MEASURE[entry.kind], COUNT) if k in known}
        key: tuple[str, object] = (entry.kind, tuple(measure.items()) or entry.name)
        sets.setdefault(key, []).append(entry)
        measures[key] = measure
    made = []
    for key, found in sets.items():
        others = [measures[k] for k in sets if k[0] == key[0]]
        also = tuple(k for k in measures[key] if any(m and m.get(k) != measures[key][k] for m in others))
        made.append(Group(key[0], tuple(found), measures[key], also))
    return made


def differences(entries: Sequence[Entry]) -> list[tuple[str, list[str]]]:
    """(flag, value of every entry) where the entries, or the seeds of one, do not agree."""
    known = [conditions(entry.runs, entry.kind) for entry in entries]
    rows = []
    for key in dict.fromkeys(k for flags in known for k in flags):
        values = [" / ".join(flags.get(key, ["–"])) for flags in known]
        if len(set(values)) > 1 or any(len(flags.get(key, ())) > 1 for flags in known):
            rows.append((key, values))
    epochs = [sorted({run.last_epoch for run in entry.runs}) for entry in entries]
    if len({tuple(e) for e in epochs}) > 1 or any(len(e) > 1 for e in epochs):
        rows.append(("epochs run", [" / ".join(map(str, e)) for e in epochs]))
    return rows
