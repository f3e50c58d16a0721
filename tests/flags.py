"""Command lines of the tests: common flags, some of them changed. (A command refuses a flag given twice.)"""

from collections.abc import Iterable


def changed(words: Iterable[str], *flags: str) -> list[str]:
    """`words` without the flags that are given again in `flags`, then `flags`."""
    again = {_name(flag) for flag in flags if flag.startswith("--")}
    kept, keep = [], True
    for word in words:
        if word.startswith("--"):
            keep = _name(word) not in again
        if keep:
            kept.append(word)
    return [*kept, *flags]


def _name(flag: str) -> str:
    return flag.partition("=")[0].removeprefix("--").removeprefix("no-")
