"""The command line of the search."""

import dataclasses
from collections.abc import Mapping
from typing import Any

from chase_fast.fields import Fields
from chase_fast.nn.operations import check_operation, registered_by
from chase_fast.recipes import SEARCH, SearchConfig, search_recipe
from chase_fast.runs.job import FREE_ON_RESUME, Command, Options
from chase_fast.search import CELL, methods

_SHARES = "--train folder:/data/mine:0-60% --val folder:/data/mine:60-80% --holdout folder:/data/mine:80-100%"
_LISTS = " ".join(f"--{name} got10k:/data/GOT-10k:{name}.txt" for name in ("train", "val", "holdout"))


@dataclasses.dataclass(frozen=True)
class Arguments:
    config: SearchConfig
    options: Options


class SearchCommand(Command):
    """See `Command`."""

    name, arguments, recipes, recipe = "search", Arguments, SEARCH, staticmethod(search_recipe)
    about = "Search a tracking cell; the result is cell.json."
    examples = (
        "python -m chase_fast.search",
        "python -m chase_fast.search demo --out runs/mine --epochs 20 --channels 32",
        f"python -m chase_fast.search paper {_LISTS} --seeds 0 1 2",
        f"python -m chase_fast.search paper {_SHARES}",
        "python -m chase_fast.search --out runs/mine --resume",
        f"torchrun --nproc_per_node 8 -m chase_fast.search paper {_LISTS} --batch 80",
    )
    roles = ("train", "val", "holdout")
    free_on_resume = FREE_ON_RESUME | {"patience", "backbone_chunk", "holdout_cache_mb"}
    result, loss, made = CELL, ("holdout_loss", "hold-out loss"), ("cell", CELL)

    def extra(self, config: SearchConfig, parent: Mapping[str, Any] | None = None) -> dict[str, Any]:
        """The files that registered a method or operations of the user's own."""
        methods.check_method(config.method)
        for op in config.ops:
            check_operation(op)
        files = methods.registered_by(config.method) | registered_by(config.ops)
        return {"registered_by": files} if files else {}

    def check_extra(self, about: Fields, config: SearchConfig) -> None:
        given = about.inner("registered_by", {})
        files = {name: given.text(name) for name in given}
        methods.check_method(config.method, files)
        for op in config.ops:
            check_operation(op, files)

    def loop(self, *arguments: Any) -> Any:
        from chase_fast.search.loop import Search

        return Search(*arguments)
