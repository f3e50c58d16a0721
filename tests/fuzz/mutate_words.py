"""Damage of command lines: flags dropped, doubled and swapped, values that make no sense."""

import numpy as np

_VALUES = (
    "", " ", "-1", "0", "1", "-0.5", "1e999", "nan", "inf", "-inf", "2147483648", "99999999999999999999",
    "0x10", "1,2", "1,2,3,4,5", "nan,1,2,3", "1e308,1,1e308,1", "x", "é", "日本", "\udcff", "\n",
    "a" * 5000, "nowhere/x", "in", "in/", "..", "~nobody_of_this_name/x", "--", "-", "=", "%s", "{}",
    "*", "None", "true", "a:b:c:d", ":", "got10k:", "*0.5", "/dev/null", "/dev/null/x",
)  # fmt: skip
_FLAGS = (
    "--help",
    "--quiet",
    "--overwrite",
    "--resume",
    "--nothing",
    "-x",
    "--seed",
    "--out",
    "--seed=-1",
    "--json",
)


def change(rng: np.random.Generator, words: list[str]) -> tuple[list[str], str]:
    """words: behind the name of the command."""
    flags = [k for k, w in enumerate(words) if w.startswith("--")]
    values = [k for k, w in enumerate(words) if not w.startswith("--")]
    choice = int(rng.integers(10))
    if choice <= 3 and values:
        k = values[int(rng.integers(len(values)))]
        new = str(_VALUES[int(rng.integers(len(_VALUES)))])
        return [*words[:k], new, *words[k + 1 :]], f"{words[k]!r} is {new[:30]!r}"
    if choice == 4 and values:
        k = values[int(rng.integers(len(values)))]
        return words[:k] + words[k + 1 :], f"{words[k]!r} is missing"
    if choice == 5 and flags:
        k = flags[int(rng.integers(len(flags)))]
        end = k + 2 if k + 1 in values else k + 1
        return words[:k] + words[end:], f"{words[k]} is missing"
    if choice == 6 and flags:
        k = flags[int(rng.integers(len(flags)))]
        end = k + 2 if k + 1 in values else k + 1
        return words + words[k:end], f"{words[k]} stands there twice"
    if choice == 7 and len(words) > 1:
        k, j = (int(i) for i in rng.choice(len(words), 2, replace=False))
        words = list(words)
        words[k], words[j] = words[j], words[k]
        return words, f"{words[j]!r} and {words[k]!r} changed places"
    if choice == 8 and flags:
        k = flags[int(rng.integers(len(flags)))]
        letters = list(words[k])
        at = int(rng.integers(2, len(letters)))
        letters[at] = chr(97 + int(rng.integers(26)))
        return [*words[:k], "".join(letters), *words[k + 1 :]], f"{words[k]} is written {''.join(letters)}"
    k = int(rng.integers(len(words) + 1))
    new = str(_FLAGS[int(rng.integers(len(_FLAGS)))])
    return [*words[:k], new, *words[k:]], f"{new} at place {k}"
