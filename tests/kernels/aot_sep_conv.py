"""Compiles the Triton kernels of sep_conv for sm_90 at paper size (run by aot.compile_in_subprocess)."""

import torch

from chase_fast.kernels.sep_conv import triton_impl as t
from tests.kernels.aot import compile_kernel

CHANNELS = 256
# kernels with a depthwise, per kernel size and flavour; and the others, per flavour
CONVOLUTIONS = (
    t.sep_conv_inference_kernel,
    t.sep_conv_product_kernel,
    t.sep_conv_x_grad_kernel,
    t.sep_conv_taps_grad_kernel,
    t.sep_conv_pointwise_grad_kernel,
)
OTHERS = (
    t.sep_conv_join_moments_kernel,
    t.sep_conv_normalise_kernel,
    t.sep_conv_sums_kernel,
    t.sep_conv_join_sums_kernel,
    t.sep_conv_product_grad_kernel,
    t.sep_conv_between_grad_kernel,
    t.sep_conv_join_kernel,
)
MAPS = ("x", "y", "product", "grad", "between", "grad_x", "out")
SIZES = ("C", "D", "H", "W", "OH", "OW")
INTEGERS = (*SIZES, "rows", "pixels", "groups", "tiles", "size", "inner", "outer", "share", "lines")
FLAGS = {"MOMENTS": True, "TRAINING": True, "EPS": 1e-5, "SLOPE": 0.01}


def compile_one(kernel, storage: str, num_warps: int = 4, **constants) -> dict:
    constants = {k: v for k, v in (FLAGS | constants).items() if k in kernel.arg_names}
    maps = MAPS if kernel is not t.sep_conv_join_kernel else ()
    signature = {
        name: "i32" if name in INTEGERS else f"*{storage}" if name in maps else "*fp32"
        for name in kernel.arg_names
        if name not in constants
    }
    multiples = tuple(name for name in ("C", "D", "size", "inner") if name in signature)
    return compile_kernel(kernel, signature, constants, num_warps=num_warps, multiples_of_16=multiples)


def tile(kernel, storage: str, frames: int, channels: int = CHANNELS) -> dict:
    """Tile and warps of `kernel` as its launcher chooses them for frames of 22 x 22 pixels."""
    x = torch.empty(1, channels, 1, 1, dtype={"fp32": torch.float32, "bf16": torch.bfloat16}[storage])
    warps = t._warps(t.BLOCK_N)
    product = {"BM": t._rows_of_tile(x, t.BLOCK_M), "BN": t.BLOCK_N, "BK": t.BLOCK_K, "num_warps": warps}
    if kernel is t.sep_conv_inference_kernel:
        return t._inference_tile(x, frames * 22 * 22, channels)
    if kernel in (t.sep_conv_x_grad_kernel, t.sep_conv_taps_grad_kernel):
        return {"BM": t.DEPTHWISE_M, "BC": t.DEPTHWISE_C, "UNROLL": t.TAPS_UNROLL}
    if kernel is t.sep_conv_pointwise_grad_kernel:
        rows = t._rows_of_tile(x, t.WEIGHT_M)
        return {"BM": rows, "BD": t.BLOCK_N, "BC": t.WEIGHT_C, "num_warps": warps}
    if kernel in (t.sep_conv_product_kernel, t.sep_conv_between_grad_kernel):
        return product
    if kernel in (t.sep_conv_normalise_kernel, t.sep_conv_sums_kernel, t.sep_conv_product_grad_kernel):
        return {"BM": t.REDUCE_M, "BC": t.REDUCE_C}
    return {"BM": product["BM"], "BT": t.JOIN_T, "BC": t.JOIN_C}


def compile_all() -> dict[str, dict]:
    usage = {}
    for storage in ("fp32", "bf16"):
        for size, taps, dilation, relu in ((3, 16, 1, False), (5, 32, 2, True)):
            convolution = {"K": size, "BT": taps, "DILATION": dilation, "STRIDE": 1, "RELU": relu}
            for kernel in CONVOLUTIONS:
                for n in (1, 60) if kernel is t.sep_conv_inference_kernel else (60,):
                    name = f"{kernel.fn.__name__} {storage} k={size} n={n}"
                    usage[name] = compile_one(kernel, storage, **convolution, **tile(kernel, storage, n))
        wide = tile(t.sep_conv_inference_kernel, storage, 1, channels=1024)
        usage[f"frame of 1024 channels {storage}"] = compile_one(
            t.sep_conv_inference_kernel, storage, **convolution, **wide
        )
        for kernel in OTHERS:
            name = f"{kernel.fn.__name__} {storage}"
            usage[name] = compile_one(kernel, storage, LRELU=True, **tile(kernel, storage, 60))
    return usage
