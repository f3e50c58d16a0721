"""Times one op, all backends side by side in one process: `python bench/ops.py --op node_sum [--device cuda]`

Cases are PAPER of kernels/OP/cases.py; an op with several functions lists them as FUNCTIONS there. The
baseline is the fastest of the plain-torch versions: the reference and, where baselines.py has one, the op as
a PyTorch user would write it (channels_last, torch's own modules). Every candidate is first compared with the
float64 reference; a backend gets a speed-up only when its error is within the tolerance of the tests. Repeats
of all candidates are interleaved, medians are printed, TF32 is off. On a GPU time is measured by CUDA events
around the eager call, launches included.
"""

import argparse
import functools
import importlib
import json
import statistics
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import torch
from torch import Tensor

from bench import baselines
from bench.common import machine, save
from chase_fast.kernels import _dispatch
from tests.tolerances import KERNEL, error

MODES = ("forward", "forward+backward")
PLAIN = ("eager", "reference")  # plain torch: baselines, their error is shown but not judged


def map_tensors(fn, value):
    """fn on a tensor or on every tensor of a list; anything else unchanged."""
    if isinstance(value, Tensor):
        return fn(value)
    if isinstance(value, (list, tuple)) and value and isinstance(value[0], Tensor):
        return [fn(t) for t in value]
    return value


def as_list(value) -> list[Tensor]:
    """All tensors of a tensor or of nested lists."""
    return [value] if isinstance(value, Tensor) else [t for part in value for t in as_list(part)]


class Run:
    """One candidate on one case: outputs and gradients, or the time they take."""

    def __init__(self, function, inputs: dict, differentiable: tuple[str, ...], incoming=None):
        self.function, self.inputs = function, dict(inputs)
        for name in differentiable:
            self.inputs[name] = map_tensors(lambda t: t.detach().requires_grad_(), inputs[name])
        self.leaves = [t for name in differentiable for t in as_list(self.inputs[name])]
        self.device = self.leaves[0].device
        self.incoming: list[Tensor] | None = incoming

    def forward(self) -> list[Tensor]:
        with torch.no_grad():
            return as_list(self.function(**self.inputs))

    def both(self) -> tuple[list[Tensor], list[Tensor]]:
        """Outputs, and gradients for a fixed incoming gradient (0 where a leaf is not reached)."""
        outputs = as_list(self.function(**self.inputs))
        active = [o for o in outputs if o.requires_grad]
        self.incoming = self.incoming or [baselines.ramp(o) for o in active]
        got = torch.autograd.grad(active, self.leaves, self.incoming, allow_unused=True)
        return outputs, [torch.zeros_like(t) if g is None else g for t, g in zip(self.leaves, got)]

    def seconds(self, mode: str) -> float:
        call = self.forward if mode == "forward" else self.both
        if self.device.type == "cuda":
            start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
            start.record()
            call()
            end.record()
            end.synchronize()
            return start.elapsed_time(end) / 1e3
        begin = time.perf_counter()
        call()
        return time.perf_counter() - begin


def mismatch(run: Run, exact: tuple[list[Tensor], list[Tensor]]) -> float:
    """Largest relative RMS error of any output or gradient against the float64 reference."""
    outputs, gradients = run.both()
    wanted_outputs, wanted_gradients = exact
    pairs = [*zip(outputs, wanted_outputs), *zip(gradients, wanted_gradients)]
    return max(error(a, b) for a, b in pairs if a.is_floating_point())


def candidates(op: str, name: str, module, device: torch.device, dtype: torch.dtype) -> dict:
    """{name: function} of everything that runs this function here; prints why the others do not."""
    found = {}
    eager = op if name == op else f"{op}_{name}"
    if hasattr(baselines, eager):
        found["eager"] = getattr(baselines, eager)
    for backend in _dispatch.BACKENDS:
        why = (
            module.CAN_RUN[backend](device, dtype) if backend in module.CAN_RUN else "not written for this op"
        )
        if backend == "triton" and device.type == "cpu":
            why = "the interpreter is for tests"
        if why:
            print(f"  {backend}: {why}")
            continue
        found[backend] = lambda backend=backend, **inputs: getattr(module, name)(**inputs, backend=backend)
    return found


def time_case(
    op: str, function: str, case, device: torch.device, dtype: torch.dtype, repeats: int
) -> list[dict]:
    """Rows of one function of an op; an op with one function is named like it."""
    module = importlib.import_module(f"chase_fast.kernels.{op}")
    cases = importlib.import_module(f"chase_fast.kernels.{op}.cases")
    name = op if function == op else f"{op}.{function}"
    print(f"{name} {case.name}  {str(dtype).removeprefix('torch.')}  {device}")
    several = hasattr(cases, "FUNCTIONS")
    inputs = cases.inputs(*([function] if several else []), case, device=device, dtype=dtype)
    differentiable = cases.ARGUMENTS[function] if several else cases.DIFFERENTIABLE
    functions = candidates(op, function, module, device, dtype)

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
    runs = {key: Run(candidate, inputs, differentiable, incoming) for key, candidate in functions.items()}
    errors = {key: mismatch(run, exact) for key, run in runs.items()}
    del exact

    rows = []
    for mode in MODES:
        times: dict[str, list[float]] = {key: [] for key in runs}
        for repeat in range(repeats + 1):
            for key, run in runs.items():
                seconds = run.seconds(mode)
                if repeat:  # the first round warms up
                    times[key].append(seconds)
        medians = {key: statistics.median(values) for key, values in times.items()}
        baseline = min((n for n in PLAIN if n in medians), key=medians.get)
        for key, seconds in medians.items():
            right = key in PLAIN or errors[key] <= KERNEL[dtype]
            row = {
                "op": name,
                "case": case.name,
                "mode": mode,
                "candidate": key,
                "ms": 1e3 * seconds,
                "mismatch": errors[key],
                "baseline": baseline,
                "speedup": medians[baseline] / seconds if right else None,
            }
            rows.append(row)
            gain = f"{row['speedup']:6.2f} x {baseline}" if right else "wrong result: no speed-up is printed"
            print(f"  {mode:17} {key:10} {row['ms']:10.3f} ms   mismatch {errors[key]:.1e}   {gain}")
    return rows


def main() -> None:
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
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--threads", type=int, help="CPU threads (default: torch's choice)")
    parser.add_argument("--save", action="store_true", help="write bench/results/DATE_DEVICE.json")
    args = parser.parse_args()

    if args.threads:
        torch.set_num_threads(args.threads)
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False
    torch.backends.cudnn.benchmark = True
    device, dtype = torch.device(args.device), getattr(torch, args.dtype)
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
    for case in chosen:
        for function in [args.function] if args.function else functions:
            result["rows"] += time_case(args.op, function, case, device, dtype, args.repeats)
    if args.save:
        print(save(result, args.op))


if __name__ == "__main__":
    main()
