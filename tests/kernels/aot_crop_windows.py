"""Compiles the Triton kernel of crop_windows for sm_90 as launched at paper size; run by
compile_in_subprocess."""

from chase_fast.kernels.crop_windows import triton_impl as t
from tests.kernels.aot import compile_kernel


def compile_all() -> dict[str, dict]:
    usage = {}
    for pixel in ("u8", "fp32"):
        signature = {"pixels": f"*{pixel}", "windows": "*i64", "out": "*fp32"}
        constants = {"SIZE": 352, "BLOCK": t.BLOCK}
        usage[f"crop_windows {pixel}"] = compile_kernel(t.crop_windows_kernel, signature, constants)
    return usage
