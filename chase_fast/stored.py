"""Configurations in run folders: what config.json holds comes back as the dataclass it was made from."""

import dataclasses
from collections.abc import Collection, Mapping
from typing import Any, TypeVar

from chase_fast.errors import ChaseError
from chase_fast.runs import CONFIG, RunFolder

Config = TypeVar("Config")


def make_config(kind: type[Config], values: Mapping[str, Any]) -> Config:
    """A configuration from what JSON made of one."""
    return kind(**{k: tuple(v) if isinstance(v, list) else v for k, v in values.items()})


def stored_config(
    kind: type[Config], command: str, folder: RunFolder, about: Mapping[str, Any]
) -> tuple[Config, tuple[int, ...]]:
    """Configuration and seeds (empty for a single run) from the config.json of a run folder.

    Raises:
        ChaseError: they are not those of this command in this version.
    """
    try:
        if about["command"] != command:
            raise ValueError(f"it is that of {about['command']}")
        values, defaults = about["config"], kind()
        known = [f.name for f in dataclasses.fields(kind)]
        if unknown := sorted(set(values) - set(known)):
            raise ValueError(f"unknown field {unknown[0]}")
        if missing := sorted(set(known) - set(values)):
            raise ValueError(f"field {missing[0]} is missing")
        config = make_config(kind, values)
        for name in known:
            mine, default = getattr(config, name), getattr(defaults, name)
            if type(mine) is not type(default) and not (type(default) is float and type(mine) is int):
                raise ValueError(f"field {name} is {values[name]!r}")
        seeds = tuple(about["seeds"])
        if any(type(seed) is not int for seed in seeds):
            raise ValueError(f"seeds are {about['seeds']!r}")
        return config, seeds
    except (KeyError, TypeError, ValueError) as e:
        raise ChaseError(
            f"{folder / CONFIG} is not the configuration of a {command} run ({e}): start a new run"
        ) from None


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
