"""The tables of a comparison: losses, differences of pairs, sizes and speed, conditions that differ."""

import itertools
import statistics
from collections.abc import Callable, Sequence

from chase_fast.draw.charts import label
from chase_fast.report.compare.entries import Group, differences
from chase_fast.report.run import Entry
from chase_fast.report.spread import Difference, Spread, difference, spread
from chase_fast.report.tables import Table
from chase_fast.report.train.read import TERMS, TrainRun
from chase_fast.report.train.views import WORDS
from chase_fast.report.words import amounts, memory, span, with_deviation

LOWEST, LAST, CHOSEN = "lowest validation loss", "last epoch", "chosen epoch"


def losses_of(entry: Entry, key: str, last: bool = False) -> list[float | None]:
    """Value of every seed in its chosen epoch, or in the last one that was validated."""
    if last:
        return [run.at(max(run.evaluated, default=None), key) for run in entry.runs]
    return [run.at(run.chosen, key) for run in entry.runs]


def measured(entry: Entry, last: bool = False) -> Spread | None:
    """The loss that runs are compared by, over the seeds."""
    return spread(losses_of(entry, entry.runs[0].LOSS, last))


def lowest(group: Group) -> int | None:
    """Place of the finished entry with the lowest mean, None if there are none to rank."""
    finished = [(i, e) for i, e in enumerate(group.entries) if not e.unfinished]
    means = {i: found.mean for i, e in finished if (found := measured(e))}
    return min(means, key=means.__getitem__) if len(means) > 1 else None


def losses(group: Group, last: bool = False) -> Table:
    """Losses of a group of trainings; the lowest mean stands out."""
    terms = ("loss", *TERMS)
    best = None if last else lowest(group)
    rows = []
    for entry in group.entries:
        epochs = sorted({max(r.evaluated, default=0) if last else r.chosen or 0 for r in entry.runs})
        values = [with_deviation(spread(losses_of(entry, f"val_{t}", last))) for t in terms]
        rows.append([entry.name, entry.seeds(), span(epochs), *values])
        if not last:
            rows[-1].append(against(group, entry, best))
    head = ["run", "seeds", "epoch", *(WORDS[t] for t in terms)] + ([] if last else ["to the lowest mean"])
    also = frozenset() if last else frozenset({len(head) - 1})
    looks = [entry.look for entry in group.entries]
    title = f"Validation losses, {'last validated epoch' if last else 'epoch of the lowest'}"
    return Table(title, "", head, rows, also=also, looks=looks, strong=best)


def searches(group: Group) -> Table:
    """Hold-out losses of a group of searches."""
    best, rows = lowest(group), []
    for entry in group.entries:
        counts = [run.operations() for run in entry.runs if run.genotype]
        free = span(sorted({f for _, f, _ in counts})) + f" of {span(sorted({g for *_, g in counts}))}"
        rows.append(
            [
                entry.name,
                entry.seeds(),
                span(sorted({run.chosen for run in entry.runs if run.chosen is not None})),
                with_deviation(spread(run.row0 for run in entry.runs)),
                with_deviation(measured(entry)),
                free if counts else "–",
                against(group, entry, best),
            ]
        )
    head = ["run", "seeds", "epoch", "row 0", "hold-out loss", "weight-free", "to the lowest mean"]
    looks = [entry.look for entry in group.entries]
    title = "Hold-out losses in the epoch the cell was taken from"
    return Table(title, "", head, rows, also=frozenset({6}), looks=looks, strong=best)


def against(group: Group, entry: Entry, best: int | None) -> str:
    """One phrase on the distance of an entry to the best one of its group."""
    if entry.unfinished:
        return "not finished"
    leader = group.entries[best] if best is not None else None
    found, least = measured(entry), measured(leader) if leader else None
    if found is None or least is None:
        return "–"
    if leader is entry:
        return "lowest"
    gap = difference(found, least)
    if gap.half_width is None:
        return f"{gap.value:+.3g}, one seed each"
    return f"{gap.value:+.3g}, {'beyond' if gap.beyond else 'within'} seed noise"


def pairs(group: Group) -> Table | None:
    """Difference of the means of every pair, in the chosen and (trainings) in the last epoch."""
    stages = [(CHOSEN, False)] if group.kind == "search" else [(LOWEST, False), (LAST, True)]
    rows = []
    for a, b in itertools.combinations(group.entries, 2):
        for words, last in stages:
            first, second = measured(a, last), measured(b, last)
            if first is None or second is None:
                continue
            gap = difference(first, second)
            value, half = f"{gap.value:+.3g}", gap.half_width
            interval = f"{gap.value - half:+.3g} .. {gap.value + half:+.3g}" if half is not None else "–"
            pooled = f"{gap.pooled:+.2f}" if gap.pooled is not None else "–"
            rows.append([f"{a.name} − {b.name}", words, value, interval, pooled, reading(a, b, gap)])
    head = ["pair", "taken at", "difference", "95 % interval", "in pooled deviations", "reading"]
    note = (
        "Difference of the means over the seeds. Within seed noise: the 95 % interval (Student, equal "
        "deviations, seeds unpaired, no correction for the number of pairs) contains 0. With few seeds only "
        "large differences can stand out."
    )
    return Table("Differences between pairs", note, head, rows, 2, frozenset({5})) if rows else None


def reading(a: Entry, b: Entry, gap: Difference) -> str:
    """What a difference lets one say, and what it does not."""
    if a.unfinished or b.unfinished:
        return "none: not finished"
    lower = a.name if gap.value < 0 else b.name
    words = f"beyond seed noise: {lower} is lower" if gap.beyond else gap.verdict
    return words + ("; but settings differ" if budget([a, b]) else "")


def budget(entries: Sequence[Entry]) -> list[str]:
    """Names of the settings that differ, without versions and commit."""
    return [k for k, _ in differences(entries) if k != "commit" and not k.startswith("version of ")]


def sizes(entries: Sequence[Entry]) -> Table:
    """Parameters, MACs, speed and memory of trainings, ranges over the seeds."""
    rows = []
    for entry in entries:
        sizes = [
            amounts([run.size(what, part) for run in entry.runs if isinstance(run, TrainRun)])
            for what in ("parameters", "macs")
            for part in ("neck", "total")
        ]
        between = " / ".join(dict.fromkeys(run.neck for run in entry.runs))
        rate, peak = perf(entry, "samples_per_second", statistics.median), perf(entry, "peak_memory_mb", max)
        fast = [label(round(rate, 2)) if rate is not None else "–", memory(peak) if peak is not None else "–"]
        rows.append([entry.name, between, *sizes, *fast])
    head = [
        "run",
        "between backbone and classifier",
        "parameters there",
        "in all",
        "MACs there",
        "in all",
        "samples/s",
        "peak memory",
    ]
    note = "MACs: multiply-accumulates for one frame. Samples per second: median over epochs and seeds."
    looks = [entry.look for entry in entries]
    return Table("Size, cost and speed", note, head, rows, 2, looks=looks)


def perf(entry: Entry, key: str, over: Callable) -> float | None:
    values = [v for run in entry.runs for _, v in run.costs(key)]
    return over(values) if values else None


def conditions(entries: Sequence[Entry]) -> Table | None:
    """Flags in which the entries differ, None if they agree."""
    rows = [[key, *values] for key, values in differences(entries)]
    head = ["setting", *(entry.name for entry in entries)]
    return Table("Settings that differ", "", head, rows, words=len(head)) if rows else None


def warnings(entries: Sequence[Entry], groups: Sequence[Group]) -> list[str]:
    """What a reader must know before comparing, one sentence each."""
    lines = []
    for kind, words in (("train", "trainings"), ("search", "searches")):
        count = sum(group.kind == kind for group in groups)
        if count > 1:
            lines.append(
                f"The {words} fall into {count} groups with different validation data or measures; losses of "
                "different groups do not compare and are not ranked against each other."
            )
        same = [e for e in entries if e.kind == kind]
        if len(same) > 1 and (keys := [key for key, _ in differences(same)]):
            lines.append(f"The {words} differ in more than what is compared: {', '.join(keys)}.")
    for entry in entries:
        if entry.unfinished:
            states = ", ".join(dict.fromkeys(run.status for run in entry.runs))
            lines.append(
                f"{entry.name} is not finished ({entry.seeds('seed')}; {states}): its numbers may change."
            )
        if any(not run.config for run in entry.runs):
            lines.append(f"{entry.name} has no config.json: under which conditions it ran is unknown.")
    return lines
