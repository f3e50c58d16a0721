"""Compiles the Triton kernels of node_sum for sm_90 at paper size (run by aot.compile_in_subprocess)."""

from chase_fast.kernels.node_sum import triton_impl as t
from chase_fast.kernels.node_sum.cases import PAPER
from tests.kernels.aot import compile_kernel

KERNELS = (
    t.node_sum_moments_kernel,
    t.node_sum_join_moments_kernel,
    t.node_sum_weighted_sum_kernel,
    t.node_sum_sums_kernel,
    t.node_sum_join_sums_kernel,
    t.node_sum_table_grads_kernel,
    t.node_sum_branch_grads_kernel,
)
INTEGERS = ("rows", "C", "tiles", "groups")


def compile_all() -> dict[str, dict]:
    case = PAPER[0]
    usage = {}
    for storage, kinds in (("fp32", case.kinds), ("bf16", case.kinds[:5])):
        maps = {"ys": (f"*{storage}",) * len(kinds), "dys": (f"*{storage}",) * len(kinds)}
        maps |= {"out": f"*{storage}", "grad": f"*{storage}"}
        values = {
            "KINDS": kinds,
            "WANTED": (True,) * len(kinds),
            "TRAINING": True,
            "EPS": 1e-5,
            "SLOPE": 0.01,
        }
        for kernel in KERNELS:
            block = case.channels if kernel is t.node_sum_table_grads_kernel else 128
            if kernel in (t.node_sum_join_moments_kernel, t.node_sum_join_sums_kernel):
                block = t.JOIN_CHANNELS
            constants = values | {"BM": t.BLOCK_M, "BT": t.JOIN_TILES, "BC": block}
            constants = {k: v for k, v in constants.items() if k in kernel.arg_names}
            signature = {
                name: "i32" if name in INTEGERS else maps.get(name, "*fp32")
                for name in kernel.arg_names
                if name not in constants
            }
            usage[f"{kernel.fn.__name__} {storage}"] = compile_kernel(
                kernel, signature, constants, multiples_of_16=("C",)
            )
    return usage
