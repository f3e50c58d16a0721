"""Command lines: a dataclass is a command, its fields are the flags. One rule for all commands.

* A flag is written --name VALUE or --name=VALUE (the second where the value begins with - and a letter).
* A list takes all words up to the next flag. Given again, it goes on: --data A --data B is --data A B.
* Any other flag is given once; two different values are an error.
* A switch is written --name or --no-name.
* Words that no flag takes belong to the fields marked `tyro.conf.Positional`, wherever they stand.

Words that are no such command end the process with exit code 2 after one line on standard error; a value that
its field cannot hold is a ChaseError, as every other wrong value is. tyro draws the help page.
"""

import dataclasses
import sys
from collections.abc import Sequence
from typing import Any, TypeVar, cast

from chase_fast import imports
from chase_fast.commandline.flags import Flag, flags_of, is_command
from chase_fast.commandline.values import convert
from chase_fast.commandline.words import Given, asks_for_help, read
from chase_fast.errors import ChaseError

T = TypeVar("T")


def parse(
    kind: type[T],
    argv: Sequence[str] | None,
    prog: str,
    description: str,
    default: T | None = None,
    usage: str = "",
) -> T:
    """The command that these words ask for.

    Args:
        kind: a dataclass; fields that are dataclasses are groups of flags.
        argv: the words after the command's name; None takes those of this process.
        default: where values come from that are not given; None: the fields' own defaults.
        usage: what else the help page shows after the command's name.

    Raises:
        SystemExit: 0 after --help; 2 after a flag that is unknown, missing, without its value or given twice.
        ChaseError: a value is none of its field.
    """
    try:
        words = imports.take(sys.argv[1:] if argv is None else argv)
    except ChaseError as e:
        raise _mistake(e, prog) from None
    flags = flags_of(kind, default)
    if asks_for_help(words):
        from chase_fast.commandline.page import show

        show(words, flags, kind, f"{prog} {usage}".rstrip(), f"{description}\n\n{imports.HELP}")
    imports.load()
    try:
        given = read(words, flags)
        given.settle_words(flags)
        _need_all(flags, given)
    except ChaseError as e:
        raise _mistake(e, prog) from None
    return _build(kind, default, flags, given)


def take_word(kind: type, argv: Sequence[str], prog: str) -> tuple[str | None, list[str]]:
    """The one word that belongs to no flag (the name of a recipe), None without one; and the other words.

    Raises:
        SystemExit: 2 after several such words, or after what `parse` would find.
    """
    try:
        words = imports.take(argv)
    except ChaseError as e:
        raise _mistake(e, prog) from None
    if asks_for_help(words):
        named = bool(words) and not words[0].startswith("-")
        return (words[0], words[1:]) if named else (None, words)
    try:
        given = read(words, flags_of(kind, None))
        if len(given.free) > 1:
            first, second = (words[place] for place in given.free[:2])
            raise ChaseError(
                f"one recipe can be named, {first!r} and {second!r} are two words without a flag"
            )
    except ChaseError as e:
        raise _mistake(e, prog) from None
    place = given.free[0] if given.free else None
    return (None if place is None else words[place]), [w for k, w in enumerate(words) if k != place]


def _mistake(error: ChaseError, prog: str) -> SystemExit:
    print(f"error: {' '.join(str(error).splitlines())} ({prog} --help explains)", file=sys.stderr)
    return SystemExit(2)


def _need_all(flags: Sequence[Flag], given: Given) -> None:
    missing = [f.shown for f in flags if f.required and f.field not in given.values]
    if missing:
        raise ChaseError(f"{' and '.join(missing)} {'is' if len(missing) == 1 else 'are'} missing")


def _build(kind: type[T], default: T | None, flags: Sequence[Flag], given: Given, group: str = "") -> T:
    """The dataclass with what was given, the rest from `default` or the fields' own defaults."""
    values: dict[str, Any] = {}
    for field in dataclasses.fields(cast(Any, kind)):
        if is_command(field.type):
            inner = None if default is None else getattr(default, field.name)
            values[field.name] = _build(field.type, inner, flags, given, field.name)
        elif default is not None:
            values[field.name] = getattr(default, field.name)
    for flag in flags:
        if flag.group == group and flag.field in given.values:
            values[flag.field] = convert(flag, given.values[flag.field])
    return kind(**values)
