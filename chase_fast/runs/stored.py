"""Configurations in run folders: what config.json holds comes back as the dataclass it was made from."""

import dataclasses
import typing
from collections.abc import Collection, Mapping
from typing import TYPE_CHECKING, Any, TypeVar

from chase_fast.errors import ChaseError
from chase_fast.fields import Fields
from chase_fast.runs.folder import CONFIG, RunFolder

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

Config = TypeVar("Config", bound="DataclassInstance")
_MOST_SEED = 2**63 - 1


def _later(kind: type) -> Collection[str]:
    """Fields that run folders of older versions lack; those runs had their defaults."""
    return getattr(kind, "later", ())


def make_config(kind: type[Config], values: Mapping[str, Any]) -> Config:
    """A configuration from what JSON made of one."""
    return kind(**{k: tuple(v) if isinstance(v, list) else v for k, v in values.items()})


def stored_config(
    kind: type[Config], command: str, folder: RunFolder, about: Fields
) -> tuple[Config, tuple[int, ...]]:
    """Configuration and seeds (empty for a single run) from the config.json of a run folder; its versions and
    its commit are checked too.

    Raises:
        ChaseError: they are not those of this command in this version, or of other types than its flags have.
    """
    try:
        if (wrote := about.text("command")) != command:
            raise ChaseError(f"it is that of {wrote}")
        values = about.inner("config")
        known = [f.name for f in dataclasses.fields(kind)]
        if unknown := sorted(set(values) - set(known)):
            raise ChaseError(f"unknown field {unknown[0]}")
        hints = typing.get_type_hints(kind)
        there = [name for name in known if name in values or name not in _later(kind)]
        config = kind(**{name: values.typed(name, hints[name]) for name in there})
        seeds = check_seeds(about.entries("seeds"))
        for package in (versions := about.inner("versions")):
            versions.text(package)
        if about.get("commit") is not None:
            about.text("commit")
        return config, seeds
    except ChaseError as e:
        raise ChaseError(
            f"{folder / CONFIG} is not the configuration of a {command} run ({e}): start a new run"
        ) from None


def check_seeds(seeds: Collection[Any]) -> tuple[int, ...]:
    """The seeds of --seeds.

    Raises:
        ChaseError: they are not different numbers from 0 on.
    """
    good = all(type(seed) is int and 0 <= seed <= _MOST_SEED for seed in seeds)
    if not good or len(set(seeds)) < len(seeds):
        raise ChaseError("--seeds must be different numbers, 0 or more (at most 63 bits)")
    return tuple(seeds)


def check_unchanged(stored: Config, now: Config, free: Collection[str], folder: RunFolder) -> None:
    """Whether a run may be resumed with these flags.

    Args:
        free: fields that may differ.

    Raises:
        ChaseError: names the first flag that may not be changed.
    """
    for field in dataclasses.fields(stored):
        if field.name not in free and getattr(now, field.name) != getattr(stored, field.name):
            raise ChaseError(
                f"--resume cannot change --{field.name.replace('_', '-')} of the run in {folder.path}; "
                "leave it out, or start a new run"
            )


def check_checkpoint(state: Fields, config: Any, free: Collection[str]) -> None:
    """Whether a checkpoint was written with this configuration, but for the fields in `free`.

    Raises:
        ChaseError: names the first field in which it was not: config.json has been changed since.
    """
    defaults = {f.name: f.default for f in dataclasses.fields(config) if f.name in _later(type(config))}
    stored = defaults | dict(state.inner("config"))
    for name, now in dataclasses.asdict(config).items():
        then = stored.get(name)
        if name not in free and (list(then) if isinstance(then, tuple | list) else then) != (
            list(now) if isinstance(now, tuple) else now
        ):
            raise ChaseError(f"it was written with {name} {then!r}, {CONFIG} says {now!r}")
