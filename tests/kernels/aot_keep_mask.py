"""Compiles the Triton kernel of keep_mask for sm_90 (run by aot.compile_in_subprocess)."""

from chase_fast.kernels.keep_mask import triton_impl as t
from tests.kernels.aot import compile_kernel

INTEGERS = ("frames", "sequences", "group_size", "values")


def compile_all() -> dict[str, dict]:
    """At paper size, where a map's values are a multiple of 16, and where they are not."""
    signature = {"seeds": "*i64", "threshold": "*i64", "keep": "*i8"} | dict.fromkeys(INTEGERS, "i32")
    return {
        f"keep_mask {name}": compile_kernel(
            t.keep_mask_kernel, signature, {"BLOCK": t.BLOCK}, multiples_of_16=multiples
        )
        for name, multiples in (("paper", ("values",)), ("odd", ()))
    }
