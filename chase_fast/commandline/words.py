"""The words of a command line, sorted by the flags that take them."""

import difflib
import re
from collections.abc import Sequence
from dataclasses import dataclass, field

from chase_fast.commandline.flags import Flag
from chase_fast.errors import ChaseError

HELP = ("-h", "--help")
COMPLETION = "--tyro-"  # tyro's own flags that print shell completions


@dataclass
class Given:
    """What was given: field -> its words (True or False of a switch), and the places of all other words."""

    words: list[str]
    values: dict[str, list[str] | bool] = field(default_factory=dict)
    free: list[int] = field(default_factory=list)
    tails: list[tuple[str, int]] = field(default_factory=list)  # lists of several words, where they end

    def settle_words(self, flags: Sequence[Flag]) -> None:
        """Gives the words without a flag to the positional fields.

        A list takes all words that follow it: where a field lacks its word, the last one of the last list of
        several words is meant (--box 1,2,3,4 video.mp4).

        Raises:
            ChaseError: a word is left over.
        """
        wanted = [f for f in flags if f.positional]
        singles = [f for f in wanted if not f.many]
        if len(self.free) == len(singles) - 1 and self.tails and singles[-1].required:
            name, place = self.tails.pop()
            values = self.values[name]
            assert isinstance(values, list), "switches have no tail"
            values.pop()
            self.free = sorted((*self.free, place))
        free = [self.words[place] for place in self.free]
        for flag in wanted:
            if taken := free if flag.many else free[:1]:
                self.values[flag.field], free = taken, free[len(taken) :]
        if free:
            raise ChaseError(f"{free[0]!r} belongs to no flag")


def asks_for_help(words: Sequence[str]) -> bool:
    before = words[: words.index("--")] if "--" in words else words
    return any(w in HELP for w in before) or any(w.startswith(COMPLETION) for w in words[:1])


def is_flag(word: str) -> bool:
    """-5, -.5 and - are values."""
    return re.match(r"--.|-[^\W\d]", word) is not None


def read(words: Sequence[str], flags: Sequence[Flag]) -> Given:
    """Sorts the words.

    Raises:
        ChaseError: an unknown flag, a value too few, or a flag that is no list given twice.
    """
    known = {f.name: (f, True) for f in flags if not f.positional}
    known |= {f"--no-{f.name[2:]}": (f, False) for f in flags if f.kind is bool and not f.positional}
    given, place = Given(list(words)), 0
    while place < len(words):
        word, place = words[place], place + 1
        if word == "--":
            given.free += range(place, len(words))
            break
        if not is_flag(word):
            given.free.append(place - 1)
            continue
        name, attached, value = word.partition("=")
        name = name.replace("_", "-")
        if name not in known:
            raise _unknown(name, list(known))
        flag, on = known[name]
        if flag.kind is bool:
            if attached:
                raise ChaseError(f"{name} is a switch and takes no value")
            _once(given, flag, name, on)
            continue
        end = place
        while end < len(words) and not is_flag(words[end]) and words[end] != "--":
            end += 1
        end = end if flag.many else min(end, place + (not attached))
        values = [value] * bool(attached) + list(words[place:end])
        if not values:
            raise ChaseError(f"{name} needs a value{_dashed(name, words, place)}")
        if flag.many:
            before = given.values.setdefault(flag.field, [])
            assert isinstance(before, list), "no list is a switch"
            before += values
            given.tails += [(flag.field, end - 1)] if len(values) > 1 else []
        else:
            _once(given, flag, name, values)
        place = end
    return given


def _once(given: Given, flag: Flag, name: str, value: list[str] | bool) -> None:
    before = given.values.setdefault(flag.field, value)
    if before != value:
        both = "as --X and --no-X"
        if isinstance(before, list) and isinstance(value, list):
            both = f"{before[0]!r} and {value[0]!r}"
        raise ChaseError(f"{name} is given twice, {both.replace('X', flag.name[2:])}: give it once")


def _dashed(name: str, words: Sequence[str], place: int) -> str:
    """A hint where the next word may have been meant as a value."""
    meant = next(iter(words[place : place + 1]), "--")
    return "" if meant.startswith("--") else f"; one that begins with - is written {name}={meant}"


def _unknown(name: str, known: list[str]) -> ChaseError:
    near = difflib.get_close_matches(name, known, 1)
    return ChaseError(f"there is no flag {name}" + (f", did you mean {near[0]}?" if near else ""))
