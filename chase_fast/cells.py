"""Cells by name: the published ones, and the files that a search writes."""

import json
from pathlib import Path
from typing import Any

from chase_fast.errors import ChaseError
from chase_fast.nn.genotype import PUBLISHED, Genotype
from chase_fast.nn.preprocess import check_flavour


def load_cell(name: str, others: tuple[str, ...] = ()) -> tuple[Genotype, dict[str, Any]]:
    """A published cell, or a file: the cell.json of a search, or a bare genotype.

    Args:
        name: what --cell was given, a published name (chase, chase_fd, chase_wo; in any case) or a path.
        others: further names that the caller knows; only the error text shows them.

    Returns:
        The genotype, and what else the file says: of a search flavour, channels, seed, versions, ...; nothing
        for a published cell and a bare genotype.

    Raises:
        ChaseError: neither a published name nor a file, or the file holds no cell that can be built (an
            unknown operation, a source that is not before its node, senseless flavour or channels).
    """
    if name.lower() in PUBLISHED:
        return PUBLISHED[name.lower()], {}
    try:
        content = json.loads(Path(name).read_text(encoding="utf-8"))
    except FileNotFoundError:
        names = ", ".join((*PUBLISHED, *others))
        raise ChaseError(f"--cell {name}: no such file; give the cell.json of a search, or {names}") from None
    except (OSError, ValueError, RecursionError) as e:
        raise ChaseError(f"--cell {name}: cannot be read as JSON ({e}); give a cell.json") from None
    about = content if isinstance(content, dict) and "genotype" in content else {"genotype": content}
    genotype = about["genotype"]
    channels = about.get("channels", 1)
    try:
        cell = Genotype.from_json(genotype) if isinstance(genotype, str) else Genotype.from_data(genotype)
        check_flavour(about.get("flavour", "chase"))
    except ChaseError as e:
        raise ChaseError(f"--cell {name}: {e}") from None
    if type(channels) is not int or channels < 1:
        raise ChaseError(f"--cell {name}: its channels are {channels!r}, they must be an integer, at least 1")
    return cell, {key: value for key, value in about.items() if key != "genotype"}
