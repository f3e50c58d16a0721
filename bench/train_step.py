"""Times a step of the training against eager torch: `python bench/train_step.py --device cuda`

A step is forward, backward and Adam on one batch of the recipe, which lies on the device. Candidates:
    chase_fast graph        the step of a training on a GPU: one CUDA graph (on a CPU its eager stand-in)
    chase_fast eager        the same network without a graph
    published               bench/published_train.py in eager torch, torch.optim.Adam; NCHW
    published channels_last
    published compiled      the latter through torch.compile (--compile SECONDS)
    not equal               channels_last with TF32 allowed, and under bfloat16 autocast: another computation

The first losses and gradients of every candidate are compared with those of the published structure in
float64; a speed-up is printed only if they are within the tolerance of the tests, or not above twice the
error of the published structure, whose batch norms amplify rounding. Repeats are interleaved, medians are
printed, TF32 is off. With --precision bf16 both sides run under autocast, and gradients are compared by their
cosine. Needs a recipe with a chase cell and PrDiMP (default: the demo on a CPU, chase_prdimp on a GPU);
weights are random, video is synthetic.
"""

import argparse
import contextlib
import copy
import dataclasses
import functools
import json
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import torch
from torch import Tensor, nn

from bench.common import machine, save
from bench.published_train import TrainTracker
from bench.timing import Memory, synchronise, tf32, time_limit
from chase_fast.data import Batch
from chase_fast.distributed import Ranks
from chase_fast.nn.tracker_net import TrackerNet
from chase_fast.recipes import TrainConfig, train_recipe
from chase_fast.runs.data import RunData
from chase_fast.runs.progress import RunProgress
from chase_fast.train.cells import resolve_spec
from chase_fast.train.data import samples
from chase_fast.train.network import Losses
from chase_fast.train.optimizer import learning_rates
from chase_fast.train.options import TrainCommand
from chase_fast.train.step import TrainStep
from tests.nas_names import Slot, derived_slots, neck_slots
from tests.tolerances import TRAIN_BF16, TRAIN_STEP, error

GRAPH, EAGER = "chase_fast graph", "chase_fast eager"
PUBLISHED, CHANNELS_LAST, COMPILED = "published", "published channels_last", "published compiled"
TF32, BF16 = "channels_last TF32", "channels_last bf16"
NOT_EQUAL = (TF32, BF16)
PARTS = ("feature_extractor", "neck", "classifier", "bb_regressor")
Found = dict[str, Tensor]


class Candidate:
    """A network in training. `first()` gives loss and gradients and leaves the weights; `step()` is timed."""

    first: Callable[[], Found]
    step: Callable[[], object]
    how = "eager"


class Ours(Candidate):
    def __init__(self, config: TrainConfig, net: TrackerNet, batch: Batch, graph: bool):
        losses = Losses(config, batch.train_images.device)
        net = losses.prepare(copy.deepcopy(net))
        losses.fold(net)
        self._step = TrainStep(config, net, losses, Ranks(), graph)
        if graph:
            self.how = "one CUDA graph" if batch.train_images.is_cuda else "stand-in of the graph"
        self._net, self._batch, self._count = net, batch, 0

    def first(self) -> Found:
        total = self._step.gradients(self._batch)
        found = {"loss": total[0].clone()}
        for part in PARTS:
            module = getattr(self._net, part)
            if part == "neck":
                slots = weight_slots(module)
                found[part] = torch.cat([s.part(s.tensor.grad).flatten() for s in slots])
            else:
                found[part] = torch.cat([p.grad.flatten() for p in module.parameters()])
        self._step.optimizer.zero_grad()
        return found

    def step(self) -> list[float]:
        self._count += 1
        return self._step(self._batch, 1, self._count)


class Published(Candidate):
    """Args: layout: of weights and images. precision: fp32, bf16 or fp64. compiled: through torch.compile."""

    def __init__(
        self,
        config: TrainConfig,
        net: TrackerNet,
        batch: Batch,
        layout: torch.memory_format = torch.contiguous_format,
        precision: str = "fp32",
        allow_tf32: bool = False,
        compiled: bool = False,
    ):
        device = batch.train_images.device
        tracker = TrainTracker(
            copy.deepcopy(net.feature_extractor),
            net.neck.cell.genotype,
            config.channels,
            config.image_size // 16,
        )
        copy_weights(net, tracker)
        dtype = torch.float64 if precision == "fp64" else torch.float32
        self._tracker = tracker.to(device, dtype).to(memory_format=layout).train()
        self._batch = as_published(batch, dtype, layout)
        self._contexts = (
            functools.partial(tf32, allow_tf32),
            functools.partial(torch.autocast, device.type, torch.bfloat16, enabled=precision == "bf16"),
        )
        self._loss = torch.compile(tracker.loss, dynamic=False) if compiled else tracker.loss
        rates = learning_rates(config)
        keys = {"feature_extractor": "backbone", "neck": "neck", "classifier": "neck", "bb_regressor": "box"}
        groups = [{"params": list(getattr(tracker, p).parameters()), "lr": rates[keys[p]]} for p in PARTS]
        self._optimizer = torch.optim.Adam(groups)

    def _backward(self) -> Tensor:
        with contextlib.ExitStack() as stack:
            for context in self._contexts:
                stack.enter_context(context())
            loss = self._loss(self._batch)
            self._optimizer.zero_grad()
            loss.backward()
        return loss.detach()

    def first(self) -> Found:
        found = {"loss": self._backward()}
        for part in PARTS:
            parameters = dict(getattr(self._tracker, part).named_parameters())
            names = sorted(parameters) if part == "neck" else parameters
            found[part] = torch.cat([parameters[name].grad.flatten() for name in names])
        return found

    def step(self) -> float:
        loss = self._backward()
        self._optimizer.step()
        return float(loss)  # to see whether it is finite, as chase_fast does


def weight_slots(neck: nn.Module) -> list[Slot]:
    """Weights of a neck of ours, in the order of their published names."""
    slots = neck_slots(neck, derived_slots(neck.cell, "chase"))
    return sorted((s for s in slots if isinstance(s.tensor, nn.Parameter)), key=lambda s: s.key)


@torch.no_grad()
def copy_weights(net: TrackerNet, tracker: TrainTracker) -> None:
    """From ours into the published structure."""
    named, slots = dict(tracker.neck.named_parameters()), weight_slots(net.neck)
    assert {s.key for s in slots} == set(named)
    for slot in slots:
        named[slot.key].copy_(slot.part().view(named[slot.key].shape))
    tracker.classifier.load_state_dict(net.classifier.state_dict())
    tracker.bb_regressor.load_state_dict(net.bb_regressor.state_dict())


def as_published(batch: Batch, dtype: torch.dtype, layout: torch.memory_format) -> Batch:
    tensors = {f.name: getattr(batch, f.name) for f in dataclasses.fields(batch)}
    found = {name: t.to(dtype) for name, t in tensors.items() if t is not None}
    for name in ("train_images", "test_images"):
        t = found[name]
        found[name] = t.flatten(0, 1).contiguous(memory_format=layout).unflatten(0, t.shape[:2])
    return dataclasses.replace(batch, **found)


def makers(
    args: argparse.Namespace, config: TrainConfig, net: TrackerNet, batch: Batch
) -> dict[str, Callable]:
    """How each candidate is made."""
    published = functools.partial(Published, config, net, batch, precision=config.precision)
    last = functools.partial(published, layout=torch.channels_last)
    found = {
        PUBLISHED: published,
        CHANNELS_LAST: last,
        EAGER: functools.partial(Ours, config, net, batch, graph=False),
        GRAPH: functools.partial(Ours, config, net, batch, graph=True),
    }
    if args.compile:
        found[COMPILED] = functools.partial(last, compiled=True)
    if config.precision == "fp32" and batch.train_images.is_cuda:
        found[TF32] = functools.partial(last, allow_tf32=True)
    if config.precision == "fp32" and args.not_equal:
        found[BF16] = functools.partial(last, precision="bf16")
    return found


def mismatch(found: Found, exact: Found, bf16: bool) -> dict[str, float]:
    """Relative RMS errors; in bfloat16, of gradients 1 - cosine."""

    def of(name: str) -> float:
        a, b = found[name].double(), exact[name]
        if not bf16 or name == "loss":
            return error(a, b)
        return 1 - float(torch.cosine_similarity(a, b, 0))

    return {name: of(name) for name in exact}


def compare(args: argparse.Namespace, config: TrainConfig) -> list[dict]:
    device = torch.device(args.device)
    torch.manual_seed(0)
    data = RunData(config, TrainCommand.roles, samples(config), RunProgress(quiet=True))
    batch = next(data.batches("train", 1)).to(device)
    net = resolve_spec(config).build("random", 0)
    exact = Published(config, net, batch, precision="fp64").first()
    candidates, errors, memory = {}, {}, {}
    for name, make in makers(args, config, net, batch).items():
        try:
            limit = time_limit(args.compile) if name == COMPILED else contextlib.nullcontext()
            with Memory(device) as peak, limit:
                candidate = make()
                errors[name] = mismatch(candidate.first(), exact, config.precision == "bf16")
                for _ in range(2 if device.type == "cuda" else 1):  # compiles, chooses, captures
                    candidate.step()
        except Exception as e:
            if name != COMPILED:
                raise
            print(f"  {name}: does not run: {type(e).__name__}: {str(e)[:120]}")
            continue
        candidates[name], memory[name] = candidate, peak.mib
    del exact
    times: dict[str, list[float]] = {name: [] for name in candidates}
    for _ in range(args.repeats):
        for name, candidate in candidates.items():
            synchronise(device)
            begin = time.perf_counter()
            candidate.step()
            synchronise(device)
            times[name].append(time.perf_counter() - begin)
    medians = {name: statistics.median(values) for name, values in times.items()}
    return [row_of(name, medians, errors, memory, candidates, config) for name in candidates]


def allowed(name: str, errors: dict[str, dict[str, float]], config: TrainConfig) -> float:
    if config.precision == "bf16":
        least = TRAIN_BF16["loss"] if name == "loss" else 1 - TRAIN_BF16["cosine"]
    else:
        least = TRAIN_STEP
    return max(least, *(2 * errors[n][name] for n in (PUBLISHED, CHANNELS_LAST)))


def row_of(name: str, medians, errors, memory, candidates, config: TrainConfig) -> dict:
    """One candidate, printed."""
    equal = name not in NOT_EQUAL
    right = all(e <= allowed(k, errors, config) for k, e in errors[name].items())
    baselines = [n for n in (PUBLISHED, CHANNELS_LAST, COMPILED) if n in medians]
    gains = {b: medians[b] / medians[name] for b in baselines} if right and equal else None
    row = {"candidate": name, "ms": 1e3 * medians[name], "mismatch": errors[name], "equal": equal}
    row |= {"speedup": gains, "memory_mib": memory[name], "how": candidates[name].how}
    text = "not equal" if not equal else "wrong result: no speed-up is printed"
    if gains:
        text = ", ".join(f"{gain:.2f} x {b}" for b, gain in gains.items())
    peak = "" if memory[name] is None else f"   peak {memory[name]:.0f} MiB"
    print(f"  {name:24} {row['ms']:10.2f} ms{peak}   [{row['how']}]   {text}")
    print(f"  {'':24} mismatch: {', '.join(f'{k} {e:.0e}' for k, e in errors[name].items())}", flush=True)
    return row


def main(argv: list[str] | None = None) -> dict:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--recipe", help="of the training")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--precision", default="fp32", choices=("fp32", "bf16"))
    parser.add_argument("--batch", type=int, help="sequences (default: of the recipe)")
    parser.add_argument("--repeats", type=int, default=9)
    parser.add_argument("--compile", type=float, default=0.0, metavar="SECONDS", help="at most; 0: not")
    parser.add_argument("--not-equal", action=argparse.BooleanOptionalAction, help="default: on a GPU")
    parser.add_argument("--threads", type=int, help="CPU threads (default: torch's choice)")
    parser.add_argument("--save", action="store_true", help="write bench/results/DATE_DEVICE.json")
    args = parser.parse_args(argv)
    if args.threads:
        torch.set_num_threads(args.threads)
    gpu = args.device.startswith("cuda")
    args.not_equal = gpu if args.not_equal is None else args.not_equal
    args.recipe = args.recipe or ("chase_prdimp" if gpu else "demo")
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False
    torch.backends.cudnn.benchmark = True
    data = {"train": ("synthetic",), "val": ("synthetic",), "backbone_weights": "random"}
    config = dataclasses.replace(train_recipe(args.recipe), precision=args.precision, **data)
    spec = resolve_spec(config)
    batch = args.batch or config.batch
    config = dataclasses.replace(config, channels=spec.channels, batch=batch).check()
    frames = f"{config.batch} x ({config.train_frames}+{config.test_frames}) frames"
    title = f"{args.recipe}: C={config.channels}, {frames}, {config.image_size} px, {config.backbone}"
    result = {"machine": machine(torch.device(args.device)), "recipe": args.recipe, "size": title}
    print(json.dumps(result["machine"]))
    print(f"{title}, {args.precision}", flush=True)
    result |= {"precision": args.precision, "rows": compare(args, config)}
    if args.save:
        print(save(result, f"train_step {args.recipe} {args.precision}"))
    return result


if __name__ == "__main__":
    main()
