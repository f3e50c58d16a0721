"""Command line of the training: python -m chase_fast.train [RECIPE] [flags]."""

import dataclasses
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

from chase_fast.command import exit_code, run_command, stopping
from chase_fast.device import computing
from chase_fast.distributed import Ranks, join, shutdown
from chase_fast.fields import Fields
from chase_fast.progress import RunProgress, duration
from chase_fast.recipes import TrainConfig
from chase_fast.runs import CHECKPOINT, CONFIG, REPORT, RunFolder, versions
from chase_fast.stored import stored_config
from chase_fast.train import BEST, RESULT
from chase_fast.train.options import PROG, Job, describe, open_folder, understand_together

if TYPE_CHECKING:
    import torch

LONGEST = 24 * 90  # hours that rank 0 waits for the slowest seed


def train_once(
    job: Job, folder: RunFolder, progress: RunProgress, ranks: Ranks, device: "torch.device"
) -> None:
    """One training in one folder."""
    import torch

    from chase_fast.train.loop import Training

    config, about = job.config, job.about
    with computing(config.threads, device):
        provenance = {
            "recipe": config.recipe,
            "seed": config.seed,
            "threads": torch.get_num_threads(),
            "versions": about["versions"],
            "commit": about["commit"],
        }
        training = Training(config, job.spec, folder, provenance, progress, ranks, device)
        with stopping(training, progress.say, alone=ranks.world == 1):
            training.run()
    if ranks.main:
        progress.say(summary(training, folder.read_json(RESULT)))


def summary(training, result: Fields) -> str:
    """Result, time and memory of a finished training."""
    history, perf, folder = training.history, training.perf, training.folder
    step = sum(p["step_ms"] for p in perf) / len(perf)
    wait = sum(p["data_wait_share"] for p in perf) / len(perf)
    peak = max(p["peak_memory_mb"] for p in perf)
    millions = result.inner("parameters").number("total") / 1e6
    billions = result.inner("macs").number("total") / 1e9
    epoch, loss, untrained = result.integer("epoch"), result.number("val_loss"), history[0]["val_loss"]
    return "\n".join(
        [
            f"network of epoch {epoch}: {millions:.2f} M parameters, {billions:.2f} G MACs a frame",
            f"validation loss {loss:.4f}, untrained network {untrained:.4f}",
            f"{duration(sum(p['seconds'] for p in perf))} in all; {step:.0f} ms per iteration, "
            f"{wait:.0%} of it waiting for data; peak memory {peak / 1024:.2f} GiB",
            f"network: {folder / BEST}, report: {folder / REPORT}",
        ]
    )


def train_seeds(
    job: Job, folder: RunFolder, progress: RunProgress, ranks: Ranks, device: "torch.device"
) -> None:
    """One training per seed in seed_K; the best network by validation loss is copied to the folder.

    All ranks share each training, or, with --seed-per-rank, rank k makes every W-th one from the k-th on
    alone.
    """
    from chase_fast.report import write_report
    from chase_fast.train.cells import spec_of_seed

    seeds, sharing = job.options.seeds, ranks
    if job.options.seed_per_rank:
        seeds, sharing = seeds[ranks.rank :: ranks.world], Ranks()
    for number, seed in enumerate(seeds, 1):
        config = dataclasses.replace(job.config, seed=seed)
        spec = spec_of_seed(config, job.spec)
        path = folder / f"seed_{seed}"
        progress.say(f"seed {seed} ({number} of {len(seeds)})")
        one = Job(config, spec, job.options, describe(config, spec))
        child = open_folder(one, path) if sharing.main else RunFolder(path)
        sharing.barrier()
        stored = child.read_json(CONFIG)  # of a resumed run: as it was
        stored_config(TrainConfig, "train", child, stored)
        one = dataclasses.replace(one, about=dict(stored))
        try:
            train_once(one, child, progress, sharing, device)
        except Exception:
            if sharing.main:
                child.discard_unstarted()
            raise
    if job.options.seed_per_rank:
        ranks.barrier(hours=LONGEST)
    if not ranks.main:
        return
    results = {seed: RunFolder(folder / f"seed_{seed}").read_json(RESULT) for seed in job.options.seeds}
    losses = {seed: result.number("val_loss") for seed, result in results.items()}
    best = min(losses, key=losses.__getitem__)
    of_seeds = {"val_loss_of_seeds": {str(seed): loss for seed, loss in losses.items()}}
    folder.ensure_bytes(BEST, (folder / f"seed_{best}" / BEST).read_bytes())
    folder.ensure_json(RESULT, dict(results[best]) | of_seeds)
    if not folder.newer(REPORT, RESULT):
        write_report(folder.path)
    progress.say(f"best of {len(results)} seeds: {best}, validation loss {losses[best]:.4f}")
    progress.say(f"network: {folder / BEST}")


def run(argv: Sequence[str]) -> int:
    ranks = join()
    job = understand_together(argv, ranks)
    config, options, folder = job.config, job.options, RunFolder(job.options.out)
    progress = RunProgress(options.quiet, mute=not ranks.main)
    progress.say(f"recipe {config.recipe}, run folder {folder.path}")
    if ranks.world > 1:
        share = "one seed each" if options.seed_per_rank else f"{config.batch // ranks.world} sequences each"
        progress.say(f"{ranks.world} ranks, {share}")
    if options.resume and job.about["versions"] != (now := versions()):
        then = job.about["versions"]
        other = sorted(k for k in then.keys() | now if then.get(k) != now.get(k))
        progress.warn(f"versions differ from the start of this run ({', '.join(other)}): digits may differ")
    try:
        train = train_seeds if options.seeds else train_once
        train(job, folder, progress, ranks, ranks.device(config.device))
    except Exception:
        if not options.resume and ranks.main:
            folder.discard_unstarted()
        raise
    except KeyboardInterrupt as e:
        if ranks.main:
            state = "its last checkpoint" if any(folder.path.rglob(CHECKPOINT)) else "the beginning"
            command = f"{PROG} --out {folder.path} --resume"
            print(f"stopped; continue from {state} with: {command}", file=sys.stderr)
        return exit_code(e)
    shutdown()
    return 0


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command line; returns the exit code (see `run_command`)."""
    return run_command(lambda: run(list(sys.argv[1:] if argv is None else argv)))


if __name__ == "__main__":
    sys.exit(main())
