"""Flags of the search, and what they mean together with a run folder: a new run, or one to resume."""

import dataclasses
import datetime
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from chase_fast.command import RUN_EXIT_CODES
from chase_fast.commandline import parse as parse_words
from chase_fast.commandline import take_word
from chase_fast.distributed import Ranks
from chase_fast.errors import ChaseError
from chase_fast.files import user_path
from chase_fast.recipes import SEARCH, SearchConfig, search_recipe
from chase_fast.runs import RunFolder, git_commit, versions
from chase_fast.search import FREE_ON_RESUME
from chase_fast.stored import check_seeds, check_unchanged, make_config, stored_config

PROG = "python -m chase_fast.search"


@dataclasses.dataclass(frozen=True)
class Options:
    """What to do with a configuration."""

    out: Path | None = None
    """Run folder to make: config.json, history.jsonl, cell.json (the result), report.html, checkpoints.
    Default: runs/RECIPE_DATE_TIME."""
    resume: bool = False
    """Continue the run in --out from its last checkpoint (or its beginning) with its own configuration. The
    result is the same as that of a run that was never stopped."""
    seeds: tuple[int, ...] = ()
    """Search once with each of these seeds, in OUT/seed_K, and take the cell with the smallest hold-out loss,
    e.g. --seeds 0 1 2. [paper: three seeds]"""
    seed_per_rank: bool = False
    """With torchrun and --seeds: each rank searches seeds of its own on its own GPU, by itself, instead of
    sharing every search with the others."""
    quiet: bool = False
    """Print nothing but errors and warnings."""


@dataclasses.dataclass(frozen=True)
class Arguments:
    config: SearchConfig
    options: Options


def description() -> str:
    recipes = "\n".join(f"  {name}: {' '.join((f.__doc__ or '').split())}" for name, f in SEARCH.items())
    parts = {"train": "0-60%", "val": "60-80%", "holdout": "80-100%"}
    shares = " ".join(f"--{name} folder:/data/mine:{part}" for name, part in parts.items())
    three = " ".join(f"--{name} got10k:/data/GOT-10k:{name}.txt" for name in ("train", "val", "holdout"))
    return (
        "Search a tracking cell. A word without a flag names a recipe (demo if left out), "
        "flags change its values.\n\n"
        f"Recipes:\n{recipes}\n\n"
        "Examples:\n"
        f"  {PROG}\n"
        f"  {PROG} demo --out runs/mine --epochs 20 --channels 32\n"
        f"  {PROG} paper {three} --seeds 0 1 2\n"
        f"  {PROG} paper {shares}\n"
        f"  {PROG} --out runs/mine --resume\n"
        f"  torchrun --nproc_per_node 8 -m chase_fast.search paper {three} --batch 80\n\n"
        f"{RUN_EXIT_CODES}"
    )


def parse(argv: Sequence[str], default: SearchConfig) -> Arguments:
    """Flags over a default configuration. A wrong flag ends the process with exit code 2."""
    return parse_words(Arguments, argv, PROG, description(), Arguments(default, Options()), "[RECIPE]")


def resolve(argv: Sequence[str], world: int = 1) -> tuple[SearchConfig, Options, RunFolder, dict[str, Any]]:
    """Command line -> configuration, options, run folder (new, or opened for --resume) and its config.json.

    Args:
        world: number of ranks that share each search.

    Raises:
        ChaseError: unknown recipe, senseless values, unusable folder, a flag that a resumed run cannot
            change.
    """
    recipe, flags = take_word(Arguments, argv, PROG)
    default = search_recipe(recipe or "demo")
    arguments = parse(flags, default)
    options = arguments.options
    if options.out is not None:
        options = dataclasses.replace(options, out=user_path(options.out))
    if not options.resume or (
        options.out is not None and options.out.is_dir() and not any(options.out.iterdir())
    ):
        config = together(arguments.config, options, world)
        check_seeds(options.seeds)
        now = datetime.datetime.now().strftime("%Y-%m-%d_%H-%M-%S")
        out = options.out or Path("runs") / f"{config.recipe}_{now}"
        about = describe(config, options.seeds)
        return config, options, RunFolder.create(out, about), about
    if options.out is None:
        raise ChaseError("--resume needs --out DIR, the run folder to continue")
    folder, about = RunFolder.open(options.out)
    stored, seeds = stored_config(SearchConfig, "search", folder, about)
    arguments = parse(flags, stored)
    if recipe not in (None, stored.recipe):
        raise ChaseError(
            f"{options.out} is a run of recipe {stored.recipe}, not {recipe}; leave out the name to resume"
        )
    check_unchanged(stored, arguments.config, FREE_ON_RESUME, folder)
    if arguments.options.seeds not in ((), seeds):
        raise ChaseError(
            f"--resume cannot change --seeds of the run in {options.out}; leave it out, or start a new run"
        )
    options = dataclasses.replace(arguments.options, out=options.out, seeds=seeds)
    return together(arguments.config, options, world), options, folder, dict(about)


def together(config: SearchConfig, options: Options, world: int) -> SearchConfig:
    """The configuration for this number of ranks.

    Raises:
        ChaseError: they cannot share the batches, or --seed-per-rank has no seed for one of them.
    """
    if not options.seed_per_rank:
        return config.check().on(world)
    if len(options.seeds) < world:
        raise ChaseError(
            f"--seed-per-rank needs a seed for each of {world} ranks, --seeds names {len(options.seeds)}"
        )
    return config.check().on(1)


def resolve_together(
    argv: Sequence[str], ranks: Ranks
) -> tuple[SearchConfig, Options, RunFolder, dict[str, Any]]:
    """What `resolve` returns, on every rank; rank 0 alone reads the command line and touches the folder."""

    def make() -> str:
        config, options, folder, about = resolve(argv, ranks.world)
        options = dataclasses.asdict(options) | {"out": str(folder.path)}
        return json.dumps((dataclasses.asdict(config), options, about))

    config, options, about = json.loads(ranks.share(make))
    options = Options(**(options | {"out": Path(options["out"]), "seeds": tuple(options["seeds"])}))
    return make_config(SearchConfig, config), options, RunFolder(options.out), about


def describe(config: SearchConfig, seeds: Sequence[int] = ()) -> dict[str, Any]:
    """Content of config.json."""
    return {
        "command": "search",
        "config": dataclasses.asdict(config),
        "seeds": list(seeds),  # empty: one search, with the seed of the configuration
        "versions": versions(),
        "commit": git_commit(),
    }
