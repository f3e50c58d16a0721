"""Command line: python -m tests.fuzz [--rounds R] [--inputs N] [--seed S] [--kind KIND] [--keep DIR] ..."""

import argparse
import json
import os
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from tests.fuzz import server

for _name in server.ONE_THREAD:  # before numpy and torch are imported: forks need a process of one thread
    os.environ[_name] = "1"

from tests.fuzz.campaign import Campaign, Outcome, plan  # noqa: E402
from tests.fuzz.cases import CASES, KINDS, SHORT  # noqa: E402
from tests.fuzz.corpus import Corpus  # noqa: E402
from tests.fuzz.judge import Case  # noqa: E402

WORDS = ("right", "refused", "failed")


def parse(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    parser.add_argument(
        "--rounds", type=int, default=1, help="rounds with the seeds S, S + 1 ... (default 1)"
    )
    parser.add_argument("--inputs", type=int, default=300, help="inputs of a round (default 300)")
    parser.add_argument("--seed", type=int, default=0, help="S, the first round's seed (default 0)")
    parser.add_argument("--kind", action="append", choices=KINDS, help="only this kind; may be repeated")
    parser.add_argument(
        "--only", type=int, action="append", help="only input N, with all that it printed; may be repeated"
    )
    parser.add_argument(
        "--jobs", type=int, default=os.cpu_count(), help="processes side by side (default one per core)"
    )
    parser.add_argument("--keep", type=Path, help="folder for the inputs that failed")
    parser.add_argument("--json", type=Path, help="file for a summary with every failure")
    parser.add_argument("--short", action="store_true", help="only a few quick cases of every kind")
    parser.add_argument("--verbose", action="store_true", help="print every input with its ending")
    return parser.parse_args(argv)


def numbers(arguments: argparse.Namespace, cases: Sequence[Case], seed: int) -> list[int]:
    """Inputs of a round: N of the kinds asked for, the first ones."""
    if arguments.only:
        return arguments.only
    kinds = list(dict.fromkeys(case.kind for case in cases))
    wanted = arguments.kind or kinds
    each = range(arguments.inputs * len(kinds))
    return [n for n in each if plan(cases, seed, n).kind in wanted][: arguments.inputs]


def table(outcomes: Sequence[Outcome]) -> str:
    counts = Counter((o.kind, o.word) for o in outcomes)
    rows = [["kind", "inputs", *WORDS]]
    for kind in dict.fromkeys(o.kind for o in outcomes):
        each = [counts[kind, word] for word in WORDS]
        rows.append([kind, str(sum(each)), *map(str, each)])
    each = [sum(o.word == word for o in outcomes) for word in WORDS]
    rows.append(["all", str(len(outcomes)), *map(str, each)])
    return "\n".join(f"{row[0]:14}" + "".join(f"{cell:>9}" for cell in row[1:]) for row in rows)


def told(outcome: Outcome, more_flags: str = "") -> str:
    head = f"{outcome.word} {outcome.kind}, {outcome.case}: {outcome.mutation}"
    more = [outcome.reason] if outcome.reason else []
    if outcome.word == "failed" and outcome.number >= 0:
        more.append(f"python -m tests.fuzz --seed {outcome.seed} --only {outcome.number}{more_flags}")
    return "\n  ".join([head, *more])


def campaign(arguments: argparse.Namespace, root: Path) -> list[Outcome]:
    """Runs all rounds; prints failures as they come."""
    main = server.warm()
    all_cases = SHORT if arguments.short else CASES
    run = Campaign(all_cases, Corpus(root / "corpus", main), main, root / "work", arguments.keep)
    rounds = range(arguments.seed, arguments.seed + arguments.rounds)
    chosen = {seed: numbers(arguments, all_cases, seed) for seed in rounds}
    cases = sorted({plan(all_cases, seed, n) for seed in rounds for n in chosen[seed]}, key=CASES.index)
    clean = run.clean(cases, arguments.jobs)
    for outcome in clean:
        if outcome.word == "failed":
            print(told(outcome), flush=True)
    print(f"{len(clean)} clean inputs, {sum(o.word == 'failed' for o in clean)} of them failed", flush=True)
    found = []
    for seed in rounds:
        start, mine = time.monotonic(), []
        for outcome in run.inputs(seed, chosen[seed], arguments.jobs):
            mine.append(outcome)
            if outcome.word == "failed" or arguments.only or arguments.verbose:
                print(told(outcome, " --short" if arguments.short else ""), flush=True)
            if arguments.only:
                print(outcome.printed, flush=True)
        found += mine
        print(
            f"\nseed {seed}: {len(mine)} inputs in {time.monotonic() - start:.0f} s\n{table(mine)}\n",
            flush=True,
        )
    return clean + found


def main(argv: Sequence[str] | None = None) -> int:
    """Exit code 1 if anything failed."""
    arguments = parse(argv)
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # ends the commands and removes their folders
    with tempfile.TemporaryDirectory(prefix="chase_fast_fuzz_") as name:
        outcomes = campaign(arguments, Path(name))
    if arguments.json:
        failures = [asdict(o) for o in outcomes if o.word == "failed"]
        inputs = [o for o in outcomes if o.number >= 0]
        counts = {kind: dict(Counter(o.word for o in inputs if o.kind == kind)) for kind in KINDS}
        arguments.json.write_text(
            json.dumps({"inputs": len(inputs), "kinds": counts, "failures": failures}, indent=1)
        )
    return 1 if any(o.word == "failed" for o in outcomes) else 0


if __name__ == "__main__":
    sys.exit(main())
