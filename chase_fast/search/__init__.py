"""Search of a tracking cell: architecture gradients, derivation, and the loop with its early stop.

The package can be called: `chase_fast.search("demo", out="runs/mine")` is `chase_fast.search.search(...)`.
"""

from typing import TYPE_CHECKING

from chase_fast.lazy import front_door

if TYPE_CHECKING:
    from chase_fast.search.api import SearchResult, search

CELL = "cell.json"  # the result in a run folder

__all__ = ["CELL", "SearchResult", "search"]
front_door(__name__, dict.fromkeys(("SearchResult", "search"), f"{__name__}.api"), call="search")
