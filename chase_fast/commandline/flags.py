"""The flags of a command, from the fields of its dataclass and the docstrings below them."""

import ast
import dataclasses
import functools
import inspect
import itertools
import types
import typing
from pathlib import Path
from typing import Any, Literal, TypeGuard

import tyro

METAVARS = {str: "TEXT", int: "N", float: "X", Path: "PATH"}


@dataclasses.dataclass(frozen=True)
class Flag:
    """One field of a command.

    Attributes:
        field: its name; group: that of the dataclass it is in, "" for the command itself.
        kind: type of one value: str, int, float, bool, Path or a Literal.
        many: a list of values. positional: its values are given without a flag.
        required, default: whether it must be given, and what it is if it is not.
        metavar, help: for the help page.
    """

    field: str
    group: str
    kind: Any
    many: bool
    positional: bool
    required: bool
    default: Any
    metavar: str
    help: str

    @property
    def name(self) -> str:
        """--flag-name"""
        return f"--{self.field.replace('_', '-')}"

    @property
    def shown(self) -> str:
        """What it is called in messages."""
        return self.metavar if self.positional else self.name

    @property
    def choices(self) -> dict[str, Any]:
        """How the values of a Literal are written -> the values; empty for any other type."""
        return _choices(self.kind)


def is_command(kind: Any) -> TypeGuard[type]:
    """Whether the type of a field is a group of flags."""
    return isinstance(kind, type) and dataclasses.is_dataclass(kind)


def flags_of(kind: type, default: Any = None, group: str = "") -> list[Flag]:
    """The flags of a dataclass and of its groups, in order; fields marked `tyro.conf.Suppress` have none."""
    hints, texts, found = typing.get_type_hints(kind, include_extras=True), field_docs(kind), []
    for field in dataclasses.fields(kind):
        given = None if default is None else getattr(default, field.name)
        if is_command(field.type):
            found += flags_of(field.type, given, field.name)
            continue
        one, many, extras = _unpacked(hints[field.name])
        if tyro.conf.Suppress in extras:
            continue
        named = next((m for e in extras if (m := getattr(e, "metavar", None))), None)
        value = field.default if default is None else given
        found.append(
            Flag(
                field.name,
                group,
                one,
                many,
                tyro.conf.Positional in extras,
                value is dataclasses.MISSING,
                value,
                named or _metavar(one, many),
                texts.get(field.name, ""),
            )
        )
    return found


def _unpacked(hint: Any) -> tuple[Any, bool, tuple[Any, ...]]:
    """Type of one value, whether there are many, and what Annotated adds."""
    extras: tuple[Any, ...] = ()
    if typing.get_origin(hint) is typing.Annotated:
        hint, *rest = typing.get_args(hint)
        extras = tuple(rest)
    if typing.get_origin(hint) in (typing.Union, types.UnionType):
        hint = next(t for t in typing.get_args(hint) if t is not type(None))
    many = typing.get_origin(hint) is tuple
    return (typing.get_args(hint)[0] if many else hint), many, extras


def _metavar(kind: Any, many: bool) -> str:
    one = METAVARS.get(kind, f"{{{','.join(_choices(kind))}}}")
    return f"{one} ..." if many else one


def _choices(kind: Any) -> dict[str, Any]:
    return {str(v): v for v in typing.get_args(kind)} if typing.get_origin(kind) is Literal else {}


@functools.cache
def field_docs(kind: type) -> dict[str, str]:
    """Field -> the docstring below it, in one line."""
    found = ast.parse(inspect.cleandoc(inspect.getsource(kind))).body[0]
    assert isinstance(found, ast.ClassDef)
    texts = {}
    for field, text in itertools.pairwise(found.body):
        match field, text:
            case ast.AnnAssign(target=ast.Name(id=name)), ast.Expr(value=ast.Constant(value=str(words))):
                texts[name] = " ".join(words.split())
    return texts
