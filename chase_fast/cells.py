"""Cells by name: the published ones, and the files that a search writes."""

from os import PathLike, fspath
from typing import Any

from chase_fast.errors import ChaseError, MissingFile
from chase_fast.fields import load_json, short
from chase_fast.files import read_bytes, user_path
from chase_fast.nn.genotype import MOST_CHANNELS, PUBLISHED, Genotype
from chase_fast.nn.spec import check_flavour


def load_cell(
    name: str | PathLike[str], others: tuple[str, ...] = (), kind: type[Genotype] = Genotype
) -> tuple[Genotype, dict[str, Any]]:
    """A published cell, or a file: the cell.json of a search, or a bare genotype.

    Args:
        name: what --cell was given, a published name (chase, chase_fd, chase_wo; in any case) or a path.
        others: further names that the caller knows; only the error text shows them.
        kind: `Sketch` for a cell that is only drawn.

    Returns:
        The genotype, and what else the file says: of a search flavour, channels, seed, versions, ...; nothing
        for a published cell and a bare genotype.

    Raises:
        ChaseError: neither a published name nor a file, or the file holds no cell that can be built (an
            unknown operation, a source that is not before its node, senseless flavour or channels).
    """
    name = fspath(name)
    if name.lower() in PUBLISHED:
        return PUBLISHED[name.lower()], {}
    where = f"--cell {name}"
    try:
        data = read_bytes(user_path(name))
    except FileNotFoundError:
        names = ", ".join((*PUBLISHED, *others))
        raise MissingFile(f"{where}: no such file; give the cell.json of a search, or {names}") from None
    except OSError as e:
        raise ChaseError(f"{where}: cannot be read as JSON ({e.strerror}); give a cell.json") from None
    try:
        content = load_json(data, "it")
    except ChaseError as e:
        raise ChaseError(f"{where}: cannot be read as JSON ({e}); give a cell.json") from None
    about = content if isinstance(content, dict) and "genotype" in content else {"genotype": content}
    channels = about.get("channels", 1)
    try:
        cell = kind.from_any(about["genotype"])
        check_flavour(about.get("flavour", "chase"))
    except ChaseError as e:
        raise ChaseError(f"{where}: {e}") from None
    if type(channels) is not int or not 1 <= channels <= MOST_CHANNELS:
        raise ChaseError(
            f"{where}: its channels are {short(channels)}, they must be an integer from 1 to {MOST_CHANNELS}"
        )
    return cell, {key: value for key, value in about.items() if key != "genotype"}
