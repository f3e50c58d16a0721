"""Times steps of the search against the published structure: `python bench/search_step.py --step architect`

Steps, all with 4 nodes, 8 operations and 14 edges:
    cell        the search cell, forward and backward to inputs, weights and alpha
    architect   the second-order gradient of alpha, on the neck (preprocess and cell)
    iteration   the same, Adam on alpha, weight gradient, Adam on the weights
    demo        a second-order iteration of the demo recipe (or --recipe): images to updated weights, backbone
                and classifier included; only chase_fast draws masks here, batches are loaded before
--paper is `demo` at the paper's size: C = 256, 10 x (3+3) frames, 288 px, ResNet-50.

`cell`, `architect` and `iteration` have C channels and N frames of HxH (--channels, --frames, --size), one
group of BatchNorm statistics, no dropout, and for a head the cross entropy of a fixed linear map of the
pooled output; the neck reads ResNet-18's widths; on a GPU they are eager calls. `demo` runs the step that a
search runs there, one CUDA graph. The baseline is bench/published.py, in NCHW and in channels_last.

The first step of every candidate is compared with that of the published structure in float64; a speed-up is
printed only if loss, gradients, the implicit term and the updated weights are within the tolerances of the
tests. Repeats are interleaved, medians are printed. TF32 is off: a second-order step needs full float32.
Lines "not equal" are channels_last with TF32 allowed and under bfloat16 autocast, and chase_fast with
--precision bf16: another computation. On a CPU, --memory also starts each candidate in a process of its own
and prints its peak resident memory (750 MiB of it are torch and what it imports); on a GPU the peak of the
device memory that a candidate takes stands in its line.
"""

import argparse
import copy
import dataclasses
import functools
import json
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from bench import published
from bench.common import machine, save
from bench.published_tracker import Tracker
from bench.timing import Memory, synchronise, tf32
from chase_fast.data import Batch
from chase_fast.distributed import Ranks
from chase_fast.nn.neck import SearchNeck
from chase_fast.nn.search_cell import SearchCell
from chase_fast.recipes import SearchConfig, search_recipe
from chase_fast.runs import stream
from chase_fast.runs.data import RunData
from chase_fast.runs.progress import RunProgress
from chase_fast.search import schedule
from chase_fast.search.bilevel import FlatParameters, second_order, weight_gradient
from chase_fast.search.data import samples
from chase_fast.search.network import SearchNetwork
from chase_fast.search.options import SearchCommand
from chase_fast.search.step import SearchStep
from tests.nas_names import Slot, neck_slots, norm_slots, search_slots
from tests.tolerances import GOLDEN, TRAIN_STEP, error

OURS, PUBLISHED, CHANNELS_LAST = "chase_fast", "published", "published channels_last"
TF32, BF16, OURS_BF16 = "channels_last TF32", "channels_last bf16", "chase_fast bf16"
CANDIDATES = (PUBLISHED, CHANNELS_LAST, OURS)
NOT_EQUAL = (TF32, BF16, OURS_BF16)  # another computation
ETA, WEIGHT_DECAY, LR, ALPHA_LR = 1e-3, 3e-4, 1e-3, 3e-4
WIDTHS = (128, 256)  # of layer2 and layer3, ResNet-18
TOLERANCES = {
    "loss": GOLDEN["float32_forward"],
    "alpha gradient": GOLDEN["float32_implicit"],
    "implicit term": GOLDEN["float32_implicit"],
    "weight gradient": TRAIN_STEP,
    "input gradient": TRAIN_STEP,
    "weights": TRAIN_STEP,
}

Step = Callable[[], Callable[[], dict[str, Tensor]]]  # runs a step; what it returns collects the results


@dataclasses.dataclass(frozen=True)
class Shape:
    flavour: str = "chase"
    channels: int = 128
    frames: int = 6
    size: int = 18
    device: str = "cpu"


def slots_of(module: nn.Module, flavour: str) -> list[Slot]:
    """Weights of a search cell or neck of ours with their names in the published structure."""
    if isinstance(module, SearchCell):
        return [s for s in search_slots(module) if isinstance(s.tensor, nn.Parameter)]
    cell = search_slots(module.cell)
    if flavour == "chase":
        slots = neck_slots(module, cell)
    else:
        reduce, conv = module.preprocess
        slots = [
            Slot("preprocess0.conv_1.weight", reduce.even.weight),
            Slot("preprocess0.conv_2.weight", reduce.shifted.weight),
            *norm_slots("preprocess0.bn", reduce.norm),
            Slot("preprocess1.op.1.weight", conv.conv.weight),
            *norm_slots("preprocess1.op.2", conv.norm),
            *(Slot(f"cells.0.{s.key}", s.tensor, s.index) for s in cell),
        ]
    return [s for s in slots if isinstance(s.tensor, nn.Parameter)]


@torch.no_grad()
def copy_weights(slots: list[Slot], module: nn.Module) -> None:
    """From ours into the published structure; both must have the same weights."""
    named = dict(module.named_parameters())
    assert {s.key for s in slots} == set(named)
    for slot in slots:
        named[slot.key].copy_(slot.part().view(named[slot.key].shape))


def flat_ours(slots: list[Slot], values: dict[int, Tensor] | None = None) -> Tensor:
    """Weights, or values by id of our parameter, in the order of the slots."""
    parts = [s.part(values[id(s.tensor)] if values else None) for s in slots]
    return torch.cat([p.detach().flatten() for p in parts])


def flat_published(slots: list[Slot], values: dict[str, Tensor]) -> Tensor:
    return torch.cat([values[s.key].detach().flatten() for s in slots])


class Toy:
    """Our cell or neck, and the published one with the same weights; inputs, alpha and head."""

    def __init__(self, shape: Shape, whole: bool, candidate: str, dtype: torch.dtype):
        torch.manual_seed(0)
        c, n, h = shape.channels, shape.frames, shape.size
        if whole:
            ours: nn.Module = SearchNeck(WIDTHS, c, flavour=shape.flavour)
            sizes = [(n, WIDTHS[0], 2 * h, 2 * h), (n, WIDTHS[1], h, h)]
        else:
            ours = SearchCell(c, flavour=shape.flavour)
            sizes = [(n, c, h, h)] * 2
        device = torch.device(shape.device)
        ours.to(device, dtype)
        self.slots = slots_of(ours, shape.flavour)
        self.ours = candidate == OURS
        layout = torch.contiguous_format if candidate == PUBLISHED else torch.channels_last

        def batch() -> tuple[list[Tensor], Tensor]:
            maps = [torch.randn(size).to(device, dtype).contiguous(memory_format=layout) for size in sizes]
            return maps, torch.randint(10, (n,)).to(device)

        self.train, self.val = batch(), batch()
        self.head = (torch.randn(4 * c, 10) / c**0.5).to(device, dtype)
        self.alpha = (0.1 * torch.randn(14, 8)).to(device, dtype).requires_grad_()
        if self.ours:
            self.module = ours
            self.weights = FlatParameters(ours.parameters())
        else:
            make = published.Neck if whole else published.Cell
            self.module = make(*((WIDTHS,) if whole else ()), c, shape.flavour).to(device, dtype)
            copy_weights(self.slots, self.module)
            self.module.to(memory_format=layout)

    def loss(self, batch: tuple[list[Tensor], Tensor], module: nn.Module | None = None, **options) -> Tensor:
        maps, target = batch
        y = (module or self.module)(*maps, F.softmax(self.alpha, -1), **options)
        return F.cross_entropy(y.mean((2, 3)) @ self.head, target)

    def flat(self, gradients: list[Tensor] | None = None) -> Tensor:
        """The weights, or gradients in the order of the parameters, in the order of the slots."""
        if self.ours:
            return flat_ours(
                self.slots, gradients and dict(zip(map(id, self.module.parameters()), gradients))
            )
        names, weights = zip(*self.module.named_parameters())
        return flat_published(self.slots, dict(zip(names, gradients or weights)))


def cell_step(shape: Shape, candidate: str, dtype: torch.dtype) -> Step:
    toy = Toy(shape, False, candidate, dtype)
    inputs = [x.requires_grad_() for x in toy.train[0]]
    leaves = [toy.alpha, *inputs, *toy.module.parameters()]

    def step():
        loss = toy.loss(toy.train)
        gradients = torch.autograd.grad(loss, leaves)
        return lambda: {
            "loss": loss,
            "alpha gradient": gradients[0],
            "input gradient": torch.stack(gradients[1:3]),
            "weight gradient": toy.flat(list(gradients[3:])),
        }

    return step


def architect_step(shape: Shape, candidate: str, dtype: torch.dtype) -> Step:
    toy = Toy(shape, True, candidate, dtype)
    return lambda: collect(architect(toy))


def architect(toy: Toy) -> tuple[Tensor, Tensor, Tensor]:
    """One architect step, its gradient in alpha.grad: (alpha, validation loss, implicit term)."""
    if toy.ours:
        losses = [
            lambda update, batch=batch: toy.loss(batch, update_stats=update) for batch in (toy.train, toy.val)
        ]
        result = second_order(*losses, toy.alpha, toy.weights, eta=ETA, weight_decay=WEIGHT_DECAY)
        toy.alpha.grad = result.galpha
        return toy.alpha, result.loss_val, result.implicit
    step = published.Architect(
        lambda model, alpha, batch: toy.loss(batch, model), eta=ETA, weight_decay=WEIGHT_DECAY
    )
    return toy.alpha, *step.step(toy.module, toy.alpha, toy.train, toy.val)


def collect(result: tuple[Tensor, Tensor, Tensor]) -> Callable[[], dict[str, Tensor]]:
    alpha, loss, implicit = result
    return lambda: {"loss": loss, "alpha gradient": alpha.grad, "implicit term": implicit}


def iteration_step(shape: Shape, candidate: str, dtype: torch.dtype) -> Step:
    toy = Toy(shape, True, candidate, dtype)
    weights = [toy.weights.values] if toy.ours else list(toy.module.parameters())
    weight_adam = torch.optim.Adam(weights, lr=LR, foreach=False if toy.ours else None)
    alpha_adam = torch.optim.Adam(
        [toy.alpha], lr=ALPHA_LR, betas=(0.5, 0.999), weight_decay=1e-3, foreach=False
    )

    def step():
        results = collect(architect(toy))
        alpha_gradient = toy.alpha.grad.clone()  # the weight step adds to it
        alpha_adam.step()
        if toy.ours:
            loss, (gradient,) = weight_gradient(
                lambda update: toy.loss(toy.train, update_stats=update), toy.alpha, toy.weights
            )
            toy.weights.values.grad = gradient
        else:
            weight_adam.zero_grad()
            loss = toy.loss(toy.train)
            loss.backward()
        weight_adam.step()
        return lambda: {
            **results(),
            "alpha gradient": alpha_gradient,
            "loss": torch.stack([results()["loss"], loss.detach()]),
            "weights": toy.flat(),
        }

    return step


@functools.cache
def demo_batches(config: SearchConfig) -> tuple[list[Batch], Batch, Batch]:
    """Batches for the calibration of the backbone, a training and a validation batch."""
    few = dataclasses.replace(config, calibration_batches=2)
    data = RunData(few, SearchCommand.roles, samples(config), RunProgress(quiet=True))
    epoch = config.warmup_epochs + 1
    return [*data.calibration()], *(next(data.batches(name, epoch)) for name in ("train", "val"))


def demo_step(config: SearchConfig, candidate: str, dtype: torch.dtype, device: torch.device) -> Step:
    """The first iteration with alpha active, from the untrained network."""
    calibration, batch, val_batch = demo_batches(config)
    low = "bf16" if candidate == OURS_BF16 else "fp32"
    config = dataclasses.replace(config, precision="fp64" if dtype == torch.float64 else low).on(1)
    epoch = config.warmup_epochs + 1
    network = SearchNetwork(config, device)
    if config.backbone_weights == "random":
        network.calibrate_backbone(iter(calibration))
    slots = slots_of(network.neck, config.flavour)
    if candidate in (OURS, OURS_BF16):
        step_on = SearchStep(config, network, Ranks())

        def step():
            losses = step_on(epoch, 0, batch, val_batch)
            return lambda: {
                "loss": torch.tensor([losses["val"], losses["train"]]),
                "alpha gradient": network.alpha.grad,
                "weights": torch.cat(
                    [flat_ours(slots), *(p.flatten() for p in network.classifier.parameters())]
                ),
            }

        return step
    layout = torch.contiguous_format if candidate == PUBLISHED else torch.channels_last
    tracker = Tracker(
        copy.deepcopy(network.backbone), config.channels, config.flavour, config.image_size // 16
    ).to(device, dtype)
    copy_weights(slots, tracker.neck)
    tracker.classifier.load_state_dict(network.classifier.state_dict())
    tracker.to(memory_format=layout)
    rate = schedule.dropout_rate(config, epoch)
    inputs = [
        tracker_batch(
            network,
            b,
            rate,
            [stream(config.seed, "masks", name, epoch, 0, 0, k) for k in range(config.batch)],
            layout,
        )
        for name, b in (("train", batch), ("val", val_batch))
    ]
    alpha = network.alpha.detach().clone().requires_grad_()
    unrolled = published.Architect(
        lambda model, alpha, batch: model.loss(alpha, batch),
        "neck",
        schedule.unroll_rate(config, epoch),
        config.unroll_weight_decay,
        config.unroll_r,
    )
    trained = [*tracker.neck.parameters(), *tracker.classifier.parameters()]
    weight_adam = torch.optim.Adam(trained, lr=schedule.learning_rate(config, epoch))
    betas = config.alpha_beta1, config.alpha_beta2
    alpha_adam = torch.optim.Adam(
        [alpha], lr=config.alpha_lr, betas=betas, weight_decay=config.alpha_weight_decay
    )

    def step():
        val_loss, _ = unrolled.step(tracker, alpha, *inputs)
        alpha_gradient = alpha.grad.clone()  # the weight step adds to it
        alpha_adam.step()
        weight_adam.zero_grad()
        loss = tracker.loss(alpha, inputs[0])
        loss.backward()
        weight_adam.step()
        named = dict(tracker.neck.named_parameters())
        return lambda: {
            "loss": torch.stack([val_loss, loss.detach()]),
            "alpha gradient": alpha_gradient,
            "weights": torch.cat(
                [
                    flat_published(slots, named),
                    *(p.detach().flatten() for p in tracker.classifier.parameters()),
                ]
            ),
        }

    return step


def tracker_batch(
    network: SearchNetwork, batch, rate: float, seeds: list[int], layout: torch.memory_format
) -> dict:
    """A batch of the published tracker, with the dropout masks chase_fast draws for these seeds."""
    data = network.prepare(batch)
    masks = network.masks(data, rate, seeds)
    train = data.frames[0] * data.boxes.shape[1]
    values: dict = {"train_masks": None, "test_masks": None}
    if masks[0] is not None:
        keep, scale = torch.cat([m.keep for m in masks], 1), masks[0].scale
        scaled = [(edge.to(network.dtype) * scale).contiguous(memory_format=layout) for edge in keep]
        values = {"train_masks": [m[:train] for m in scaled], "test_masks": [m[train:] for m in scaled]}
    for name in ("train_images", "test_images"):
        images = getattr(batch, name).to(network.device, network.dtype)
        values[name] = images.flatten(0, 1).contiguous(memory_format=layout).unflatten(0, images.shape[:2])
    return values | {"boxes": data.boxes, "density": data.labels}


def make_step(args: argparse.Namespace, flavour: str, candidate: str, dtype: torch.dtype) -> Step:
    if candidate in (TF32, BF16):
        inner = make_step(args, flavour, CHANNELS_LAST, dtype)
        kind = torch.device(args.device).type

        def step():
            with tf32(True) if candidate == TF32 else torch.autocast(kind, torch.bfloat16):
                return inner()

        return step
    if args.step == "demo":
        return demo_step(demo_config(args.recipe, flavour), candidate, dtype, torch.device(args.device))
    make = {"cell": cell_step, "architect": architect_step, "iteration": iteration_step}[args.step]
    return make(Shape(flavour, args.channels, args.frames, args.size, args.device), candidate, dtype)


def demo_config(recipe: str, flavour: str) -> SearchConfig:
    """A recipe; without data of its own it gets synthetic video and a random backbone."""
    config = dataclasses.replace(search_recipe(recipe), flavour=flavour)
    if config.train:
        return config
    data = dict.fromkeys(("train", "val", "holdout"), ("synthetic",))
    return dataclasses.replace(config, backbone_weights="random", **data)


def within(name: str, mismatch: float, published: dict[str, float]) -> bool:
    """Whether a result is right. A difference of two passes loses digits in float32, so the implicit term may
    be as far from float64 as that of the published structure; the alpha gradient it enters may not."""
    allowed = TOLERANCES[name]
    return mismatch <= (max(allowed, published[name]) if name == "implicit term" else allowed)


def time_step(args: argparse.Namespace, flavour: str) -> list[dict]:
    title = (
        args.recipe if args.step == "demo" else f"C={args.channels}, N={args.frames}, {args.size}x{args.size}"
    )
    print(f"{args.step} {flavour}  {title}  float32", flush=True)
    device = torch.device(args.device)
    exact = {k: v.cpu() for k, v in make_step(args, flavour, PUBLISHED, torch.float64)()().items()}
    steps, errors, peaks = {}, {}, {}
    others = NOT_EQUAL if args.step == "demo" else (TF32, BF16)
    if device.type == "cpu":  # without TF32, and without what `precision=bf16` of a search is for
        others = (BF16,)
    for name in CANDIDATES + (others if args.not_equal else ()):
        with Memory(device) as peak:
            steps[name] = make_step(args, flavour, name, torch.float32)
            found = steps[name]()()
            errors[name] = {k: error(v.cpu(), exact[k]) for k, v in found.items()}
            del found
        peaks[name] = peak.mib
    del exact
    clock = time.process_time if args.cpu_time else time.perf_counter
    times: dict[str, list[float]] = {name: [] for name in steps}
    for _ in range(args.repeats):
        for name, step in steps.items():
            synchronise(device)
            begin = clock()
            step()
            synchronise(device)
            times[name].append(clock() - begin)
    medians = {name: statistics.median(values) for name, values in times.items()}
    rows = []
    for name, seconds in medians.items():
        right = name != OURS or all(within(k, e, errors[PUBLISHED]) for k, e in errors[name].items())
        equal = name not in NOT_EQUAL
        baselines = (PUBLISHED, CHANNELS_LAST)
        gains = {b: medians[b] / seconds for b in baselines} if right and equal else None
        row = {
            "step": args.step,
            "flavour": flavour,
            "size": title,
            "candidate": name,
            "ms": 1e3 * seconds,
            "mismatch": errors[name],
            "equal": equal,
            "speedup": gains,
        }
        mismatch = ", ".join(f"{k} {e:.0e}" for k, e in errors[name].items())
        gain = "wrong result: no speed-up is printed" if equal else "not equal"
        if gains:
            gain = ", ".join(f"{g:.2f} x {b}" for b, g in gains.items())
        if peaks[name] is not None:
            row["memory_mib"] = peaks[name]
            gain += f"   peak {peaks[name]:.0f} MiB"
        print(f"  {name:24} {row['ms']:10.1f} ms   {gain}\n  {'':24} mismatch: {mismatch}", flush=True)
        if args.memory and device.type == "cpu" and equal:
            row["memory_mib"] = memory(args, flavour, name)
            print(f"  {'':24} memory: {row['memory_mib']:.0f} MiB, peak of a process")
        rows.append(row)
    return rows


def memory(args: argparse.Namespace, flavour: str, candidate: str) -> float:
    """Peak resident memory of a process of its own that makes the candidate and runs two steps, MiB."""
    command = [sys.executable, __file__, "--step", args.step, "--flavour", flavour, "--only", candidate]
    command += ["--channels", str(args.channels), "--frames", str(args.frames), "--size", str(args.size)]
    command += ["--recipe", args.recipe, "--threads", str(torch.get_num_threads())]
    return float(subprocess.run(command, check=True, capture_output=True, text=True).stdout.split()[-1])


def print_memory(args: argparse.Namespace) -> None:
    step = make_step(args, args.flavour[0], args.only, torch.float32)
    step()
    step()
    # not getrusage: its peak is, at first, that of the process that started this one
    status = Path("/proc/self/status").read_text().splitlines()
    print(int(next(line for line in status if line.startswith("VmHWM:")).split()[1]) / 2**10)


def main(argv: list[str] | None = None) -> dict:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--step", default="demo", choices=("cell", "architect", "iteration", "demo"))
    parser.add_argument("--device", default="cpu")
    parser.add_argument(
        "--flavour", action="append", choices=("chase", "darts"), help="default: both; demo: chase"
    )
    parser.add_argument("--recipe", default="demo", help="of --step demo; paper takes minutes on a CPU")
    parser.add_argument("--paper", action="store_true", help="--step demo --recipe paper")
    parser.add_argument("--not-equal", action=argparse.BooleanOptionalAction, help="default: on a GPU")
    parser.add_argument("--channels", type=int, default=128)
    parser.add_argument("--frames", type=int, default=6)
    parser.add_argument("--size", type=int, default=18)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument(
        "--cpu-time",
        action="store_true",
        help="with one thread beside other work: time of this process alone",
    )
    parser.add_argument("--threads", type=int, help="CPU threads (default: torch's choice)")
    parser.add_argument(
        "--memory", action="store_true", help="peak memory of each candidate, in its own process"
    )
    parser.add_argument("--only", choices=CANDIDATES, help="print the memory of this candidate alone")
    parser.add_argument("--save", action="store_true", help="write bench/results/DATE_DEVICE.json")
    args = parser.parse_args(argv)

    if args.paper:
        args.step, args.recipe = "demo", "paper"
    gpu = args.device.startswith("cuda")
    args.not_equal = gpu if args.not_equal is None else args.not_equal
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False
    torch.backends.cudnn.benchmark = True
    if args.threads:
        torch.set_num_threads(args.threads)
    if args.cpu_time and (gpu or torch.get_num_threads() > 1):
        parser.error("--cpu-time adds up the threads: use it on a CPU with --threads 1")
    if args.only:
        print_memory(args)
        return {}
    result = {
        "machine": machine(torch.device(args.device)),
        "dtype": "float32",
        "clock": "cpu" if args.cpu_time else "wall",
        "rows": [],
    }
    print(json.dumps(result["machine"]))
    for flavour in args.flavour or (("chase",) if args.step == "demo" else ("chase", "darts")):
        result["rows"] += time_step(args, flavour)
    if args.save:
        print(save(result, f"search_step {args.recipe if args.step == 'demo' else args.step}"))
    return result


if __name__ == "__main__":
    main()
