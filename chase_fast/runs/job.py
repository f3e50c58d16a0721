"""A command line of a search or a training, understood together with a run folder: a new run, or one to
resume."""

import dataclasses
import datetime
import functools
import json
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any

from chase_fast.commandline import parse as parse_words
from chase_fast.commandline import take_word
from chase_fast.data.spec import check_sources
from chase_fast.device import check_device
from chase_fast.distributed import Ranks
from chase_fast.errors import ChaseError, NeedsImport
from chase_fast.fields import Fields, changed, short
from chase_fast.files import check_file, user_path
from chase_fast.runs.folder import CONFIG, RunFolder
from chase_fast.runs.stored import check_seeds, check_unchanged, make_config, stored_config
from chase_fast.runs.versions import git_commit, versions

EXIT_CODES = """Exit code: 0; 2, after one line, for what you can mend; 130 after Ctrl-C, 143 after
SIGTERM (once: the run ends after this iteration with a checkpoint; twice: at once).

Environment: CHASE_FAST_CACHE, the folder for indexes of datasets; CHASE_FAST_BACKEND=NAME or OP=NAME,OP=NAME
(python -m chase_fast.doctor lists both); OMP_NUM_THREADS; GOMP_SPINCOUNT, 2000 unless set: how long
threads wait actively."""
NO_FILES = ("imagenet", "random")  # as weights of a backbone
# a resumed run may change these: they do not change the samples or the mathematics
FREE_ON_RESUME = frozenset(
    {"workers", "device", "threads", "graphs", "checkpoint_minutes", "checkpoint_iterations"}
)


@dataclasses.dataclass(frozen=True)
class Options:
    """What to do with a configuration."""

    out: Path | None = None
    """Run folder to make: config.json, history.jsonl, the result, report.html, checkpoints. Default:
    runs/RECIPE_DATE_TIME."""
    resume: bool = False
    """Continue the run in --out from its last checkpoint (or its beginning) with its own configuration. The
    result is the same as that of a run that was never stopped."""
    seeds: tuple[int, ...] = ()
    """Run once with each of these seeds, in OUT/seed_K, and take the result with the smallest hold-out loss
    (of a search) or validation loss (of a training), e.g. --seeds 0 1 2. [paper: three seeds]"""
    seed_per_rank: bool = False
    """With torchrun and --seeds: each rank takes seeds of its own on its own GPU, by itself, instead of
    sharing every run with the others."""
    quiet: bool = False
    """Print nothing but errors and warnings."""


class Command:
    """What a command that makes runs says of itself, without torch.

    Attributes:
        name: of the command; prog: how it is called; about: the first sentence of its help.
        arguments: dataclass of its flags, `config` (frozen, with `check` and `on`) and `options`.
        recipes: functions by name; recipe: name -> configuration; examples: command lines.
        free_on_resume: fields of the configuration that a resumed run may change.
        result: file with the result, a JSON object; made: what the user gets, in a word, and its file.
        roles: fields of the configuration that name datasets.
        weights: those that may name a file with weights, and what it is called.
        loss: the number in `result` that seeds are compared by, and its name.
    """

    name: str
    about: str
    arguments: type
    examples: Sequence[str]
    recipes: Mapping[str, Callable[[], Any]]
    recipe: Callable[[str], Any]
    free_on_resume: Collection[str] = FREE_ON_RESUME
    roles: tuple[str, ...]
    weights: Mapping[str, str] = MappingProxyType({"backbone_weights": "backbone weights"})
    result: str
    loss: tuple[str, str]
    made: tuple[str, str]

    @property
    def prog(self) -> str:
        return f"python -m chase_fast.{self.name}"

    @property
    def kind(self) -> type:
        """Class of its configurations."""
        return self.arguments.__annotations__["config"]

    @property
    def description(self) -> str:
        """Text of the help page."""
        recipes = [f"  {name}: {' '.join((f.__doc__ or '').split())}" for name, f in self.recipes.items()]
        lines = [
            f"{self.about} A word without a flag names a recipe (demo if left out), flags change its values.",
            *("", "Recipes:", *recipes),
            *("", "Examples:", *(f"  {line}" for line in self.examples)),
            *("", EXIT_CODES),
        ]
        return "\n".join(lines)

    def parse(self, argv: Sequence[str], default: Any) -> Any:
        """Flags over a default configuration. A wrong flag ends the process with exit code 2."""
        start = self.arguments(default, Options())
        return parse_words(self.arguments, argv, self.prog, self.description, start, "[RECIPE]")

    def extra(self, config: Any, parent: Mapping[str, Any] | None = None) -> dict[str, Any]:
        """What config.json holds besides; parent: config.json of a run with several seeds, this being one."""
        return {}

    def check_extra(self, about: Fields, config: Any) -> None:
        """Raises ChaseError if what `extra` has written does not belong to the configuration."""

    def loop(self, *arguments: Any) -> Any:
        """A `runs.loop.Loop` of these arguments."""
        raise NotImplementedError


@dataclasses.dataclass(frozen=True)
class Job:
    """A command line, understood: configuration, options, and config.json of its folder."""

    command: Command
    config: Any
    options: Options
    about: dict[str, Any]

    @property
    def out(self) -> Path:
        """Its run folder: `_plan` names one where the options do not."""
        assert self.options.out is not None
        return self.options.out

    @functools.cached_property
    def folder(self) -> RunFolder:
        return RunFolder(self.out, begun=self.options.resume)

    def to_text(self) -> str:
        options = dataclasses.asdict(self.options) | {"out": str(self.options.out)}
        return json.dumps([dataclasses.asdict(self.config), options, self.about])

    @classmethod
    def from_text(cls, command: Command, text: str) -> "Job":
        """Inverse of `to_text`."""
        config, options, about = json.loads(text)
        options |= {"out": Path(options["out"]), "seeds": tuple(options["seeds"])}
        return cls(command, make_config(command.kind, config), Options(**options), about)

    def opened(self, ranks: Ranks) -> "Job":
        """Itself, its folder made, or found by --resume, by rank 0.

        Raises:
            ChaseError: it cannot be made, is in use, or its config.json is damaged.
        """
        return self.from_text(self.command, ranks.share(lambda: self._opened().to_text()))

    def _opened(self) -> "Job":
        about: Mapping[str, Any] = self.about
        resume = self.options.resume and (self.out / CONFIG).is_file()
        if resume:  # with the versions and the commit that it began with
            about = _read(self.command, self.out)[2]
        else:
            RunFolder.create(self.out, self.about)
        options = dataclasses.replace(self.options, resume=resume)
        return dataclasses.replace(self, options=options, about=dict(about))

    def of_seed(self, seed: int) -> "Job":
        """The part of a job with several seeds that one of them is."""
        config = dataclasses.replace(self.config, seed=seed)
        about = describe(self.command, config, parent=self.about)
        options = dataclasses.replace(self.options, out=self.out / f"seed_{seed}", seeds=())
        return Job(self.command, config, options, about)


def understand(command: Command, plan: Callable[[int], Job], ranks: Ranks) -> Job:
    """The job on every rank, its folder made or found; rank 0 alone calls `plan` (number of ranks -> job) and
    reads files.

    Raises:
        ChaseError: as `resolve` and `Job.opened`; `Elsewhere` on the other ranks.
    """
    text = ranks.share(lambda: plan(ranks.world).to_text())
    return Job.from_text(command, text).opened(ranks)


def resolve(command: Command, argv: Sequence[str], world: int = 1) -> Job:
    """Command line -> job; nothing is written yet.

    Args:
        world: number of ranks that share each run.

    Raises:
        ChaseError: unknown recipe, senseless values, what `Command.extra` refuses, a flag that a resumed run
            cannot change.
    """
    recipe, flags = take_word(command.arguments, argv, command.prog)
    return _plan(command, recipe, lambda start: command.parse(flags, start), world)


def described(command: Command, config: Any, values: Mapping[str, Any], options: Options, world: int) -> Job:
    """As `resolve`, from Python: a configuration, or the name of a recipe (None: demo, or that of the run to
    resume), with some of its values changed.

    Raises:
        ChaseError: also a value that the flags of the command would not take.
    """
    whole = isinstance(config, command.kind)
    if not whole and not isinstance(config, str | None):
        raise ChaseError(f"config is a {command.kind.__name__} or the name of a recipe, not {short(config)}")

    def over(start: Any) -> Any:
        return command.arguments(changed(config if whole else start, values), options)

    return _plan(command, None if whole else config, over, world)


def _plan(command: Command, recipe: str | None, over: Callable[[Any], Any], world: int) -> Job:
    """The job of a recipe, or of the run folder to resume. over: configuration -> arguments, which say what
    is to differ from it."""
    arguments = over(command.recipe(recipe or "demo"))
    options = arguments.options
    if options.out is not None:
        options = dataclasses.replace(options, out=user_path(options.out))
    new = not options.resume or (
        options.out is not None and options.out.is_dir() and not any(options.out.iterdir())
    )
    if new:
        return _new(command, arguments.config, options, world)
    if options.out is None:
        raise ChaseError("--resume needs --out DIR, the run folder to continue")
    return _resumed(command, over, recipe, options, options.out, world)


def _new(command: Command, config: Any, options: Options, world: int) -> Job:
    config = _on(command, config.check(), options, world)
    check_seeds(options.seeds)
    for name, what in command.weights.items():
        given = getattr(config, name)
        if given not in (*NO_FILES, "") and not user_path(given).is_dir():
            check_file(user_path(given), what)
    now = datetime.datetime.now().strftime("%Y-%m-%d_%H-%M-%S")
    out = options.out or Path("runs") / f"{config.recipe}_{now}"
    about = describe(command, config, options.seeds)
    return Job(command, config, dataclasses.replace(options, out=out, resume=False), about)


def _resumed(
    command: Command, over: Callable[[Any], Any], recipe: str | None, options: Options, out: Path, world: int
) -> Job:
    stored, seeds, about = _read(command, out)
    arguments = over(stored)
    if recipe not in (None, stored.recipe):
        raise ChaseError(
            f"{out} is a run of recipe {stored.recipe}, not {recipe}; leave out the name to resume"
        )
    check_unchanged(stored, arguments.config, command.free_on_resume, RunFolder(out))
    if options.seeds not in ((), seeds):
        raise ChaseError(
            f"--resume cannot change --seeds of the run in {out}; leave it out, or start a new run"
        )
    options = dataclasses.replace(options, seeds=seeds)
    return Job(command, _on(command, arguments.config.check(), options, world), options, dict(about))


def _read(command: Command, out: Path) -> tuple[Any, tuple[int, ...], Fields]:
    """Configuration, seeds and the whole config.json of a run folder."""
    folder, about = RunFolder.open(out)
    config: Any
    config, seeds = stored_config(command.kind, command.name, folder, about)
    try:
        command.check_extra(about, config)
    except NeedsImport as e:
        raise NeedsImport(f"{folder / CONFIG}: {e}") from None
    except ChaseError as e:
        raise ChaseError(
            f"{folder / CONFIG} is not the configuration of a {command.name} run ({e})"
        ) from None
    return config, seeds, about


def _on(command: Command, config: Any, options: Options, world: int) -> Any:
    """The configuration for this number of ranks.

    Raises:
        ChaseError: they cannot share the batches, --seed-per-rank has no seed for one of them, no such device
            or dataset can be.
    """
    check_device(config.device)
    check_sources(text for role in command.roles for text in getattr(config, role))
    if not options.seed_per_rank:
        return config.on(world)
    if len(options.seeds) < world:
        raise ChaseError(
            f"--seed-per-rank needs a seed for each of {world} ranks, --seeds names {len(options.seeds)}"
        )
    return config.on(1)


def describe(
    command: Command, config: Any, seeds: Sequence[int] = (), parent: Mapping[str, Any] | None = None
) -> dict[str, Any]:
    """Content of config.json."""
    return {
        "command": command.name,
        "config": dataclasses.asdict(config),
        **command.extra(config, parent),
        "seeds": list(seeds),  # empty: one run, with the seed of the configuration
        "versions": versions(),
        "commit": git_commit(),
    }
