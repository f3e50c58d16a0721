"""Flags of the training, and what they mean together with a run folder: a new run, or one to resume."""

import dataclasses
import datetime
import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from chase_fast.command import RUN_EXIT_CODES
from chase_fast.commandline import parse as parse_words
from chase_fast.commandline import take_word
from chase_fast.distributed import Ranks
from chase_fast.errors import ChaseError
from chase_fast.files import user_path
from chase_fast.recipes import TRAIN, TrainConfig, train_recipe
from chase_fast.runs import CONFIG, RunFolder, git_commit, versions
from chase_fast.stored import check_seeds, check_unchanged, make_config, stored_config
from chase_fast.train import FREE_ON_RESUME

if TYPE_CHECKING:  # torch is loaded when the flags are understood
    from chase_fast.nn.tracker_net import TrackerSpec

PROG = "python -m chase_fast.train"


@dataclasses.dataclass(frozen=True)
class Options:
    """What to do with a configuration."""

    out: Path | None = None
    """Run folder to make: config.json, history.jsonl, best.safetensors (the result), result.json,
    report.html, checkpoints. Default: runs/RECIPE_DATE_TIME."""
    resume: bool = False
    """Continue the run in --out from its last checkpoint (or its beginning) with its own configuration. The
    result is the same as that of a run that was never stopped."""
    seeds: tuple[int, ...] = ()
    """Train once with each of these seeds, in OUT/seed_K, and take the network with the smallest validation
    loss, e.g. --seeds 0 1 2."""
    seed_per_rank: bool = False
    """With torchrun and --seeds: each rank trains with seeds of its own on its own GPU, by itself, instead of
    sharing every training with the others."""
    quiet: bool = False
    """Print nothing but errors and warnings."""


@dataclasses.dataclass(frozen=True)
class Arguments:
    config: TrainConfig
    options: Options


@dataclasses.dataclass(frozen=True)
class Job:
    """A command line, understood: configuration, architecture, options, and config.json of its folder."""

    config: TrainConfig
    spec: "TrackerSpec"
    options: Options
    about: dict[str, Any]

    def to_text(self) -> str:
        options = dataclasses.asdict(self.options) | {"out": str(self.options.out)}
        return json.dumps([dataclasses.asdict(self.config), options, self.about])

    @classmethod
    def from_text(cls, text: str) -> "Job":
        """Inverse of `to_text`."""
        from chase_fast.nn.tracker_net import TrackerSpec

        config, options, about = json.loads(text)
        options |= {"out": Path(options["out"]), "seeds": tuple(options["seeds"])}
        spec = TrackerSpec.from_data(about["spec"])
        return cls(make_config(TrainConfig, config), spec, Options(**options), about)


def description() -> str:
    recipes = "\n".join(f"  {name}: {' '.join((f.__doc__ or '').split())}" for name, f in TRAIN.items())
    two = "--train got10k:/data/GOT-10k:train --val got10k:/data/GOT-10k:val"
    return (
        "Train a tracker. A word without a flag names a recipe (demo if left out), flags change its "
        "values.\n\n"
        f"Recipes:\n{recipes}\n\n"
        "Examples:\n"
        f"  {PROG}\n"
        f"  {PROG} small {two} --cell runs/demo/cell.json\n"
        f"  {PROG} small --train folder:/data/mine:0-80% --val folder:/data/mine:80-100%\n"
        f"  {PROG} chase_prdimp {two} --precision bf16 --seeds 0 1 2\n"
        f"  {PROG} --out runs/mine --resume\n"
        f"  torchrun --nproc_per_node 2 -m chase_fast.train prdimp50 {two}\n\n"
        f"{RUN_EXIT_CODES}"
    )


def parse(argv: Sequence[str], default: TrainConfig) -> Arguments:
    """Flags over a default configuration. A wrong flag ends the process with exit code 2."""
    return parse_words(Arguments, argv, PROG, description(), Arguments(default, Options()), "[RECIPE]")


def understand(argv: Sequence[str], world: int = 1) -> Job:
    """Command line -> job; nothing is written yet.

    Args:
        world: number of ranks.

    Raises:
        ChaseError: unknown recipe, senseless values, an unusable cell, a flag that a resumed run cannot
            change.
    """
    recipe, flags = take_word(Arguments, argv, PROG)
    default = train_recipe(recipe or "demo")
    options = parse(flags, default).options
    if options.out is not None:
        options = dataclasses.replace(options, out=user_path(options.out))
    new = not options.resume or (
        options.out is not None and options.out.is_dir() and not any(options.out.iterdir())
    )
    if new:
        job = _new(flags, default, options)
    elif options.out is None:
        raise ChaseError("--resume needs --out DIR, the run folder to continue")
    else:
        job = _resumed(flags, recipe, options)
    _check_ranks(job, world)
    return job


def _new(flags: Sequence[str], default: TrainConfig, options: Options) -> Job:
    from chase_fast.train.cells import resolve_spec

    config = parse(flags, default).config.check()
    check_seeds(options.seeds)
    now = datetime.datetime.now().strftime("%Y-%m-%d_%H-%M-%S")
    out = options.out or Path("runs") / f"{config.recipe}_{now}"
    spec = resolve_spec(config)
    about = describe(config, spec, options.seeds)
    return Job(config, spec, dataclasses.replace(options, out=out, resume=False), about)


def _resumed(flags: Sequence[str], recipe: str | None, options: Options) -> Job:
    from chase_fast.nn.tracker_net import TrackerSpec

    out = options.out
    folder, about = RunFolder.open(out)
    stored, seeds = stored_config(TrainConfig, "train", folder, about)
    arguments = parse(flags, stored)
    if recipe not in (None, stored.recipe):
        raise ChaseError(
            f"{out} is a run of recipe {stored.recipe}, not {recipe}; leave out the name to resume"
        )
    check_unchanged(stored, arguments.config, FREE_ON_RESUME, folder)
    if arguments.options.seeds not in ((), seeds):
        raise ChaseError(f"--resume cannot change --seeds of the run in {out}; leave it out")
    try:
        spec = TrackerSpec.from_data(about.get("spec"))
        check_spec(spec, stored)
    except ChaseError as e:
        raise ChaseError(f"{folder / CONFIG} is not the configuration of a train run ({e})") from None
    return Job(arguments.config.check(), spec, dataclasses.replace(options, seeds=seeds), dict(about))


def _check_ranks(job: Job, world: int) -> None:
    """Raises:
    ChaseError: the ranks cannot share the batches, or --seed-per-rank has no seed for one of them.
    """
    config, options = job.config, job.options
    if options.seed_per_rank:
        if len(options.seeds) < world:
            raise ChaseError(
                f"--seed-per-rank needs a seed for each of {world} ranks, --seeds names {len(options.seeds)}"
            )
    else:
        config.on(world)


def check_spec(spec: "TrackerSpec", config: TrainConfig) -> None:
    """Raises ChaseError if an architecture is not that of the flags it was made from."""
    pairs = {
        "classifier": config.classifier,
        "backbone": config.backbone,
        "feature_size": config.image_size // 16,
        "filter_iterations": config.filter_iterations,
    }
    pairs |= {"channels": config.channels} if spec.cell is not None and config.channels else {}
    pairs |= {"flavour": config.flavour} if spec.cell is not None and config.flavour != "auto" else {}
    if (spec.cell is None) != (config.cell == "plain"):
        raise ChaseError(f"its spec and its flag cell {config.cell} do not agree")
    for name, value in pairs.items():
        if getattr(spec, name) != value:
            raise ChaseError(f"its spec has {name} {getattr(spec, name)!r}, its flags say {value!r}")


def open_folder(job: Job, path: Path) -> RunFolder:
    """The folder of a run, new or found by --resume.

    Raises:
        ChaseError: it cannot be made, or is in use.
    """
    if job.options.resume and (path / CONFIG).is_file():
        return RunFolder.open(path)[0]
    return RunFolder.create(path, job.about)


def understand_together(argv: Sequence[str], ranks: Ranks) -> Job:
    """The job on every rank, its folder made or found; rank 0 alone reads the command line and files.

    Raises:
        ChaseError: as `understand` and `open_folder`; `Elsewhere` on the other ranks.
    """

    def make() -> str:
        job = understand(argv, ranks.world)
        open_folder(job, job.options.out)
        return job.to_text()

    return Job.from_text(ranks.share(make))


def describe(config: TrainConfig, spec: "TrackerSpec", seeds: Sequence[int] = ()) -> dict[str, Any]:
    """Content of config.json."""
    return {
        "command": "train",
        "config": dataclasses.asdict(config),
        "spec": spec.to_data(),  # a resumed run does not read its cell file again
        "seeds": list(seeds),  # empty: one training, with the seed of the configuration
        "versions": versions(),
        "commit": git_commit(),
    }
