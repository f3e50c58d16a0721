"""Plans inputs, runs them, judges them. Input N of seed S is the same input whatever else is run."""

import json
import multiprocessing
import shutil
import signal
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np

from tests.fuzz import mutate_words
from tests.fuzz.judge import Case, Trial, Verdict, contents, judge
from tests.fuzz.mutate import Mutation, mutate
from tests.fuzz.server import Ending, Limits, Main, run

_LIMITS = Limits()
_SHOWN = 2000  # characters
FRESH_EVERY, FRESH = 21, 5  # of so many inputs this one also runs in a new Python, which must end alike


@dataclass(frozen=True)
class Outcome:
    """What is told of one input. number: -1 for the clean input of a case. printed: the end of its output."""

    seed: int
    number: int
    kind: str
    case: str
    mutation: str
    word: str
    reason: str
    seconds: float
    command: tuple[str, ...]
    printed: str


def plan(cases: Sequence[Case], seed: int, number: int) -> Case:
    """The case of an input: kinds take turns, and the cases of a kind."""
    kinds = list(dict.fromkeys(case.kind for case in cases))
    own = [case for case in cases if case.kind == kinds[number % len(kinds)]]
    return own[(number // len(kinds) + 30 * seed) % len(own)]


class Campaign:
    """Runs inputs in folders below `root`.

    Args:
        corpus: name of a clean input -> its folder.
        main: what is run (see server.run).
        keep: where the folders of failed inputs go.
        fresh: whether some inputs also run in a Python of their own.
        damage: what changes an input.
    """

    def __init__(
        self,
        cases: Sequence[Case],
        corpus: Callable[[str], Path],
        main: Main,
        root: Path,
        keep: Path | None = None,
        limits: Limits = _LIMITS,
        fresh: bool = True,
        damage: Callable[[np.random.Generator, Path, tuple[str, ...]], Mutation] = mutate,
    ):
        self.cases, self._corpus, self._main = cases, corpus, main
        self._root, self._keep, self._limits = root, keep, limits
        self._fresh, self._damage = fresh, damage
        self._clean: dict[tuple[str, str], Ending] = {}

    def clean(self, cases: Sequence[Case], jobs: int) -> list[Outcome]:
        """Runs the undamaged inputs, which all others are compared with, and judges them."""
        cases = [case for case in dict.fromkeys(cases) if (case.kind, case.name) not in self._clean]
        for case in cases:  # before the processes share them
            self._corpus(case.clean)
            self._words(case)
        found = list(_spread(self._clean_one, cases, jobs))
        self._clean |= {(o.kind, o.case): ending for o, ending in found}
        return [outcome for outcome, _ in found]

    def inputs(self, seed: int, numbers: Sequence[int], jobs: int) -> Iterator[Outcome]:
        """The outcomes of inputs, as they come."""
        return _spread(self._input, [(seed, number) for number in numbers], jobs)

    def _words(self, case: Case) -> list[str]:
        known = {}
        if "{net}" in case.command:
            known["net"] = self._corpus("net/train") / "best.safetensors"
        if "{frames}" in case.command:
            known["frames"] = self._corpus("images/png") / "frames/walk"
        return case.command.format(**known).split()

    def _box(self, name: str, case: Case) -> Path:
        box = self._root / name / "box"
        shutil.rmtree(box.parent, ignore_errors=True)
        box.mkdir(parents=True)
        shutil.copytree(self._corpus(case.clean), box / "in")
        return box

    def _clean_one(self, case: Case) -> tuple[Outcome, Ending]:
        box = self._box(f"clean/{case.kind}/{case.name}", case)
        words, before = self._words(case), contents(box / "in")
        ending = run(self._main, words, box, replace(self._limits, polite=None))
        trial = Trial(case, tuple(words), Mutation("", "clean"), ending, None, before)
        verdict = judge(trial)
        if verdict.word == "refused":
            verdict = Verdict("failed", f"a clean input is refused: {verdict.reason}")
        outcome = _outcome(0, -1, trial, verdict)
        if verdict.word == "failed":
            self._kept(outcome, trial)
        return outcome, ending

    def _input(self, item: tuple[int, int]) -> Outcome:
        seed, number = item
        trial, verdict = self._tried(seed, number, self._main, f"{seed}-{number}")
        if self._fresh and number % FRESH_EVERY == FRESH and verdict.word != "failed":
            again, other = self._tried(seed, number, None, f"{seed}-{number}-fresh")
            reason = other.reason.replace(str(again.ending.box), str(trial.ending.box))
            if (again.ending.code, reason) != (trial.ending.code, verdict.reason):
                text = f"exit code {again.ending.code}, {other.word}: {other.reason}"
                verdict = Verdict("failed", f"a new Python ends in another way: {text}")
            shutil.rmtree(again.ending.box.parent)
        outcome = _outcome(seed, number, trial, verdict)
        if verdict.word == "failed":
            self._kept(outcome, trial)
        shutil.rmtree(trial.ending.box.parent)
        return outcome

    def _tried(self, seed: int, number: int, main: Main | None, name: str) -> tuple[Trial, Verdict]:
        case = plan(self.cases, seed, number)
        rng = np.random.default_rng([seed, number])
        box, words = self._box(name, case), self._words(case)
        if case.targets:
            mutation = self._damage(rng, box / "in", case.targets)
        else:
            changed, text = mutate_words.change(rng, words[1:])
            words, mutation = [words[0], *changed], Mutation("", text)
        before = contents(box / "in")
        ending = run(main, words, box, replace(self._limits, polite=case.polite))
        clean = self._clean[case.kind, case.name]
        trial = Trial(case, tuple(words), mutation, ending, clean, before)
        return trial, judge(trial)

    def _kept(self, outcome: Outcome, trial: Trial) -> None:
        """Copies the folder of a failed input, with what was done in input.json."""
        if self._keep is None:
            return
        name = (
            f"seed{outcome.seed}-{outcome.number}"
            if outcome.number >= 0
            else f"clean-{outcome.kind}-{outcome.case}"
        )
        target = self._keep / name.replace("/", "_").replace(" ", "_")
        shutil.rmtree(target, ignore_errors=True)
        shutil.copytree(trial.ending.box, target, symlinks=True, ignore=_special)
        (target / "input.json").write_text(json.dumps(asdict(outcome), indent=1) + "\n")


def _special(folder: str, names: list[str]) -> list[str]:
    """Pipes cannot be copied."""
    return [name for name in names if (Path(folder) / name).is_fifo()]


def _outcome(seed: int, number: int, trial: Trial, verdict: Verdict) -> Outcome:
    case, mutation, ending = trial.case, trial.mutation, trial.ending
    what = f"{mutation.path}: {mutation.text}" if mutation.path else mutation.text
    printed = ending.stdout[-_SHOWN:] + ending.stderr[-_SHOWN:]
    words = case.kind, case.name, what, verdict.word, verdict.reason
    return Outcome(seed, number, *words, ending.seconds, trial.argv, printed)


_task: Callable = None  # of the worker processes, which inherit it: it needs no pickling


def _work(item):
    return _task(item)


def _spread(task: Callable, items: Sequence, jobs: int) -> Iterator:
    """Results of `task` for all items, in worker processes of one thread each, as they come."""
    global _task
    if not items:
        return
    _task = task
    context = multiprocessing.get_context("fork")
    with context.Pool(jobs, signal.signal, (signal.SIGTERM, signal.default_int_handler)) as pool:
        yield from pool.imap_unordered(_work, items)
        pool.close()
        pool.join()
