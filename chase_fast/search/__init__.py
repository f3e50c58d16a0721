"""Search of a tracking cell: architecture gradients, derivation, and the loop with its early stop.

* The package can be called: `chase_fast.search("demo", out="runs/mine")` is `chase_fast.search.search(...)`.
* `first_order`, `second_order`: the gradient of alpha, of a network of your own, too (`FlatParameters`,
  `closure`, `frozen_statistics`, `weight_gradient`).
* `Method`, `register_method`: a search method of your own.
"""

from typing import TYPE_CHECKING

from chase_fast.lazy import front_door

if TYPE_CHECKING:
    from chase_fast.search.api import SearchResult, search
    from chase_fast.search.bilevel import (
        AlphaGradient,
        FlatParameters,
        closure,
        first_order,
        frozen_statistics,
        second_order,
        weight_gradient,
    )
    from chase_fast.search.methods import Method, register_method

CELL = "cell.json"  # the result in a run folder

__all__ = [
    "CELL",
    "AlphaGradient",
    "FlatParameters",
    "Method",
    "SearchResult",
    "closure",
    "first_order",
    "frozen_statistics",
    "register_method",
    "search",
    "second_order",
    "weight_gradient",
]
_HOMES = {"SearchResult": "api", "search": "api", "Method": "methods", "register_method": "methods"}
front_door(
    __name__,
    {name: f"{__name__}.{_HOMES.get(name, 'bilevel')}" for name in __all__ if name != "CELL"},
    call="search",
)
