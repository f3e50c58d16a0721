"""Compiles the Triton kernels of prroi_pool for sm_90 as launched at paper size; run by
compile_in_subprocess."""

from chase_fast.kernels.prroi_pool import triton_impl as t
from tests.kernels.aot import compile_kernel

POINTERS = {"order": "*i64", "first": "*i64"}


def compile_all() -> dict[str, dict]:
    usage = {}
    for real in ("fp32", "fp64", "bf16"):
        for kernel in (
            t.prroi_pool_fwd_kernel,
            t.prroi_pool_bwd_features_kernel,
            t.prroi_pool_bwd_rois_kernel,
        ):
            boxes = "fp32" if real == "bf16" else real
            pointers = POINTERS | {"rois": f"*{boxes}", "partial": f"*{boxes}"}
            constants = {"ROWS": 5, "COLUMNS": 5, "SCALE": 0.125, "BJ": t.BLOCK_J, "BC": t.BLOCK_C}
            signature = {
                name: "i32" if name in "NCHW" else pointers.get(name, f"*{real}")
                for name in kernel.arg_names
                if name not in constants
            }
            usage[f"{kernel.fn.__name__} {real}"] = compile_kernel(kernel, signature, constants)
    return usage
