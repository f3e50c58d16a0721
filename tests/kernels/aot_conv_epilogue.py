"""Compiles the Triton kernel of the epilogue for sm_90 as launched at paper size; run by
compile_in_subprocess."""

from chase_fast.kernels.conv_epilogue import triton_impl as t
from tests.kernels.aot import compile_kernel


def compile_all() -> dict[str, dict]:
    usage = {}
    for real in ("fp32", "bf16"):
        for wide in (64, 256):
            signature = dict.fromkeys(("y", "bias", "residual", "out"), f"*{real}")
            constants = {"RESIDUAL": True, "RELU": True, "BM": t.TILE // wide, "BC": wide}
            usage[f"{real} {wide}"] = compile_kernel(
                t.conv_epilogue_kernel,
                signature | {"rows": "i32", "C": "i32"},
                constants,
                multiples_of_16=("C",),
            )
    return usage
