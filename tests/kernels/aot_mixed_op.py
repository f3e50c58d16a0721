"""Compiles the Triton kernels of mixed_op for sm_90 at paper size (run by aot.compile_in_subprocess)."""

import torch

from chase_fast.kernels.mixed_op import triton_depthwise as depthwise
from chase_fast.kernels.mixed_op import triton_norm as norm
from chase_fast.kernels.mixed_op import triton_pointwise as pointwise
from chase_fast.kernels.mixed_op import triton_pool as pool
from chase_fast.kernels.mixed_op.triton_launch import Blocks
from tests.kernels.aot import compile_kernel

EDGES = 4
INTEGERS = ("rows", "count", "chunk", "size", "chunks", "tiles", "groups", "H", "W", "C")
MAPS = ("x", "to_x", "weights")  # in the storage dtype, as the pointwise weights are
TUPLES = ("xs", "ys", "ts", "gs", "outs", "grads")  # of maps
VARIANTS = {  # the larger kernel of each, and 3x3 once
    depthwise.mixed_op_depthwise_kernel: (
        {"K": 3, "DIL": 1, "NORM": True},
        {"K": 5, "DIL": 1, "NORM": True},
        {"K": 5, "DIL": 2, "NORM": False},
    ),
    depthwise.mixed_op_depthwise_to_x_kernel: ({"K": 5, "DIL": 2, "ADD": True},),
    depthwise.mixed_op_depthwise_to_norm_kernel: ({"K": 5},),
    depthwise.mixed_op_depthwise_weights_kernel: (
        {"K": 5, "DIL": 1, "NORM": True},
        {"K": 5, "DIL": 2, "NORM": False},
    ),
    pointwise.mixed_op_pointwise_kernel: (
        {"TRANSPOSED": False, "MOMENTS": True},
        {"TRANSPOSED": True, "MOMENTS": False},
    ),
    pointwise.mixed_op_pointwise_weights_kernel: ({},),
    norm.mixed_op_norm_backward_kernel: ({},),
    pool.mixed_op_pool_moments_kernel: ({},),
    pool.mixed_op_pool_norm_kernel: ({},),
    pool.mixed_op_pool_sums_kernel: ({},),
    pool.mixed_op_pool_norm_backward_kernel: ({},),
    pool.mixed_op_to_x_kernel: ({},),
}
TABLES = {  # nothing depends on the storage
    depthwise.mixed_op_pack_taps_kernel: {"SIZES": (9, 9, 25, 25, 9, 25), "BLOCK": 128},
    pointwise.mixed_op_cast_kernel: {"BLOCK": 1024},
    pointwise.mixed_op_join_parts_kernel: {"TAPS": 25, "BLOCK": 256},
    norm.mixed_op_join_moments_kernel: {"BM": 128, "BT": 64, "BC": 32},
    norm.mixed_op_join_sums_kernel: {"TOTALS": True, "BT": 64, "BC": 32},
}
FLAGS = {"EPS": 1e-5, "SLOPE": 0.01, "MAX": 1, "AVG": 1, "POOLS": 2, "EDGES": EDGES}
FLAGS |= {"TRAINING": True, "CONVOLVED": True, "RELU": True}


def sizes_of(kernel, dtype: torch.dtype) -> tuple[dict[str, int], int]:
    """Block sizes and warps of the paper's 256 channels; 128 have the same."""
    blocks = Blocks.of(256, dtype)
    assert blocks == Blocks.of(128, dtype)
    if kernel is pointwise.mixed_op_pointwise_kernel:
        return dict(zip(("BM", "BN", "BK"), blocks.product)), blocks.product[3]
    if kernel is pointwise.mixed_op_pointwise_weights_kernel:
        return dict(zip(("BM", "BO", "BI"), blocks.weights)), blocks.weights[3]
    strips = kernel.fn.__name__.startswith("mixed_op_depthwise")
    return dict(zip(("BM", "BC"), blocks.strips if strips else blocks.elements)), 4


def signature(kernel, constants: dict, storage: str) -> dict[str, str | tuple[str, ...]]:
    pools = kernel.__module__.endswith("triton_pool")
    maps = (f"*{storage}",) * (2 if pools else EDGES)
    types = dict.fromkeys(INTEGERS, "i32") | dict.fromkeys(MAPS, f"*{storage}") | dict.fromkeys(TUPLES, maps)
    types |= {"means": ("*fp32",) * len(maps), "variances": ("*fp32",) * len(maps), "tensors": ("*fp32",) * 6}
    if pools:
        types |= {"taps": "*i8", "to_pools": maps}
    if "SIZES" in constants:
        types["taps"] = ("*fp32",) * len(constants["SIZES"])
    if kernel is pointwise.mixed_op_cast_kernel:
        types["out"] = f"*{storage}"
    return {name: types.get(name, "*fp32") for name in kernel.arg_names if name not in constants}


def compile_all() -> dict[str, dict]:
    usage = {}

    def compile_one(kernel, constants: dict, storage: str, warps: int) -> None:
        constants = {k: v for k, v in constants.items() if k in kernel.arg_names}
        types = signature(kernel, constants, storage)
        name = f"{kernel.fn.__name__} {constants} {storage}"
        usage[name] = compile_kernel(kernel, types, constants, num_warps=warps, multiples_of_16=("C",))

    for storage, dtype in (("fp32", torch.float32), ("bf16", torch.bfloat16)):
        for kernel, variants in VARIANTS.items():
            blocks, warps = sizes_of(kernel, dtype)
            for variant in variants:
                compile_one(kernel, FLAGS | variant | blocks, storage, warps)
    for kernel, constants in TABLES.items():
        compile_one(kernel, constants, "bf16", 4)
    return usage
