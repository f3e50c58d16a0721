"""How long the paper's search takes here, projected: `python bench/search_hours.py --device cuda --frames 6`

Protocol of the paper: 1500 iterations per epoch, alpha from epoch 11 on, 41 epochs (where the paper stopped)
or 70, and the loss of 5000 hold-out samples after each epoch from the 11th on. What is measured is the real
iteration of a search (`chase_fast.search.step.SearchStep`) on batches of the real loader, one after another:
warm-up iterations (weights only), iterations with alpha, hold-out batches, and the loader alone. Hours are
means times the numbers of the protocol: a projection, and printed as one. It wants 200 measured iterations
of each kind; with fewer it says so.

Data: --train, --val, --holdout as in a search (default: synthetic video, rendered while it is read); or
--frames N makes N sequences of 720p JPEG frames for each of them and measures twice, reading the frames and
reading what chase_fast.data.pack made of them (the crop cache). With data of your own give the packed ones
with --packed TRAIN VAL HOLDOUT.

`--recipe demo` with few --iterations shows on a CPU that everything runs; its hours are those of a toy.
"""

import argparse
import contextlib
import dataclasses
import json
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import torch

from bench.common import machine, save
from bench.timing import synchronise
from chase_fast.data import Batch
from chase_fast.data.batches import AHEAD
from chase_fast.device import peak_memory_mb
from chase_fast.distributed import Ranks
from chase_fast.recipes import SearchConfig, search_recipe
from chase_fast.runs.data import RunData
from chase_fast.runs.progress import RunProgress
from chase_fast.search.data import ahead, samples
from chase_fast.search.network import SearchNetwork
from chase_fast.search.options import SearchCommand
from chase_fast.search.step import SearchStep

ITERATIONS, WARMUP_EPOCHS, EPOCHS, HOLDOUT_SAMPLES = 1500, 10, (41, 70), 5000  # the paper's
ENOUGH = 200  # measured iterations


@dataclasses.dataclass(frozen=True)
class Measured:
    """Consecutive iterations of one kind, milliseconds."""

    count: int
    first: float  # warm-up and capture included
    mean: float
    median: float
    step_median: float  # without waiting for data
    wait_share: float

    @classmethod
    def of(cls, times: list[tuple[float, float]], skip: int) -> "Measured":
        """From (seconds of waiting, seconds in all); the first `skip` are left out."""
        kept = times[skip:]
        total = sum(t for _, t in kept)
        return cls(
            count=len(kept),
            first=1e3 * times[0][1],
            mean=1e3 * total / len(kept),
            median=1e3 * statistics.median(t for _, t in kept),
            step_median=1e3 * statistics.median(t - w for w, t in kept),
            wait_share=sum(w for w, _ in kept) / total,
        )


def consecutive(items: Iterator, run: Callable, count: int, skip: int, device: torch.device) -> Measured:
    """Takes items and runs something on each, one after another."""
    times = []
    for k in range(skip + count):
        start = time.perf_counter()
        item = next(items)
        loaded = time.perf_counter()
        run(k, item)
        synchronise(device)
        times.append((loaded - start, time.perf_counter() - start))
    return Measured.of(times, skip)


def measure(config: SearchConfig, device: torch.device, args: argparse.Namespace) -> dict[str, Measured]:
    """Everything of one source of data: warm-up, alpha, hold-out, and the loader alone."""
    data = RunData(config, SearchCommand.roles, samples(config), RunProgress(quiet=True), device=device)
    network = SearchNetwork(config, device)
    if config.backbone_weights == "random":
        network.calibrate_backbone(data.calibration())
    step = SearchStep(config, network, Ranks())
    print(f"  {getattr(step, 'how', 'eager')}", flush=True)
    active = config.warmup_epochs + 1

    def batches(name: str, epoch: int) -> Iterator[Batch]:
        return ahead(data.batches(name, epoch), device)

    train, pairs = batches("train", 1), zip(batches("train", active), batches("val", active))
    skip = skipped(args)
    count = args.iterations, skip, device
    found = {
        "warm-up": consecutive(train, lambda k, batch: step(1, k, batch), *count),
        "alpha": consecutive(pairs, lambda k, pair: step(active, k, *pair), *count),
    }

    @torch.no_grad()
    def holdout(k: int, batch) -> None:
        network.loss(network.prepare(batch), None, seed=0, scheduled=0.0, training=False)

    found["hold-out"] = consecutive(data.batches("holdout", 0), holdout, args.holdout_batches, skip, device)
    pairs = zip(batches("train", active + 1), batches("val", active + 1))
    found["data alone"] = consecutive(pairs, lambda k, pair: None, args.data_batches, skip, device)
    return found


def skipped(args: argparse.Namespace) -> int:
    """Iterations that do not count: the first ones, and as many as the loader has made ahead by then."""
    return max(args.skip, AHEAD * args.workers)


def hours(found: dict[str, Measured], batch: int, epochs: int) -> float:
    """The protocol's time from the means of what was measured."""
    active = epochs - WARMUP_EPOCHS
    ms = WARMUP_EPOCHS * ITERATIONS * found["warm-up"].mean
    ms += active * (ITERATIONS * found["alpha"].mean + HOLDOUT_SAMPLES / batch * found["hold-out"].mean)
    return ms / 3.6e6


@contextlib.contextmanager
def sources(args: argparse.Namespace) -> Iterator[dict[str, dict[str, tuple[str, ...]]]]:
    """{name: {role: specs}} of what is measured."""
    given = {role: tuple(getattr(args, role)) for role in SearchCommand.roles}
    if args.packed:
        packed = {role: (spec,) for role, spec in zip(SearchCommand.roles, args.packed)}
        yield {"frames": given, "crop cache": packed}
    elif args.frames:
        with tempfile.TemporaryDirectory() as root:
            yield make_sources(Path(root), args.frames, args.image_size)
    else:
        yield {"video": given}


def make_sources(root: Path, sequences: int, size: int) -> dict[str, dict[str, tuple[str, ...]]]:
    """720p JPEG frames for each role, and the packed datasets."""
    from bench.data import make_frames
    from chase_fast.data.pack.__main__ import main as pack

    frames, packed = {}, {}
    for role in SearchCommand.roles:
        make_frames(root / role, sequences)
        frames[role], packed[role] = (f"folder:{root / role}",), (f"packed:{root / role}_packed",)
        code = pack([frames[role][0], "--out", f"{root / role}_packed", "--size", str(size)])
        assert code == 0, f"packing {frames[role][0]} failed"
    return {"frames": frames, "crop cache": packed}


def rows_of(name: str, found: dict[str, Measured], config: SearchConfig, device: torch.device) -> list[dict]:
    """Prints what was measured and what it projects to."""
    rows = []
    for kind, m in found.items():
        waiting = "" if kind == "data alone" else f", without waiting {m.step_median:.1f} ms"
        print(
            f"  {kind:10} median {m.median:9.1f} ms{waiting}; mean {m.mean:.1f} ms over {m.count}, "
            f"{m.wait_share:.0%} of it waiting for data; the first {m.first / 1e3:.1f} s"
        )
        rows.append({"data": name, "kind": kind} | dataclasses.asdict(m))
    peak = peak_memory_mb(str(device))
    print(f"  peak memory {peak / 1024:.2f} GiB", flush=True)
    enough = min(found["warm-up"].count, found["alpha"].count) >= ENOUGH
    projected = {epochs: hours(found, config.batch, epochs) for epochs in EPOCHS}
    text = ", ".join(f"{epochs} epochs {h:.2f} h" for epochs, h in projected.items())
    weak = "" if enough else f"; from fewer than {ENOUGH} iterations of each kind, so no more than a hint"
    print(
        f"  PROJECTION of the paper's protocol at the size of recipe {config.recipe}: {text}{weak}",
        flush=True,
    )
    rows.append({"data": name, "peak_memory_mb": peak, "projected_hours": projected, "enough": enough})
    return rows


def main(argv: list[str] | None = None) -> dict:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--recipe", default="paper", help="of the search")
    parser.add_argument("--device", default="cpu")
    for role in SearchCommand.roles:
        parser.add_argument(f"--{role}", nargs="+", default=["synthetic"], metavar="SPEC")
    parser.add_argument("--packed", nargs=3, metavar="SPEC", help="packed train, val and hold-out data")
    parser.add_argument("--frames", type=int, default=0, metavar="N", help="make N sequences for each role")
    parser.add_argument("--backbone-weights", default="random")
    parser.add_argument("--precision", help="of the search (default: that of the recipe)")
    parser.add_argument("--no-graphs", action="store_true")
    parser.add_argument("--workers", type=int, default=0, help="processes that load data")
    parser.add_argument("--iterations", type=int, default=ENOUGH, help="measured, of each kind")
    parser.add_argument("--skip", type=int, default=10, help="iterations before those, at least")
    parser.add_argument("--holdout-batches", type=int, default=25)
    parser.add_argument("--data-batches", type=int, default=60, help="batches of the loader alone")
    parser.add_argument("--threads", type=int, help="CPU threads (default: torch's choice)")
    parser.add_argument("--save", action="store_true", help="write bench/results/DATE_DEVICE.json")
    args = parser.parse_args(argv)

    if args.threads:
        torch.set_num_threads(args.threads)
    device = torch.device(args.device)
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False  # as the search does
    torch.backends.cudnn.deterministic = True
    recipe = search_recipe(args.recipe)
    args.image_size = recipe.image_size
    changes = {"backbone_weights": args.backbone_weights, "workers": args.workers, "device": args.device}
    changes |= {"calibration_batches": 2, "holdout_batches": args.holdout_batches + skipped(args)}
    changes |= {"iterations": skipped(args) + max(args.iterations, args.data_batches)}
    changes |= {"precision": args.precision} if args.precision else {}
    changes |= {"graphs": False} if args.no_graphs else {}
    result = {"machine": machine(device), "recipe": args.recipe, "rows": []}
    print(json.dumps(result["machine"]))
    with sources(args) as found:
        for name, specs in found.items():
            config = dataclasses.replace(recipe, **changes, **specs).on(1)
            sizes = (
                f"C={config.channels}, batch {config.batch} x ({config.train_frames}+{config.test_frames})"
            )
            print(f"{args.recipe}: {sizes} frames, {config.image_size} px, {config.backbone}; data: {name}")
            if device.type == "cuda":
                torch.cuda.reset_peak_memory_stats(device)
            result["rows"] += rows_of(name, measure(config, device, args), config, device)
    if args.save:
        print(save(result, f"search_hours {args.recipe}{' ' + args.precision if args.precision else ''}"))
    return result


if __name__ == "__main__":
    main()
