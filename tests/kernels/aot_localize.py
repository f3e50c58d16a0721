"""Compiles the Triton kernels of localize for sm_90 as launched at paper size; run by
compile_in_subprocess."""

from chase_fast.kernels.localize import triton_impl as t
from tests.kernels.aot import compile_kernel

POINTERS = {"maps", "geometry", "noise", "found", "boxes", "box_scores", "out"}
INTEGERS = {"side", "R", "P"}


def compile_all() -> dict[str, dict]:
    usage = {}
    for extra in (True, False):
        start = {"IMAGE": 352, "STRIDE": 16, "SOFTMAX": True, "EXTRA": extra, "B": 1024, "BR": 16}
        usage[f"start {extra}"] = build(t.localize_start_kernel, start)
    outcome = {"IMAGE": 352, "BEST": 3, "HALF_PIXEL": True, "BP": 16}
    usage["outcome"] = build(t.localize_outcome_kernel, outcome)
    return usage


def build(kernel, constants: dict) -> dict:
    signature = {}
    for name in kernel.arg_names:
        if name not in constants:
            signature[name] = "*fp32" if name in POINTERS else "i32" if name in INTEGERS else "fp32"
    return compile_kernel(kernel, signature, constants)
