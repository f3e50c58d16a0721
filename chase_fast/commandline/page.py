"""The help page of a command, drawn by tyro."""

import dataclasses
from collections.abc import Sequence
from typing import Annotated, Any, NoReturn

import tyro

from chase_fast.commandline.flags import Flag

TITLES = {"": "", "config": "recipe", "options": "run"}  # group -> title of its box


def show(words: Sequence[str], flags: Sequence[Flag], kind: type, prog: str, description: str) -> NoReturn:
    """Prints the help page, or what tyro's own flags ask for, and ends the process."""
    groups = list(dict.fromkeys(f.group for f in flags))
    docs = {f.name: f.type.__doc__ for f in dataclasses.fields(kind)}
    inner = {g: _drawn(g, [f for f in flags if f.group == g], docs.get(g)) for g in groups}
    top = inner.get("") or dataclasses.make_dataclass("Command", [(TITLES[g], inner[g]) for g in groups])
    asked = words if words[0].startswith("--tyro-") else ["--help"]
    options = (tyro.conf.OmitArgPrefixes, tyro.conf.OmitSubcommandPrefixes)
    tyro.cli(top, args=list(asked), prog=prog, description=paragraphs(description), config=options)
    raise SystemExit(0)


def paragraphs(text: str) -> str:
    """A text whose lines are joined, but for indented ones and what follows them."""
    joined: list[str] = []
    for line in text.splitlines():
        if joined and joined[-1] and line and not joined[-1].startswith(" ") and not line.startswith(" "):
            joined[-1] += f" {line}"
        else:
            joined.append(line)
    return "\n".join(joined)


def _drawn(group: str, flags: Sequence[Flag], doc: str | None) -> type:
    """A dataclass whose help page is that of these flags; its values are texts, shown as they are."""
    return dataclasses.make_dataclass(
        group or "Command", [_field(f) for f in flags], namespace={"__doc__": doc}, kw_only=True
    )


def _field(flag: Flag) -> tuple[str, Any, Any]:
    hint = "(required)" if flag.required else _default(flag.default)
    if flag.kind is bool:
        switch: Any = bool if flag.default else tyro.conf.FlagCreatePairsOff[bool]
        return (
            flag.field,
            Annotated[switch, tyro.conf.arg(help=flag.help, help_behavior_hint=hint)],
            flag.default,
        )
    shown: Any = tyro.conf.Positional[str] if flag.positional else str
    about = tyro.conf.arg(metavar=flag.metavar, help=flag.help, help_behavior_hint=hint)
    value = dataclasses.field() if flag.required else dataclasses.field(default="")
    return flag.field, Annotated[shown, about], value


def _default(value: Any) -> str:
    """`(default: 3)`; nothing where the field is empty: its text says what that means."""
    if value is None or value is False or value in ("", ()):
        return ""
    text = "on" if value is True else " ".join(map(str, value)) if isinstance(value, tuple) else str(value)
    return f"(default: {text})"
