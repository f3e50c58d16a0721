"""Times whole iterations of a search as a CUDA graph and eagerly: `python bench/search_graph.py`

An iteration is what the search runs: images to updated weights and alpha, backbone included; batches are
random and on the device. Candidates are every precision, eager and as one graph. The first ten losses of a
graph must be those of the eager run, else no time is printed. Repeats of all candidates are interleaved.
Printed: the median, the time of the first ten iterations (warm-up and capture) and the memory that torch's
allocator took for the candidate. Without a CUDA device only eager runs are timed. Wall clock, TF32 off.
"""

import argparse
import dataclasses
import json
import statistics
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import torch

from bench.common import machine, save
from chase_fast.data import Batch
from chase_fast.distributed import Ranks
from chase_fast.recipes import SearchConfig, search_recipe
from chase_fast.search.network import SearchNetwork
from chase_fast.search.step import SearchStep

CHECKED = 10  # iterations whose losses are compared


def batch_of(config: SearchConfig, seed: int, device: torch.device) -> Batch:
    """Random images, boxes and labels, as the loader lays them out."""
    generator = torch.Generator().manual_seed(seed)
    n, m, s, size = config.train_frames, config.test_frames, config.batch, config.image_size
    images = [torch.randn(k, s, size, size, 3, generator=generator).permute(0, 1, 4, 2, 3) for k in (n, m)]
    boxes = [torch.rand(k, s, 4, generator=generator) * (size / 4) + size / 5 for k in (n, m)]
    label = torch.rand(m, s, size // 16 + 1, size // 16 + 1, generator=generator)
    return Batch(*images, *boxes, label / label.sum((2, 3), keepdim=True), label).to(device)


def _reserved(device: torch.device) -> int:
    """Bytes that the allocator holds on a GPU, peak since the last call; 0 on a CPU."""
    if device.type != "cuda":
        return 0
    peak = torch.cuda.max_memory_reserved(device)
    torch.cuda.reset_peak_memory_stats(device)
    return peak


class Candidate:
    """One way to run the iteration, from the same initial state."""

    def __init__(self, config: SearchConfig, graph: bool, device: torch.device):
        self.name = f"{config.precision} {'graph' if graph else 'eager'}"
        self._epoch = config.warmup_epochs + 1
        self._batches = [batch_of(config, seed, device) for seed in (0, 1)]
        network = SearchNetwork(config, device)
        network.calibrate_backbone(iter(self._batches[:1]))
        self._step = SearchStep(config, network, Ranks(), graph)
        self._iteration = 0
        self.times: list[float] = []
        _reserved(device)  # of what was before
        reserved, before = _reserved(device), time.perf_counter()
        self.losses = [tuple(self().values()) for _ in range(CHECKED)]
        self.first_seconds = time.perf_counter() - before
        self.memory_mib = (_reserved(device) - reserved) / 2**20
        self.times.clear()

    def __call__(self) -> dict[str, float]:
        """One second-order iteration (first-order in recipes that are); its losses reach the host."""
        begin = time.perf_counter()
        losses = self._step(self._epoch, self._iteration, *self._batches)
        self.times.append(1e3 * (time.perf_counter() - begin))  # the losses were waited for
        self._iteration += 1
        return losses


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--recipe", default="paper")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--channels", type=int, help="default: that of the recipe")
    parser.add_argument("--flavour", choices=("chase", "darts"), default="chase")
    parser.add_argument("--precision", nargs="+", choices=("fp32", "bf16"), default=["fp32", "bf16"])
    parser.add_argument("--repeats", type=int, default=20)
    parser.add_argument("--save", action="store_true", help="write bench/results/DATE_DEVICE.json")
    args = parser.parse_args()
    device = torch.device(args.device)
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False
    torch.backends.cudnn.deterministic = True
    recipe = search_recipe(args.recipe)
    config = dataclasses.replace(
        recipe,
        backbone_weights="random",
        flavour=args.flavour,
        channels=args.channels or recipe.channels,
        **dict.fromkeys(("train", "val", "holdout"), ("synthetic",)),
    ).on(1)
    result = {"machine": machine(device), "rows": []}
    print(json.dumps(result["machine"]))
    for precision in args.precision:
        one = dataclasses.replace(config, precision=precision)
        graphs = (False, True) if device.type == "cuda" else (False,)
        candidates = [Candidate(one, graph, device) for graph in graphs]
        for _ in range(args.repeats):
            for candidate in candidates:
                candidate()
        for c in candidates:
            same = c.losses == candidates[0].losses
            row = {"recipe": args.recipe, "channels": one.channels, "flavour": args.flavour, "name": c.name}
            row |= {"ms": statistics.median(c.times) if same else None, "least_ms": min(c.times)}
            row |= {"first_seconds": c.first_seconds, "memory_mib": c.memory_mib, "losses": c.losses[-1]}
            result["rows"].append(row)
            shown = f"{row['ms']:8.2f} ms" if same else "other losses than eager: no time is printed"
            print(
                f"  {c.name:12} {shown}   first {CHECKED} iterations {c.first_seconds:.1f} s, "
                f"memory {c.memory_mib:.0f} MiB"
            )
    if args.save:
        print(save(result, f"search_graph {args.recipe}"))


if __name__ == "__main__":
    main()
