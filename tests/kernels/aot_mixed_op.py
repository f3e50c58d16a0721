"""Compiles the Triton kernels of mixed_op for sm_90 at paper size (run by aot.compile_in_subprocess)."""

import torch

from chase_fast.kernels.mixed_op import triton_convolution as convolution
from chase_fast.kernels.mixed_op import triton_norm as norm
from chase_fast.kernels.mixed_op import triton_pool as pool
from chase_fast.kernels.mixed_op.triton_launch import Blocks
from tests.kernels.aot import compile_kernel

EDGES = 4
INTEGERS = ("rows", "count", "chunk", "size", "chunks", "tiles", "groups", "H", "W", "C")
MAPS = ("x", "out", "to_x")
TUPLES = ("xs", "ys", "zs", "ts", "gs", "outs", "grads")  # of maps
STAGES = (  # depthwise: (kernel, dilation)
    (convolution.mixed_op_stage_kernel, {"K": 3, "DIL": 1, "MOMENTS": True, "TRANSPOSED": False}),
    (convolution.mixed_op_stage_kernel, {"K": 5, "DIL": 1, "MOMENTS": True, "TRANSPOSED": False}),
    (convolution.mixed_op_stage_kernel, {"K": 5, "DIL": 2, "MOMENTS": False, "TRANSPOSED": False}),
    (convolution.mixed_op_stage_kernel, {"K": 1, "DIL": 1, "MOMENTS": False, "TRANSPOSED": True}),
    (convolution.mixed_op_pointwise_weights_kernel, {"K": 3, "DIL": 1}),
    (convolution.mixed_op_pointwise_weights_kernel, {"K": 5, "DIL": 2}),
)
OTHERS = (
    (convolution.mixed_op_depthwise_to_x_kernel, {"K": 3, "DIL": 1, "ADD": False}),
    (convolution.mixed_op_depthwise_to_x_kernel, {"K": 5, "DIL": 2, "ADD": True}),
    (convolution.mixed_op_depthwise_weights_kernel, {"K": 3, "DIL": 1}),
    (convolution.mixed_op_depthwise_weights_kernel, {"K": 5, "DIL": 2}),
    (norm.mixed_op_norm_kernel, {"SLOPE": 0.01}),
    (norm.mixed_op_depthwise_to_norm_kernel, {"K": 3, "SLOPE": 0.0}),
    (norm.mixed_op_depthwise_to_norm_kernel, {"K": 5, "SLOPE": 0.01}),
    (norm.mixed_op_norm_backward_kernel, {"TRAINING": True}),
    (pool.mixed_op_pool_moments_kernel, {}),
    (pool.mixed_op_pool_norm_kernel, {}),
    (pool.mixed_op_pool_sums_kernel, {}),
    (pool.mixed_op_pool_norm_backward_kernel, {"TRAINING": True}),
    (pool.mixed_op_to_x_kernel, {"CONVOLVED": True, "RELU": True}),
)
TABLES = (  # nothing depends on the storage
    (convolution.mixed_op_pack_taps_kernel, {"SIZES": (9, 9, 25, 25, 9, 25), "BLOCK": 128}),
    (convolution.mixed_op_cast_kernel, {"BLOCK": 1024}),
    (convolution.mixed_op_join_parts_kernel, {"TAPS": 25, "BLOCK": 256}),
    (norm.mixed_op_join_moments_kernel, {"BM": 64, "BT": 64, "BC": 32}),
    (norm.mixed_op_join_sums_kernel, {"BT": 64, "BC": 32}),
)


def signature(kernel, constants: dict, storage: str) -> dict[str, str | tuple[str, ...]]:
    pools = "pool" in kernel.fn.__name__ or "to_x_kernel" in kernel.fn.__name__
    types = dict.fromkeys(INTEGERS, "i32") | dict.fromkeys(MAPS, f"*{storage}")
    many = 2 if pools and "depthwise" not in kernel.fn.__name__ else EDGES
    types |= dict.fromkeys(TUPLES, (f"*{storage}",) * many) | {"to_pools": (f"*{storage}",) * 2}
    types |= dict.fromkeys(("means", "variances"), ("*fp32",) * (2 if pools else 1))
    types |= {"pointwise": f"*{storage}", "tensors": ("*fp32",) * 6}
    if "SIZES" in constants:
        types |= {"taps": ("*fp32",) * len(constants["SIZES"]), "out": "*fp32"}
    if "TAPS" in constants:
        types["out"] = "*fp32"
    if pools and "depthwise" not in kernel.fn.__name__:
        types["taps"] = "*i8"
    return {name: types.get(name, "*fp32") for name in kernel.arg_names if name not in constants}


def compile_all() -> dict[str, dict]:
    usage = {}
    for channels in (256, 128):
        for storage, dtype in (("fp32", torch.float32), ("bf16", torch.bfloat16)):
            blocks = Blocks.of(channels, dtype)
            small = {"BM": blocks.pixels, "BC": blocks.channels}
            plans = [
                (kernel, constants | dict(zip(("BM", "BN", "BK"), blocks.stage)), blocks.warps)
                if kernel is convolution.mixed_op_stage_kernel
                else (kernel, constants | dict(zip(("BM", "BO", "BI"), blocks.weights)), blocks.warps)
                for kernel, constants in STAGES
            ]
            flags = {"EPS": 1e-5, "MAX": 1, "AVG": 1, "POOLS": 2, "EDGES": EDGES}
            if channels == 256:
                plans += [(kernel, flags | small | constants, 4) for kernel, constants in OTHERS]
                if storage == "bf16":
                    plans += [(kernel, constants, 4) for kernel, constants in TABLES]
            for kernel, constants, warps in plans:
                constants = {k: v for k, v in constants.items() if k in kernel.arg_names}
                chosen = {k: v for k, v in constants.items() if k in ("K", "DIL")}
                name = f"{kernel.fn.__name__} {chosen} C={channels} {storage}"
                usage[name] = compile_kernel(
                    kernel,
                    signature(kernel, constants, storage),
                    constants,
                    num_warps=warps,
                    multiples_of_16=("C",),
                )
    return usage
