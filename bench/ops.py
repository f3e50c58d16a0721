"""Times one op, all backends side by side in one process: `python bench/ops.py --op node_sum [--device cuda]`

Cases are PAPER of kernels/OP/cases.py; an op with several functions lists them as FUNCTIONS there. The
baseline is the fastest of the plain-torch versions: the reference, where baselines.py has one the op as a
PyTorch user would write it (channels_last, torch's own modules), and that one through torch.compile. Every
candidate is first compared with the float64 reference; a backend gets a speed-up only when its error is
within the tolerance of the tests, or not above that of the reference in the same type. Repeats of all
candidates are interleaved, medians are printed, TF32 is off.

On a GPU a measurement is the replay of a CUDA graph of calls on copies of the inputs that together exceed
the L2 cache, so the inputs are cold; what cannot be captured is timed eagerly, and the line says so. GB/s,
TFLOP/s and the share of the op's own roofline come from the counts of bench/roofline.py. Lines "not equal"
are the plain version in TF32 and in bfloat16: another computation, shown because it is what torch does by
default, or what users do. With --dtype bfloat16 maps are bfloat16, weights and tables stay float32.
"""

import argparse
import contextlib
import functools
import importlib
import json
import math
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import torch
from torch import Tensor

from bench import baselines, roofline
from bench.common import machine, save
from bench.timing import Timer, copies_for, tf32, time_limit
from chase_fast.kernels import _dispatch
from tests.tolerances import KERNEL, error

MODES = ("forward", "forward+backward")
PLAIN = ("eager", "reference", "compiled")  # plain torch: baselines, their error is shown but not judged
NOT_EQUAL = ("eager TF32", "eager bf16")  # another computation
MAPS = {"node_sum": ("branches",), "mixed_op": ("x",), "sep_conv": ("x",)}  # bfloat16 there, the rest float32


def map_tensors(fn, value):
    """fn on a tensor or on every tensor of a list; anything else unchanged."""
    if isinstance(value, Tensor):
        return fn(value)
    if isinstance(value, (list, tuple)) and value and isinstance(value[0], Tensor):
        return [fn(t) for t in value]
    return value


def tensors(value) -> list[Tensor]:
    """All tensors of a tensor or of a list; none of anything else."""
    found: list[Tensor] = []
    map_tensors(found.append, value)
    return found


def as_list(value) -> list[Tensor]:
    """All tensors of a tensor or of nested lists."""
    return [value] if isinstance(value, Tensor) else [t for part in value for t in as_list(part)]


class Run:
    """One candidate on one case: its outputs and gradients, for each copy of the inputs.

    Args:
        allow_tf32: of the call and of its gradient.
    """

    def __init__(
        self,
        function: Callable,
        inputs: dict,
        differentiable: tuple[str, ...],
        incoming: list[Tensor] | None = None,
        allow_tf32: bool = False,
    ):
        self.function, self._differentiable, self._allow_tf32 = function, differentiable, allow_tf32
        self.copies = [self._leaves(inputs)]
        self.incoming = incoming

    def _leaves(self, inputs: dict) -> dict:
        def leaf(t: Tensor) -> Tensor:
            return t.detach().requires_grad_()

        changed = {name: map_tensors(leaf, inputs[name]) for name in self._differentiable}
        return inputs | changed

    def rotate(self, copies: int) -> None:
        """Makes this many copies of the inputs."""
        first = self.copies[0]
        while len(self.copies) < copies:
            self.copies.append(self._leaves({name: map_tensors(torch.clone, v) for name, v in first.items()}))

    def forward(self, copy: int = 0) -> list[Tensor]:
        with torch.no_grad(), tf32(self._allow_tf32):
            return as_list(self.function(**self.copies[copy]))

    def both(self, copy: int = 0) -> tuple[list[Tensor], list[Tensor]]:
        """Outputs, and gradients for a fixed incoming gradient (0 where a leaf is not reached)."""
        inputs = self.copies[copy]
        leaves = [t for name in self._differentiable for t in as_list(inputs[name])]
        with tf32(self._allow_tf32):
            outputs = as_list(self.function(**inputs))
            active = [o for o in outputs if o.requires_grad]
            self.incoming = self.incoming or [baselines.ramp(o) for o in active]
            got = torch.autograd.grad(active, leaves, self.incoming, allow_unused=True) if active else ()
        return outputs, [torch.zeros_like(t) if g is None else g for t, g in zip(leaves, got)]

    def work(self, name: str, mode: str) -> roofline.Work | None:
        return roofline.work(name, self.copies[0], mode)


def mismatch(run: Run, exact: tuple[list[Tensor], list[Tensor]]) -> float:
    """Largest relative RMS error of any output or gradient against the float64 reference; outputs that are no
    numbers must be equal."""
    outputs, gradients = run.both()
    wanted_outputs, wanted_gradients = exact
    pairs = [*zip(outputs, wanted_outputs), *zip(gradients, wanted_gradients)]
    if any(not a.is_floating_point() and not torch.equal(a, b) for a, b in pairs):
        return math.inf
    return max((error(a, b) for a, b in pairs if a.is_floating_point()), default=0.0)


def candidates(op: str, name: str, module, device: torch.device, dtype: torch.dtype) -> dict:
    """{name: function} of everything that runs this function here; prints why the others do not."""
    found = {}
    eager = op if name == op else f"{op}_{name}"
    if hasattr(baselines, eager):
        found["eager"] = getattr(baselines, eager)
    for backend in _dispatch.BACKENDS:
        can_run = module.CAN_RUN.get(backend)
        why = can_run(device, dtype) if can_run else "the op has no such backend"
        if backend == "triton" and device.type == "cpu":
            why = "the interpreter is for tests"
        if why:
            print(f"  {backend}: {why}")
            continue
        found[backend] = lambda backend=backend, **inputs: getattr(module, name)(**inputs, backend=backend)
    return found


def cast(op: str, inputs: dict, dtype: torch.dtype) -> dict:
    """bfloat16: maps in it, weights and tables in float32, where the op has both."""
    if dtype != torch.bfloat16 or op not in MAPS:
        return inputs

    def single(t: Tensor) -> Tensor:
        return t.float() if t.is_floating_point() else t

    return {name: v if name in MAPS[op] else map_tensors(single, v) for name, v in inputs.items()}


def low(inputs: dict) -> dict:
    """Everything in bfloat16."""
    return {
        name: map_tensors(lambda t: t.bfloat16() if t.is_floating_point() else t, v)
        for name, v in inputs.items()
    }


def make_runs(args, op: str, function: str, module, inputs: dict, differentiable, incoming) -> dict[str, Run]:
    """The candidates on these inputs, those that are not equal included."""
    device, dtype = torch.device(args.device), getattr(torch, args.dtype)
    first = next(t for v in inputs.values() for t in tensors(v))
    functions = candidates(op, function, module, device, first.dtype)
    cases = importlib.import_module(f"chase_fast.kernels.{op}.cases")
    if hasattr(cases, "once") and "cpu" in functions:  # what a caller makes once, not in every call
        functions["cpu"] = functools.partial(functions["cpu"], **cases.once(inputs))
    runs = {key: Run(f, inputs, differentiable, incoming) for key, f in functions.items()}
    plain = functions.get("eager")
    if plain and args.compile:
        runs["compiled"] = Run(torch.compile(plain, dynamic=False), inputs, differentiable, incoming)
    if args.not_equal and dtype == torch.float32 and differentiable:
        plain = plain or functions["reference"]
        if device.type == "cuda":
            runs["eager TF32"] = Run(plain, inputs, differentiable, incoming, allow_tf32=True)
        half = incoming and [g.bfloat16() for g in incoming]
        runs["eager bf16"] = Run(plain, low(inputs), differentiable, half)
    return runs


def judge(run: Run, key: str, exact, limit: float) -> float | None:
    """Its mismatch; None, after a line that says why, if it does not run."""
    try:
        with time_limit(limit) if key == "compiled" else contextlib.nullcontext():
            run.forward()  # compiled apart from the one with gradients
            return mismatch(run, exact)
    except Exception as e:  # whatever a compiler or a baseline in another type raises
        print(f"  {key}: does not run: {type(e).__name__}: {str(e).splitlines()[0][:120] if str(e) else ''}")
        return None


def time_case(args: argparse.Namespace, op: str, function: str, case) -> list[dict]:
    """Rows of one function of an op; an op with one function is named like it."""
    device, dtype = torch.device(args.device), getattr(torch, args.dtype)
    module = importlib.import_module(f"chase_fast.kernels.{op}")
    cases = importlib.import_module(f"chase_fast.kernels.{op}.cases")
    name = op if function == op else f"{op}.{function}"
    print(f"{name} {case.name}  {args.dtype}  {device}", flush=True)
    several = hasattr(cases, "FUNCTIONS")
    inputs = cases.inputs(*([function] if several else []), case, device=device, dtype=dtype)
    inputs = cast(op, inputs, dtype)
    differentiable = cases.ARGUMENTS[function] if several else cases.DIFFERENTIABLE

    def double(t: Tensor) -> Tensor:
        return t.double() if t.is_floating_point() else t

    wide = {name: map_tensors(double, value) for name, value in inputs.items()}
    definition = functools.partial(getattr(module, function), backend="reference")
    incoming = None
    if kink := getattr(cases, "KINK", 0.0):
        outputs, _ = Run(definition, wide, differentiable).both()
        active = [o.detach() for o in outputs if o.requires_grad]
        incoming = [baselines.ramp(o) * (o.abs() >= kink) for o in active]
    exact = Run(definition, wide, differentiable, incoming).both()
    exact = tuple([t.detach() for t in part] for part in exact)
    incoming = incoming and [g.to(dtype) for g in incoming]
    del wide
    runs = make_runs(args, op, function, module, inputs, differentiable, incoming)
    errors = {key: judge(run, key, exact, args.compile) for key, run in runs.items()}
    del exact
    rows = []
    for mode in MODES if differentiable else MODES[:1]:
        alive = {key: run for key, run in runs.items() if errors[key] is not None}
        rows += time_mode(args, {"op": name, "case": case.name, "mode": mode}, alive, errors)
    return rows


def time_mode(
    args: argparse.Namespace, about: dict, runs: dict[str, Run], errors: dict[str, float]
) -> list[dict]:
    device, dtype, mode = torch.device(args.device), getattr(torch, args.dtype), about["mode"]
    timers = {}
    for key, run in runs.items():
        bytes_of = roofline.size([t for v in run.copies[0].values() for t in tensors(v)])
        if len(run.copies) == 1:
            run.rotate(copies_for(bytes_of, device) if args.copies is None else args.copies)
        call = run.forward if mode == "forward" else run.both
        timers[key] = Timer(call, len(run.copies), device)
    times: dict[str, list[float]] = {key: [] for key in timers}
    for repeat in range(args.repeats + 1):
        for key, timer in timers.items():
            seconds = timer.seconds()
            if repeat:  # the first round warms up
                times[key].append(seconds)
    medians = {key: statistics.median(values) for key, values in times.items()}
    baseline = min((n for n in PLAIN if n in medians), key=medians.get)
    peaks = roofline.peaks_of(torch.cuda.get_device_name(device)) if device.type == "cuda" else None
    allowed = max(KERNEL[dtype], errors.get("reference") or 0.0)
    rows = []
    for key, seconds in medians.items():
        right = key in PLAIN or errors[key] <= allowed
        row = about | {
            "candidate": key,
            "ms": 1e3 * seconds,
            "mismatch": errors[key],
            "equal": key not in NOT_EQUAL,
            "baseline": baseline,
            "speedup": medians[baseline] / seconds if right and key not in NOT_EQUAL else None,
            "how": timers[key].how,
        }
        if key in NOT_EQUAL:
            gain = "not equal"
        else:
            gain = f"{row['speedup']:6.2f} x {baseline}" if right else "wrong result: no speed-up is printed"
        if work := runs[key].work(about["op"], mode):
            row |= rates(work, seconds, peaks, torch.bfloat16 if key == "eager bf16" else dtype)
        rows.append(row)
        print(
            f"  {mode:17} {key:10} {row['ms']:10.4f} ms   mismatch {errors[key]:.1e}   {gain}{shown(row)}",
            flush=True,
        )
    return rows


def rates(work: roofline.Work, seconds: float, peaks: roofline.Peaks | None, dtype: torch.dtype) -> dict:
    """GB/s, TFLOP/s and the share of the bound that `work` sets."""
    found = {"gb_s": work.bytes / seconds / 1e9, "tflop_s": (work.vector + work.matrix) / seconds / 1e12}
    return found | ({"roofline": work.seconds(peaks, dtype) / seconds} if peaks else {})


def shown(row: dict) -> str:
    text = f"   {row['gb_s']:7.1f} GB/s {row['tflop_s']:7.2f} TFLOP/s" if "gb_s" in row else ""
    text += f" {row['roofline']:5.0%} of the roofline" if "roofline" in row else ""
    return text + (f"   [{row['how']}]" if row["how"] != "clock" else "")


def main(argv: list[str] | None = None) -> dict:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--op", required=True, help="folder name under kernels")
    parser.add_argument("--function", help="one function of an op that has several (default: all)")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--dtype", default="float32", choices=("float32", "float64", "bfloat16"))
    parser.add_argument(
        "--case", action="append", help="name of a case (default: all of PAPER); may be repeated"
    )
    parser.add_argument("--repeats", type=int, help="measurements (default: 7 on a CPU, 25 on a GPU)")
    parser.add_argument("--threads", type=int, help="CPU threads (default: torch's choice)")
    parser.add_argument("--copies", type=int, help="copies of the inputs (GPU default: beyond the L2 cache)")
    parser.add_argument(
        "--compile",
        type=float,
        metavar="SECONDS",
        help="torch.compile of the plain version, at most this long per case; 0: not (default: 0 on a CPU, "
        "60 on a GPU)",
    )
    parser.add_argument(
        "--not-equal",
        action=argparse.BooleanOptionalAction,
        help="the plain version in TF32 and bfloat16 (default: on a GPU)",
    )
    parser.add_argument("--budget", type=float, metavar="SECONDS", help="no new case after this long")
    parser.add_argument("--save", action="store_true", help="write bench/results/DATE_DEVICE.json")
    args = parser.parse_args(argv)

    gpu = args.device.startswith("cuda")
    args.repeats = (25 if gpu else 7) if args.repeats is None else args.repeats
    args.compile = (60.0 if gpu else 0.0) if args.compile is None else args.compile
    args.not_equal = gpu if args.not_equal is None else args.not_equal
    if args.threads:
        torch.set_num_threads(args.threads)
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False
    torch.backends.cudnn.benchmark = True
    device = torch.device(args.device)
    cases = importlib.import_module(f"chase_fast.kernels.{args.op}.cases")
    functions = getattr(cases, "FUNCTIONS", (args.op,))
    if not hasattr(cases, "DIFFERENTIABLE") and not hasattr(cases, "FUNCTIONS"):
        parser.error(f"{args.op} has no cases for this bench (TESTS, PAPER, DIFFERENTIABLE, inputs)")
    if args.function and args.function not in functions:
        parser.error(f"unknown function {args.function}; {args.op} has {', '.join(functions)}")
    known = {case.name: case for case in (*cases.TESTS, *cases.PAPER)}
    if unknown := set(args.case or ()) - known.keys():
        parser.error(f"unknown case {', '.join(sorted(unknown))}; {args.op} has {', '.join(known)}")
    chosen = [known[name] for name in args.case] if args.case else cases.PAPER
    result = {"machine": machine(device), "dtype": args.dtype, "rows": []}
    print(json.dumps(result["machine"]))
    begin, name = time.monotonic(), args.op if args.dtype == "float32" else f"{args.op} {args.dtype}"
    for case in chosen:
        for function in [args.function] if args.function else functions:
            if args.budget and result["rows"] and time.monotonic() - begin > args.budget:
                print(f"left out, --budget is spent: {case.name} {function}")
                continue
            result["rows"] += time_case(args, args.op, function, case)
            if args.save:  # also what a later case that fails would lose
                path = save(result, name)
    if args.save:
        print(path)
    return result


if __name__ == "__main__":
    main()
