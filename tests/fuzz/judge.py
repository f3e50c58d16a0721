"""What counts as a clean ending.

* right: exit code 0, nothing left over, and the case's oracle (oracles_*.py) finds no silent wrong result;
* refused: exit code 2 and on standard error exactly one line `error: ...` that names the file, a folder of
  it, or what is wrong in the command line; lines `warning: ...` may stand beside it. The doctor has a form of
  its own: it lists `bad: ...` lines on standard output;
* failed: everything else: a traceback, another exit code, a signal, a hang, memory, other lines, temporary
  files, half-written results, a changed input, or a silent wrong result.

Memory may grow by twice what the clean input takes and 64 MB. `evaluate` may end with code 1 and several
error lines where sequences could not be tracked; a command that asks for hours of work gets Ctrl-C and must
end with code 130.
"""

import json
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from tests.fuzz.mutate import Mutation
from tests.fuzz.server import Ending, call

SLACK_MB = 64.0
_MASKED = re.compile(r"[\d.,%–]+|\bnan\b")
_OF_THE_HARNESS = {"in", "home", "cache", "tmp", "stdout", "stderr", "start_mb"}


@dataclass(frozen=True)
class Case:
    """kind: line of the table. name: of the case. clean: of the input in corpus.py. command: words.

    targets: globs below the input of the files that are damaged; none: the command line itself. polite:
    seconds until Ctrl-C. leaves_input: the command must not write in its input.
    """

    kind: str
    name: str
    clean: str
    command: str
    targets: tuple[str, ...] = ()
    oracle: "Oracle | None" = None
    polite: float | None = None
    leaves_input: bool = True


@dataclass(frozen=True)
class Trial:
    """An input that was run. clean: how the undamaged input ends; None while that is found out."""

    case: Case
    argv: tuple[str, ...]
    mutation: Mutation
    ending: Ending
    clean: Ending | None
    before: dict[str, tuple]

    @property
    def path(self) -> Path:
        """The mutated file."""
        return self.ending.box / "in" / self.mutation.path

    @property
    def clean_path(self) -> Path:
        """The same file of the clean input."""
        return self.clean.box / "in" / self.mutation.path


@dataclass(frozen=True)
class Verdict:
    """word: right, refused or failed; reason: of a failure, or the line of a refusal."""

    word: str
    reason: str = ""


Oracle = Callable[[Trial], str]  # what is wrong, or an empty text


def lines_of(ending: Ending) -> set[str]:
    """All lines that a command said, without their numbers."""
    text = ending.stdout + "\n" + ending.stderr
    return {" ".join(_MASKED.sub("#", line).split()) for line in text.splitlines() if line.strip()}


def said(trial: Trial) -> bool:
    """Whether the command said anything that it does not say of the clean input: then it was not silent."""
    return trial.clean is not None and not lines_of(trial.ending) <= lines_of(trial.clean)


def contents(folder: Path) -> dict[str, tuple]:
    """Size and time of every file below a folder: what is compared to see that an input is left alone."""
    return {
        p.relative_to(folder).as_posix(): (s.st_mode, s.st_size, s.st_mtime_ns)
        if not p.is_dir()
        else ("folder",)
        for p in sorted(folder.rglob("*"))
        for s in (p.lstat(),)
    }


def judge(trial: Trial) -> Verdict:
    for check in (_ended, _memory, _leftovers, _input):
        if reason := check(trial):
            return Verdict("failed", reason)
    if trial.ending.code == 2 or (trial.ending.code == 1 and trial.argv[0] == "evaluate"):
        reason, line = _refusal(trial)
        return Verdict("failed", reason) if reason else Verdict("refused", line)
    if trial.case.oracle and trial.ending.code == 0:
        try:
            reason = call(trial.case.oracle, trial)
        except RuntimeError as e:
            reason = f"the oracle ended with {str(e)[-2000:]}"
        if reason:
            return Verdict("failed", reason)
    return Verdict("right", "interrupted" if trial.ending.interrupted else "")


def _ended(trial: Trial) -> str:
    ending = trial.ending
    if ending.killed:
        return ending.killed
    if ending.signal:
        return f"ended by signal {ending.signal}"
    for text in (ending.stderr, ending.stdout):
        if "Traceback (most recent call last)" in text:
            return f"traceback: {text.rstrip().splitlines()[-1][:200]}"
    codes = (
        {0, 2} | ({1} if trial.argv[0] == "evaluate" else set()) | ({130} if ending.interrupted else set())
    )
    return "" if ending.code in codes else f"exit code {ending.code}: {ending.stderr.strip()[-200:]}"


def _memory(trial: Trial) -> str:
    if trial.clean is None:
        return ""
    allowed = 2 * trial.clean.grown_mb + SLACK_MB
    grown = trial.ending.grown_mb
    if not grown > allowed:
        return ""
    return f"memory: {grown:.0f} MB more, clean {trial.clean.grown_mb:.0f}, allowed {allowed:.0f}"


def _leftovers(trial: Trial) -> str:
    box = trial.ending.box
    for path in sorted(box.rglob("*")):
        place = path.relative_to(box)
        if path.name.startswith(".tmp-") or (place.parts[0] == "tmp" and len(place.parts) == 2):
            return f"left over: {place}"
    new = [p for p in sorted(box.rglob("*.json")) if p.relative_to(box).parts[0] not in _OF_THE_HARNESS]
    for path in new:
        try:
            json.loads(path.read_bytes())
        except (ValueError, OSError) as e:
            return f"half-written: {path.relative_to(box)} ({e})"
    return _unstarted(trial, box / "out") if trial.ending.code == 2 else ""


def _unstarted(trial: Trial, out: Path) -> str:
    """What a refused command has left in its folder, unless that is a result."""
    command = trial.argv[0]
    if not out.exists() or command not in ("search", "train", "track", "convert"):
        return ""
    if command == "track":
        rows = [len(p.read_text().splitlines()) for p in out.glob("boxes*.txt")]
        if rows and (out / "result.json").is_file():
            frames = len(json.loads((out / "result.json").read_text())["frames"])
            return "" if set(rows) == {frames} else f"half-written: boxes {rows} of {frames} frames"
    elif (out / "history.jsonl").is_file():
        return ""
    return f"left over: out with {', '.join(sorted(p.name for p in out.iterdir())) or 'nothing'}"


def _input(trial: Trial) -> str:
    if not trial.case.leaves_input:
        return ""
    after = contents(trial.ending.box / "in")
    changed = [k for k in trial.before.keys() | after.keys() if trial.before.get(k) != after.get(k)]
    return f"the input was changed: {', '.join(sorted(changed)[:3])}" if changed else ""


def _refusal(trial: Trial) -> tuple[str, str]:
    """(why it is none, the line of the refusal)."""
    ending = trial.ending
    lines = [line for line in ending.stderr.splitlines() if line.strip()]
    errors = [line for line in lines if line.startswith("error: ")]
    others = [line for line in lines if not line.startswith(("error: ", "warning: "))]
    if others:
        return f"a line that is neither error nor warning: {others[0][:200]}", ""
    if trial.argv[0] == "doctor" and not errors and "bad: " in ending.stdout:
        errors = [line.strip() for line in ending.stdout.splitlines() if "bad: " in line][:1]
    if len(errors) != 1 and not (ending.code == 1 and errors):
        return f"{len(errors)} error lines with exit code {ending.code}", ""
    if not any(_named(name, line) for line in errors for name in _names(trial)):
        return f"the error names neither file nor flag: {errors[0][:200]}", ""
    return "", errors[0]


def _names(trial: Trial) -> set[str]:
    """What a clear error mentions one of: the file, its folders, a path or flag of the command line."""
    path = Path(trial.mutation.path)
    names = {*path.parts, path.stem} if trial.mutation.path else {*trial.argv[1:], "--help"}
    names |= {part for word in trial.argv[1:] if "/" in word for part in re.split(r"[/:=*]", word)}
    return names - {"", "in"}


def _named(name: str, line: str) -> bool:
    """Whether a line holds a name as a word of its own."""
    return re.search(rf"(?<!\w){re.escape(name)}(?!\w)", line) is not None
