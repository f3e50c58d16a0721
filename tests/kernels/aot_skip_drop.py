"""Compiles the Triton kernels of skip_drop for sm_90 with the four edges of the first source."""

import triton.language as tl

from chase_fast.kernels.skip_drop import triton_impl as t
from chase_fast.kernels.skip_drop.cases import PAPER
from tests.kernels.aot import compile_kernel


def compile_all() -> dict[str, dict]:
    edges = PAPER[0].edges
    usage = {}
    for storage in ("fp32", "bf16"):
        maps = (f"*{storage}",) * edges
        types = {"x": f"*{storage}", "dx": f"*{storage}", "ys": maps, "gs": maps, "keeps": ("*i8",) * edges}
        types |= {"scale": "*fp64", "size": "i32"}
        for kernel in (t.skip_drop_kernel, t.skip_drop_backward_kernel):
            constants = {"EDGES": edges, "WIDE": tl.float32, "BLOCK": t.BLOCK}
            signature = {name: types[name] for name in kernel.arg_names if name not in constants}
            usage[f"{kernel.fn.__name__} {storage}"] = compile_kernel(
                kernel, signature, constants, multiples_of_16=("size",)
            )
    return usage
