"""Command line of the search: python -m chase_fast.search [RECIPE] [flags]."""

import dataclasses
import datetime
import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import tyro

from chase_fast.errors import ChaseError
from chase_fast.recipes import SEARCH, SearchConfig, search_recipe
from chase_fast.runs import CHECKPOINT, CONFIG, RunFolder, git_commit, versions
from chase_fast.search.progress import SearchProgress, duration

PROG = "python -m chase_fast.search"
# a resumed run may change these: they do not change the samples or the mathematics
FREE_ON_RESUME = {
    "workers",
    "device",
    "threads",
    "patience",
    "backbone_chunk",
    "holdout_cache_mb",
    "checkpoint_minutes",
    "checkpoint_iterations",
}


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
    quiet: bool = False
    """Print nothing but errors and warnings."""


@dataclasses.dataclass(frozen=True)
class Arguments:
    config: SearchConfig
    options: Options


def description() -> str:
    recipes = "\n".join(f"  {name}: {' '.join((f.__doc__ or '').split())}" for name, f in SEARCH.items())
    three = " ".join(f"--{name} got10k:/data/GOT-10k:{name}.txt" for name in ("train", "val", "holdout"))
    return (
        "Search a tracking cell. The first word names a recipe (demo if left out), "
        "flags change its values.\n\n"
        f"{recipes}\n\n"
        "Examples:\n"
        f"  {PROG}\n"
        f"  {PROG} demo --out runs/mine --epochs 20 --channels 32\n"
        f"  {PROG} paper {three} --seeds 0 1 2\n"
        f"  {PROG} --out runs/mine --resume"
    )


def parse(argv: Sequence[str], default: SearchConfig) -> Arguments:
    """Flags over a default configuration. A wrong flag ends the process with exit code 2."""
    return tyro.cli(
        Arguments,
        args=list(argv),
        default=Arguments(default, Options()),
        prog=f"{PROG} [RECIPE]",
        description=description(),
        config=(tyro.conf.OmitArgPrefixes, tyro.conf.OmitSubcommandPrefixes),
    )


def resolve(argv: Sequence[str]) -> tuple[SearchConfig, Options, RunFolder, dict[str, Any]]:
    """Command line -> configuration, options, run folder (new, or opened for --resume) and its config.json.

    Raises:
        ChaseError: unknown recipe, senseless values, unusable folder, a flag that a resumed run cannot
            change.
    """
    named = bool(argv) and not argv[0].startswith("-")
    flags = argv[1:] if named else argv
    default = search_recipe(argv[0] if named else "demo")
    arguments = parse(flags, default)
    options = arguments.options
    if not options.resume or (
        options.out is not None and options.out.is_dir() and not any(options.out.iterdir())
    ):
        config = arguments.config.check()
        if len(set(options.seeds)) != len(options.seeds) or any(seed < 0 for seed in options.seeds):
            raise ChaseError("--seeds must be different numbers, 0 or more")
        now = datetime.datetime.now().strftime("%Y-%m-%d_%H-%M-%S")
        out = options.out or Path("runs") / f"{config.recipe}_{now}"
        about = describe(config, options.seeds)
        return config, options, RunFolder.create(out, about), about
    if options.out is None:
        raise ChaseError("--resume needs --out DIR, the run folder to continue")
    folder, about = RunFolder.open(options.out)
    stored, seeds = stored_config(folder, about)
    arguments = parse(flags, stored)
    if named and argv[0] != stored.recipe:
        raise ChaseError(
            f"{options.out} is a run of recipe {stored.recipe}, not {argv[0]}; leave out the name to resume"
        )
    changed = [
        f.name
        for f in dataclasses.fields(SearchConfig)
        if f.name not in FREE_ON_RESUME and getattr(arguments.config, f.name) != getattr(stored, f.name)
    ]
    if changed or arguments.options.seeds not in ((), seeds):
        flag = changed[0].replace("_", "-") if changed else "seeds"
        raise ChaseError(
            f"--resume cannot change --{flag} of the run in {options.out}; leave it out, or start a new run"
        )
    return arguments.config.check(), dataclasses.replace(arguments.options, seeds=seeds), folder, about


def describe(config: SearchConfig, seeds: Sequence[int] = ()) -> dict[str, Any]:
    """Content of config.json."""
    return {
        "command": "search",
        "config": dataclasses.asdict(config),
        "seeds": list(seeds),  # empty: one search, with the seed of the configuration
        "versions": versions(),
        "commit": git_commit(),
    }


def stored_config(folder: RunFolder, about: dict[str, Any]) -> tuple[SearchConfig, tuple[int, ...]]:
    """Configuration and seeds (empty for a single search) of a run folder.

    Raises:
        ChaseError: they are not those of a search of this version.
    """
    try:
        values = about["config"]
        known = {f.name: f for f in dataclasses.fields(SearchConfig)}
        if unknown := sorted(set(values) - set(known)):
            raise ValueError(f"unknown field {unknown[0]}")
        if missing := sorted(set(known) - set(values)):
            raise ValueError(f"field {missing[0]} is missing")
        config = SearchConfig(**{k: tuple(v) if isinstance(v, list) else v for k, v in values.items()})
        for name in known:
            if type(getattr(config, name)) is not type(getattr(SearchConfig(), name)):
                number = isinstance(getattr(SearchConfig(), name), float) and isinstance(values[name], int)
                if not number:
                    raise ValueError(f"field {name} is {values[name]!r}")
        seeds = tuple(about["seeds"])
        if any(type(seed) is not int for seed in seeds):
            raise ValueError(f"seeds are {about['seeds']!r}")
        return config, seeds
    except (KeyError, TypeError, ValueError) as e:
        raise ChaseError(
            f"{folder / CONFIG} is not the configuration of a search ({e}): start a new run"
        ) from None


def search_once(
    config: SearchConfig, folder: RunFolder, about: dict[str, Any], progress: SearchProgress
) -> dict:
    """One search in one folder; content of its cell.json."""
    import torch

    from chase_fast.search.loop import Search

    provenance = {
        "recipe": config.recipe,
        "flavour": config.flavour,
        "channels": config.channels,
        "seed": config.seed,
        "versions": about["versions"],
        "commit": about["commit"],
    }
    search = Search(
        config, folder, provenance | {"threads": config.threads or torch.get_num_threads()}, progress
    )

    def stop(number, frame):
        if search.interrupted:
            raise KeyboardInterrupt
        search.interrupted = True
        progress.say("stopping after this iteration ... (once more: at once)")

    before = {number: signal.signal(number, stop) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        cell = search.run()
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    progress.say(summary(search, cell))
    return cell


def summary(search, cell: dict[str, Any]) -> str:
    """Result, time and memory of a finished search."""
    history, perf = search.history, search.perf
    active = [row for row in perf if row["epoch"] > search.config.warmup_epochs]
    iteration = sum(p["iteration_ms"] for p in active) / len(active)
    wait = sum(p["data_wait_share"] for p in active) / len(active)
    peak = max(p["peak_memory_mb"] for p in perf)
    genes = [[f"{op}({source})" for op, source in node] for node in cell["genotype"]["nodes"]]
    lines = [
        f"cell of epoch {cell['epoch']} (inputs are nodes 0 and 1):",
        *(f"  node {i}: {' + '.join(node) or 'nothing'}" for i, node in enumerate(genes, 2)),
        f"hold-out loss {cell['holdout_loss']:.4f}, untrained network {history[0]['holdout_loss']:.4f}",
        f"{duration(sum(p['seconds'] for p in perf))} in all; {iteration:.0f} ms per iteration with alpha, "
        f"{wait:.0%} of it waiting for data; peak memory {peak / 1024:.2f} GiB",
        f"cell: {search.folder / 'cell.json'}, report: {search.folder / 'report.html'}",
    ]
    return "\n".join(lines)


def search_seeds(
    config: SearchConfig, seeds: Sequence[int], folder: RunFolder, progress: SearchProgress, resume: bool
) -> None:
    """One search per seed in seed_K; the best cell by hold-out loss is copied to the folder."""
    from chase_fast.report import write_report

    cells = {}
    for seed in seeds:
        one = dataclasses.replace(config, seed=seed)
        path = folder / f"seed_{seed}"
        progress.say(f"seed {seed} ({len(cells) + 1} of {len(seeds)})")
        if resume and (path / CONFIG).is_file():
            child, about = RunFolder.open(path)
        else:
            about = describe(one)
            child = RunFolder.create(path, about)
        try:
            cells[seed] = search_once(one, child, about, progress)
        except ChaseError:
            child.discard_unstarted()
            raise
    best = min(cells, key=lambda seed: cells[seed]["holdout_loss"])
    losses = {str(seed): cell["holdout_loss"] for seed, cell in cells.items()}
    folder.write_bytes("best.safetensors", (folder / f"seed_{best}" / "best.safetensors").read_bytes())
    folder.write_json("cell.json", cells[best] | {"holdout_loss_of_seeds": losses})
    write_report(folder.path)
    progress.say(f"best of {len(seeds)} seeds: {best}, hold-out loss {losses[str(best)]:.4f}")
    progress.say(f"cell: {folder / 'cell.json'}")


def run(argv: Sequence[str]) -> int:
    config, options, folder, about = resolve(argv)
    progress = SearchProgress(options.quiet)
    progress.say(f"recipe {config.recipe}, run folder {folder.path}")
    if options.resume and about["versions"] != (now := versions()):
        other = sorted(k for k in about["versions"].keys() | now if about["versions"].get(k) != now.get(k))
        progress.warn(f"versions differ from the start of this run ({', '.join(other)}): digits may differ")
    try:
        if options.seeds:
            search_seeds(config, options.seeds, folder, progress, options.resume)
        else:
            search_once(config, folder, about, progress)
    except ChaseError:
        if not options.resume:
            folder.discard_unstarted()
        raise
    except KeyboardInterrupt:
        state = "its last checkpoint" if any(folder.path.rglob(CHECKPOINT)) else "the beginning"
        print(f"stopped; continue from {state} with: {PROG} --out {folder.path} --resume", file=sys.stderr)
        return 130
    return 0


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command line. Returns the exit code: 2, after one line on standard error, for a user error."""
    try:
        return run(list(sys.argv[1:] if argv is None else argv))
    except ChaseError as e:
        print(f"error: {e}", file=sys.stderr)
        return 2


if __name__ == "__main__":
    sys.exit(main())
