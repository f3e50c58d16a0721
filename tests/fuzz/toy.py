"""A toy command with planted faults, and a campaign over it: that the harness sees each of them.

`python -m tests.fuzz.toy` prints {fault: [word, reason]} as JSON. The command adds up the numbers of a file
and writes out/sum.json. Its clean input ends well whatever the fault; the damaged one ends in the fault.
"""

import json
import os
import signal
import sys
import tempfile
import time
from pathlib import Path

from tests.fuzz import server
from tests.fuzz.campaign import FRESH, Campaign
from tests.fuzz.judge import Case, Trial, said
from tests.fuzz.mutate import Mutation

CLEAN = "1\n2\n3\n"
LIMITS = server.Limits(seconds=2)
MEMORY_MB = 200


def _refuse(text: str) -> int:
    print(text, file=sys.stderr)
    return 2


def _traceback() -> int:
    raise ValueError("planted")


def _hang() -> int:
    time.sleep(600)
    return 0


def _memory() -> int:
    return len(bytearray(os.urandom(1)) * (MEMORY_MB << 20)) * 0


def _signal() -> int:
    os.kill(os.getpid(), signal.SIGSEGV)
    return 0


def _left_over() -> int:
    Path("out").mkdir()
    Path("out/.tmp-1-sum.json").write_text("{")
    return _refuse("error: in/data.txt: cut off")


def _temporary_file() -> int:
    tempfile.mkstemp()
    return _refuse("error: in/data.txt: cut off")


def _half_written() -> int:
    Path("out").mkdir()
    Path("out/sum.json").write_text('{"sum": ')
    return 0


def _changed_input() -> int:
    Path("in/data.txt").write_text(CLEAN)
    return _sum()


def _sum(wrong: int = 0, word: str = "") -> int:
    numbers = [
        int(token) for token in Path("in/data.txt").read_text(errors="ignore").split() if token.isdecimal()
    ]
    Path("out").mkdir(exist_ok=True)
    Path("out/sum.json").write_text(json.dumps({"sum": sum(numbers) + wrong}))
    if word:
        print(word, file=sys.stderr)
    return 0


FAULTS = {
    "traceback": _traceback,
    "hang": _hang,
    "memory": _memory,
    "silent": lambda: _sum(wrong=1000),
    "signal": _signal,
    "exit code": lambda: 3,
    "left over": _left_over,
    "temporary file": _temporary_file,
    "half-written": _half_written,
    "changed input": _changed_input,
    "two errors": lambda: _refuse("error: in/data.txt: cut off\nerror: in/data.txt: again"),
    "no error": lambda: 2,
    "noise": lambda: _refuse("[toy @ 0x1] moov atom not found\nerror: in/data.txt: cut off"),
    "unnamed": lambda: _refuse("error: something is wrong"),
    # what a good command does
    "refused": lambda: _refuse("warning: old format\nerror: in/data.txt: cut off"),
    "said": lambda: _sum(wrong=1000, word="warning: in/data.txt is cut off"),
}


def main(argv: list[str]) -> int:
    fault = argv[0].replace("_", " ")
    return _sum() if Path("in/data.txt").read_text(errors="ignore") == CLEAN else FAULTS[fault]()


def oracle(trial: Trial) -> str:
    """The sum is that of the numbers in the file, or the command said something."""
    path = trial.ending.box / "in/data.txt"
    numbers = [int(token) for token in path.read_text(errors="ignore").split() if token.isdecimal()]
    found = json.loads((trial.ending.box / "out/sum.json").read_text())["sum"]
    return "" if said(trial) or found == sum(numbers) else f"silent: {found} is not {sum(numbers)}"


def corpus(root: Path):
    folder = root / "corpus"
    folder.mkdir()
    (folder / "data.txt").write_text(CLEAN)
    return lambda name: folder


def cut(rng, folder: Path, targets: tuple[str, ...]) -> Mutation:
    """The last line is lost."""
    (folder / "data.txt").write_text(CLEAN[:4])
    return Mutation("data.txt", "cut off")


def outcomes(root: Path) -> dict[str, list]:
    """Of every fault, clean and damaged, and of one input that ends otherwise in a new Python."""
    cases = [Case(name, name, "data", name.replace(" ", "_"), ("data.txt",), oracle) for name in FAULTS]
    given = main, root / "work", root / "keep", LIMITS
    source = corpus(root)
    campaign = Campaign(cases, source, *given, fresh=False, damage=cut)
    found = {f"clean {o.kind}": o for o in campaign.clean(cases, 2)}
    found |= {o.kind: o for o in campaign.inputs(0, range(len(cases)), 2)}
    refused = [case for case in cases if case.name == "refused"]
    compared = Campaign(refused, source, *given, damage=cut)  # a new Python knows no such command
    compared.clean(refused, 1)
    (found["not the same in a new Python"],) = compared.inputs(0, [FRESH], 1)
    answer = {name: [o.word, o.reason] for name, o in found.items()}
    return answer | {"kept": sorted(p.name for p in (root / "keep").iterdir())}


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as name:
        print(json.dumps(outcomes(Path(name)), indent=1))
