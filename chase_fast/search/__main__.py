"""Command line of the search: python -m chase_fast.search [RECIPE] [flags]."""

import dataclasses
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from chase_fast.command import exit_code, run_command, stopping
from chase_fast.device import computing
from chase_fast.distributed import Ranks, join, shutdown
from chase_fast.fields import Fields
from chase_fast.progress import duration
from chase_fast.recipes import SearchConfig
from chase_fast.runs import CHECKPOINT, CONFIG, REPORT, RunFolder, versions
from chase_fast.search import BEST, CELL
from chase_fast.search.options import PROG, Options, describe, resolve_together
from chase_fast.search.progress import SearchProgress
from chase_fast.stored import stored_config

if TYPE_CHECKING:
    import torch

NONE = (
    "none(K) gives zero: node K is left out there. The search may choose that, as in the paper; "
    "--no-none-counts forbids it"
)
LONGEST = 24 * 90  # hours that rank 0 waits for the slowest seed


def search_once(
    config: SearchConfig,
    folder: RunFolder,
    about: dict[str, Any],
    progress: SearchProgress,
    ranks: Ranks,
    device: "torch.device",
) -> None:
    """One search in one folder."""
    import torch

    from chase_fast.search.loop import Search

    with computing(config.threads, device):
        provenance = {
            "recipe": config.recipe,
            "flavour": config.flavour,
            "channels": config.channels,
            "seed": config.seed,
            "versions": about["versions"],
            "commit": about["commit"],
            "threads": torch.get_num_threads(),
        }
        search = Search(config, folder, provenance, progress, ranks, device)
        with stopping(search, progress.say, alone=ranks.world == 1):
            cell = search.run()
    if ranks.main:
        progress.say(summary(search, cell))


def summary(search, cell: Fields) -> str:
    """Result, time and memory of a finished search."""
    from chase_fast.nn.genotype import Genotype

    history, perf = search.history, search.perf
    active = [row for row in perf if row["epoch"] > search.config.warmup_epochs]
    iteration = sum(p["iteration_ms"] for p in active) / len(active)
    wait = sum(p["data_wait_share"] for p in active) / len(active)
    peak = max(p["peak_memory_mb"] for p in perf)
    nodes = Genotype.from_any(cell.get("genotype")).nodes
    genes = [[f"{op}({source})" for op, source in node] for node in nodes]
    lines = [
        f"cell of epoch {cell.integer('epoch')} (nodes 0 and 1 are the inputs, layer2 and layer3):",
        *(f"  node {i}: {' + '.join(node) or 'nothing'}" for i, node in enumerate(genes, 2)),
        f"hold-out loss {cell.number('holdout_loss'):.4f}, untrained {history[0]['holdout_loss']:.4f}",
        f"{duration(sum(p['seconds'] for p in perf))} in all; {iteration:.0f} ms per iteration with alpha, "
        f"{wait:.0%} of it waiting for data; peak memory {peak / 1024:.2f} GiB",
        f"cell: {search.folder / CELL}, report: {search.folder / REPORT}",
    ]
    if any(op == "none" for node in nodes for op, _ in node):
        lines.insert(1 + len(genes), f"  {NONE}")
    return "\n".join(lines)


def search_seeds(
    config: SearchConfig,
    options: Options,
    folder: RunFolder,
    progress: SearchProgress,
    ranks: Ranks,
    device: "torch.device",
) -> None:
    """One search per seed in seed_K; the best cell by hold-out loss is copied to the folder.

    All ranks share each search, or, with --seed-per-rank, rank k makes every W-th one from the k-th on alone.
    """
    from chase_fast.report import write_report

    seeds, sharing = options.seeds, ranks
    if options.seed_per_rank:
        seeds, sharing = seeds[ranks.rank :: ranks.world], Ranks()
    for number, seed in enumerate(seeds, 1):
        one = dataclasses.replace(config, seed=seed)
        path = folder / f"seed_{seed}"
        progress.say(f"seed {seed} ({number} of {len(seeds)})")
        child, about = RunFolder(path), describe(one)
        if sharing.main and options.resume and (path / CONFIG).is_file():
            child, about = RunFolder.open(path)
            stored_config(SearchConfig, "search", child, about)
        elif sharing.main:
            child = RunFolder.create(path, about)
        try:
            search_once(one, child, about, progress, sharing, device)
        except Exception:
            if sharing.main:
                child.discard_unstarted()
            raise
    if options.seed_per_rank:
        ranks.barrier(hours=LONGEST)
    if not ranks.main:
        return
    cells = {seed: RunFolder(folder / f"seed_{seed}").read_json(CELL) for seed in options.seeds}
    losses = {seed: cell.number("holdout_loss") for seed, cell in cells.items()}
    best = min(losses, key=losses.__getitem__)
    of_seeds = {"holdout_loss_of_seeds": {str(seed): loss for seed, loss in losses.items()}}
    folder.ensure_bytes(BEST, (folder / f"seed_{best}" / BEST).read_bytes())
    folder.ensure_json(CELL, dict(cells[best]) | of_seeds)
    if not folder.newer(REPORT, CELL):
        write_report(folder.path)
    progress.say(f"best of {len(cells)} seeds: {best}, hold-out loss {losses[best]:.4f}")
    progress.say(f"cell: {folder / CELL}")


def run(argv: Sequence[str]) -> int:
    ranks = join()
    config, options, folder, about = resolve_together(argv, ranks)
    progress = SearchProgress(options.quiet, silent=not ranks.main)
    progress.say(f"recipe {config.recipe}, run folder {folder.path}")
    if ranks.world > 1:
        share = "one seed each" if options.seed_per_rank else f"{config.batch // ranks.world} sequences each"
        progress.say(f"{ranks.world} ranks, {share}")
    if options.resume and about["versions"] != (now := versions()):
        other = sorted(k for k in about["versions"].keys() | now if about["versions"].get(k) != now.get(k))
        progress.warn(f"versions differ from the start of this run ({', '.join(other)}): digits may differ")
    try:
        device = ranks.device(config.device)
        if options.seeds:
            search_seeds(config, options, folder, progress, ranks, device)
        else:
            search_once(config, folder, about, progress, ranks, device)
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
