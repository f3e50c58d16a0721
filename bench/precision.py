"""Error of the alpha gradient in every precision of the search: `python bench/precision.py [--device cuda]`

One second-order architect step on the neck (preprocess and cell, 4 nodes, 8 operations) with the PrDiMP
classifier and its five solver iterations, on random features, no dropout, at the initial weights. The same
step in float64 on the reference backend is the truth. Printed for each width C and precision, as relative RMS
errors:

    dalpha      d L_val(w', alpha) / d alpha
    implicit    (g+ - g-) / 2R, apart from dalpha: it is a small share of the gradient, so that an error in it
                shows neither in the gradient nor in the cell of a single run
    cosine      of the implicit term with the truth
    share       |eta implicit| / |dalpha|

A precision is right if the implicit term is within 5e-2 and its cosine at least 0.998; beyond that the exit
code is 1. `all-bf16` is a control and no precision of the search: validation pass and both probes with
their maps in bfloat16 too. If it is within the limits, the measurement is blind, and the exit code is 1 too.

Features are bfloat16 numbers, the same in every precision: that the frozen backbone rounds them changes the
data, not the difference. On a CPU bf16 runs through the reference, which keeps more digits inside an op than
a kernel that stores every map in bfloat16. The difference crosses kinks of ReLU and max pooling: on few and
small maps a single one that falls on the other side by rounding is a per cent of the term, in float32 too.
"""

import argparse
import dataclasses
import json
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import torch

from bench.common import machine, save
from chase_fast.distributed import Ranks
from chase_fast.kernels._dispatch import using
from chase_fast.kernels.kl_loss import label_density
from chase_fast.nn.target_classifier import score_centre
from chase_fast.recipes import search_recipe
from chase_fast.search.bilevel import AlphaGradient
from chase_fast.search.network import Prepared, SearchNetwork
from chase_fast.search.step import Part, SearchStep
from tests.tolerances import SEARCH_PRECISION, error

MODES = ("fp32", "bf16")
CONTROL = "all-bf16"
WIDTHS = (128, 256)  # of ResNet-18's layer2 and layer3


@dataclasses.dataclass(frozen=True)
class Setting:
    """One architect step: s sequences of n train and n test frames with maps of size x size."""

    channels: int = 32
    frames: int = 3
    sequences: int = 2
    size: int = 18
    flavour: str = "chase"


def batch(setting: Setting, seed: int, device: torch.device, dtype: torch.dtype) -> Prepared:
    """Random frozen features, as a ReLU leaves them, and boxes with their label densities."""
    generator = torch.Generator().manual_seed(seed)
    n, s, size = setting.frames, setting.sequences, setting.size
    shapes = zip(WIDTHS, (2 * size, size))
    maps = [torch.randn(2 * n * s, c, h, h, generator=generator).relu().bfloat16() for c, h in shapes]
    places = 16 * size * (0.3 + 0.2 * torch.rand(2, n, s, 2, generator=generator))
    boxes = torch.cat([places, places.new_full(places.shape, 3.2 * size)], -1)  # x y w h, px
    labels = label_density(score_centre(boxes[1], 4), (size + 1, size + 1), size / 20)
    layer2, layer3 = (x.to(device, dtype).contiguous(memory_format=torch.channels_last) for x in maps)
    return Prepared(layer2, layer3, boxes[0].to(device, dtype), labels.to(device, dtype), (n, n), 1)


def architect(setting: Setting, mode: str, device: torch.device) -> tuple[AlphaGradient, float]:
    """The gradient of alpha in a precision (fp64 on the reference backend), and eta."""
    precision = {CONTROL: "bf16"}.get(mode, mode)
    config = dataclasses.replace(
        search_recipe("paper"),
        **{"backbone": "resnet18", "backbone_weights": "random", "channels": setting.channels},
        **{"flavour": setting.flavour, "image_size": 16 * setting.size, "precision": precision},
        **{"dropout": 0.0} | dict.fromkeys(("train", "val", "holdout"), ("synthetic",)),
    ).on(1)
    network = SearchNetwork(config, device)
    with torch.no_grad():
        network.alpha.copy_(network.alpha.float())  # the same numbers in every precision
    step = SearchStep(config, network, Ranks(), graph=False)
    part = Part({}, lambda passes: [0])
    train, val = (
        step.losses(batch(setting, seed, device, network.dtype), part, config.dropout, 0.0) for seed in (0, 1)
    )
    exact, low = (train[1], train[1]) if mode == CONTROL else train
    val_loss = val[1] if mode == CONTROL else val[0]
    return step.alpha_gradient(exact, low, val_loss, config.lr), config.lr


def measure(setting: Setting, modes: tuple[str, ...], device: torch.device) -> dict[str, dict[str, float]]:
    """Errors of each mode against float64."""
    with using("reference"):
        truth, eta = architect(setting, "fp64", device)
    rows = {}
    for mode in modes:
        begin = time.perf_counter()
        got, _ = architect(setting, mode, device)
        a, b = (x.implicit.double().flatten().cpu() for x in (got, truth))
        rows[mode] = {
            "dalpha": error(got.dalpha, truth.dalpha),
            "implicit": error(a, b),
            "cosine": float(a @ b / (a.norm() * b.norm())),
            "share": float(eta * b.norm() / truth.dalpha.norm()),
            "seconds": time.perf_counter() - begin,
        }
    return rows


def within(row: dict[str, float]) -> bool:
    """Whether the implicit term is right."""
    return row["implicit"] <= SEARCH_PRECISION["implicit"] and row["cosine"] >= SEARCH_PRECISION["cosine"]


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--channels", type=int, nargs="+", help="default: 32 64 256; on a CPU 32")
    parser.add_argument("--flavour", nargs="+", default=["chase", "darts"], choices=("chase", "darts"))
    parser.add_argument("--sequences", type=int, help="of 6 frames; default: 10, on a CPU 2")
    parser.add_argument("--size", type=int, default=18)
    parser.add_argument("--save", action="store_true", help="write bench/results/DATE_DEVICE.json")
    args = parser.parse_args()
    device = torch.device(args.device)
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False
    result: dict = {"machine": machine(device), "limits": SEARCH_PRECISION, "rows": []}
    print(json.dumps(result["machine"]))
    wrong, sequences = False, args.sequences or (2 if device.type == "cpu" else 10)
    for channels in args.channels or ((32,) if device.type == "cpu" else (32, 64, 256)):
        for flavour in args.flavour:
            setting = Setting(channels, sequences=sequences, size=args.size, flavour=flavour)
            print(f"{flavour}, C = {channels}, {6 * sequences} frames, {args.size} x {args.size}")
            for mode, row in measure(setting, (*MODES, CONTROL), device).items():
                right = within(row)
                wrong |= right == (mode == CONTROL)
                verdict = ("within" if right else "BEYOND") + (" (control)" if mode == CONTROL else "")
                print(
                    f"  {mode:9} dalpha {row['dalpha']:.1e}   implicit {row['implicit']:.1e}, "
                    f"cosine {row['cosine']:.4f}, share {row['share']:.1e}   {verdict}"
                )
                result["rows"].append(dataclasses.asdict(setting) | {"mode": mode, "within": right} | row)
    if args.save:
        print(save(result, "precision"))
    return int(wrong)


if __name__ == "__main__":
    sys.exit(main())
