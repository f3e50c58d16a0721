"""Compiles the Triton kernels of box_ascent for sm_90 as launched at paper size (256 channels and units, 10
boxes); run by compile_in_subprocess."""

from chase_fast.kernels.box_ascent import triton_impl as t
from tests.kernels.aot import compile_kernel

INTEGERS = {"P", "R", "H", "C", "blocks", "per_bin", "low_h", "low_w", "high_h", "high_w"}
NUMBERS = {"a", "b", "low_scale", "high_scale"}


def compile_all() -> dict[str, dict]:
    usage = {}
    back = {"BR": t.BLOCK_R, "BH": t.BLOCK_BACK, "BC": t.BLOCK_C}
    linear = {"BR": t.BLOCK_R, "BH": t.BLOCK_H, "BK": t.BLOCK_K}
    for maps in ("fp32", "bf16"):
        for start, relative in ((True, True), (False, maps == "fp32")):
            pool = {"START": start, "RELATIVE": relative, "BLOCKS": 256, "BJ": t.BLOCK_J, "BC": 256}
            usage[f"pool {maps} {start}"] = build(t.box_ascent_pool_kernel, pool, maps)
    for relative in (True, False):
        usage[f"end {relative}"] = build(t.box_ascent_end_kernel, {"RELATIVE": relative, "BLOCKS": 256})
    usage["linear"] = build(t.box_ascent_linear_kernel, linear)
    usage["back"] = build(t.box_ascent_back_kernel, back)
    return usage


def build(kernel, constants: dict, maps: str = "fp32") -> dict:
    signature = {}
    for name in kernel.arg_names:
        if name in constants:
            continue
        if name in INTEGERS:
            signature[name] = "i32"
        elif name in NUMBERS:
            signature[name] = "fp32"
        else:
            signature[name] = f"*{maps if name.endswith('_map') else 'fp32'}"
    return compile_kernel(kernel, signature, constants, multiples_of_16=("H", "C"))
