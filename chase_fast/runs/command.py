"""What the commands search and train do: one run, or one per seed, in their folders, until it ends or is
stopped."""

import signal
import sys
from collections.abc import Callable, Mapping, Sequence
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any

from chase_fast import imports
from chase_fast.command import exit_code, run_command
from chase_fast.device import computing
from chase_fast.distributed import Ranks, join, shutdown
from chase_fast.runs.folder import BEST, CHECKPOINT, REPORT, RunFolder
from chase_fast.runs.interrupt import Interrupt
from chase_fast.runs.job import Command, Job, Options, described, resolve, understand
from chase_fast.runs.progress import RunProgress
from chase_fast.runs.versions import versions

if TYPE_CHECKING:
    import torch

LONGEST = 24 * 90  # hours that rank 0 waits for the slowest seed


def main(command: Command, argv: Sequence[str] | None = None) -> int:
    """Runs the command line; returns the exit code (see `run_command`)."""
    return run_command(lambda: run(command, list(sys.argv[1:] if argv is None else argv)))


def run(command: Command, argv: Sequence[str]) -> int:
    words = imports.take(argv)  # on every rank
    try:
        perform(command, lambda world: resolve(command, words, world))
    except Stopped as e:
        if e.main:
            print(f"stopped; continue from {e.state} with: {e.again}", file=sys.stderr)
        return exit_code(e.stop)
    return 0


class Stopped(KeyboardInterrupt):
    """A run was stopped by a signal.

    Attributes:
        folder: of the run. state: where a resumed run goes on, in words; again: the command that resumes it.
        stop: what stopped it; main: this is the process that speaks for all.
    """

    def __init__(self, job: Job, stop: KeyboardInterrupt, main: bool):
        self.folder, self.stop, self.main = job.folder.path, stop, main
        self.state = "its last checkpoint" if any(self.folder.rglob(CHECKPOINT)) else "the beginning"
        self.again = f"{job.command.prog} --out {self.folder} --resume"
        super().__init__(f"stopped; {self.folder} holds {self.state}")


def make(
    command: Command,
    config: Any,
    out: str | PathLike[str] | None,
    resume: bool,
    seeds: Sequence[int],
    quiet: bool,
    values: Mapping[str, Any],
) -> Path:
    """A run from Python: `search.api` and `train.api` say what the arguments are. Returns its folder."""
    options = Options(None if out is None else Path(out), resume, tuple(seeds), quiet=quiet)
    return perform(command, lambda world: described(command, config, values, options, world)).folder.path


def perform(command: Command, plan: Callable[[int], Job]) -> Job:
    """Makes a run, or one per seed, on all ranks; returns the finished job.

    Args:
        plan: number of ranks -> job.

    Raises:
        ChaseError: as `understand` and `Loop`.
        Stopped: by SIGINT or SIGTERM.
    """
    ranks = join()
    job = understand(command, plan, ranks)
    config, options, folder = job.config, job.options, job.folder
    progress = RunProgress(options.quiet, mute=not ranks.main)
    progress.say(f"recipe {config.recipe}, run folder {folder.path}")
    if ranks.world > 1:
        share = "one seed each" if options.seed_per_rank else f"{config.batch // ranks.world} sequences each"
        progress.say(f"{ranks.world} ranks, {share}")
    then, now = job.about["versions"], versions()
    if options.resume and then != now:
        other = sorted(k for k in then.keys() | now if then.get(k) != now.get(k))
        progress.warn(f"versions differ from the start of this run ({', '.join(other)}): digits may differ")
    try:
        (run_seeds if options.seeds else run_once)(job, progress, ranks, ranks.device(config.device))
    except Exception:
        if ranks.main:
            folder.discard_unstarted()
        raise
    except KeyboardInterrupt as e:
        raise Stopped(job, e, ranks.main) from None
    shutdown()
    return job


def run_once(job: Job, progress: RunProgress, ranks: Ranks, device: "torch.device") -> None:
    """One run in one folder."""
    alone = ranks.world == 1
    with computing(job.config.threads, device):
        loop = job.command.loop(job, progress, ranks, device)

        def ask() -> None:
            loop.interrupted = True
            progress.say(f"stopping after this iteration ...{' (once more: at once)' if alone else ''}")

        with Interrupt(signal.SIGINT, signal.SIGTERM, tell=ask, twice=alone):
            loop.run()
    if ranks.main:
        progress.say(loop.summary())


def run_seeds(job: Job, progress: RunProgress, ranks: Ranks, device: "torch.device") -> None:
    """One run per seed in seed_K; the best result, by its loss, is copied to the folder.

    All ranks share each run, or, with --seed-per-rank, rank k makes every W-th one from the k-th on alone.
    """
    from chase_fast.report import write_report

    seeds, sharing = job.options.seeds, ranks
    if job.options.seed_per_rank:
        seeds, sharing = seeds[ranks.rank :: ranks.world], Ranks()
    for number, seed in enumerate(seeds, 1):
        progress.say(f"seed {seed} ({number} of {len(seeds)})")
        one = job.of_seed(seed).opened(sharing)
        try:
            run_once(one, progress, sharing, device)
        except Exception:
            if sharing.main:
                one.folder.discard_unstarted()
            raise
    if job.options.seed_per_rank:
        ranks.barrier(hours=LONGEST)
    if not ranks.main:
        return
    folder = job.folder
    result, (loss, name), (made, file) = job.command.result, job.command.loss, job.command.made
    results = {seed: RunFolder(folder / f"seed_{seed}").read_json(result) for seed in job.options.seeds}
    losses = {seed: r.number(loss) for seed, r in results.items()}
    best = min(losses, key=losses.__getitem__)
    of_seeds = {f"{loss}_of_seeds": {str(seed): value for seed, value in losses.items()}}
    folder.ensure_bytes(BEST, (folder / f"seed_{best}" / BEST).read_bytes())
    folder.ensure_json(result, dict(results[best]) | of_seeds)
    if not folder.newer(REPORT, result):
        write_report(folder.path)
    progress.say(f"best of {len(results)} seeds: {best}, {name} {losses[best]:.4f}")
    progress.say(f"{made}: {folder / file}")
