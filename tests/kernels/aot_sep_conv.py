"""Compiles the Triton kernels of sep_conv for sm_90 at paper size (run by aot.compile_in_subprocess)."""

from chase_fast.kernels.sep_conv import triton_impl as t
from tests.kernels.aot import compile_kernel

CHANNELS = 256
# kernels with a depthwise, per kernel size and flavour; and the others, per flavour
CONVOLUTIONS = (
    t.sep_conv_inference_kernel,
    t.sep_conv_product_kernel,
    t.sep_conv_depthwise_grads_kernel,
    t.sep_conv_pointwise_grad_kernel,
)
OTHERS = (
    t.sep_conv_join_moments_kernel,
    t.sep_conv_normalise_kernel,
    t.sep_conv_sums_kernel,
    t.sep_conv_join_sums_kernel,
    t.sep_conv_between_grad_kernel,
    t.sep_conv_join_kernel,
)
MAPS = ("x", "y", "product", "grad", "between", "grad_x")
INTEGERS = (
    "rows", "pixels", "groups", "tiles", "size", "inner", "outer", "share", "splits", "C", "D", "H", "W", "OH", "OW"
)  # fmt: skip
FLAGS = {"MOMENTS": True, "TRAINING": True, "TO_X": True, "TO_TAPS": True, "EPS": 1e-5, "SLOPE": 0.01}


def compile_one(kernel, storage: str, **constants) -> dict:
    constants = {k: v for k, v in (FLAGS | constants).items() if k in kernel.arg_names}
    signature = {
        name: "i32" if name in INTEGERS else f"*{storage}" if name in MAPS else "*fp32"
        for name in kernel.arg_names
        if name not in constants
    }
    multiples = tuple(name for name in ("C", "D", "size", "inner") if name in signature)
    warps = t.WARPS if "BK" in kernel.arg_names or "BD" in kernel.arg_names else 4
    return compile_kernel(kernel, signature, constants, num_warps=warps, multiples_of_16=multiples)


def blocks(kernel, rows: int) -> dict:
    """Tile of `kernel` as its launcher chooses it for `rows` pixels of CHANNELS channels."""
    if kernel is t.sep_conv_inference_kernel:
        bm, bn = t._inference_blocks(rows, CHANNELS)
        return {"BM": bm, "BN": bn, "BK": t.BLOCK_K}
    if kernel is t.sep_conv_depthwise_grads_kernel:
        return {"BM": t.DEPTHWISE_M, "BC": t.DEPTHWISE_C}
    if kernel is t.sep_conv_pointwise_grad_kernel:
        return {"BM": t.WEIGHT_M, "BD": t.BLOCK_N, "BC": t.WEIGHT_C}
    if kernel in (t.sep_conv_normalise_kernel, t.sep_conv_sums_kernel):
        return {"BM": t.REDUCE_M, "BC": t.REDUCE_C}
    return {"BM": t.BLOCK_M, "BN": t.BLOCK_N, "BK": t.BLOCK_K, "BT": t.JOIN_T, "BC": t.JOIN_C}


def compile_all() -> dict[str, dict]:
    usage = {}
    for storage in ("fp32", "bf16"):
        for size, dilation, relu in ((3, 1, False), (5, 1, False), (5, 2, True)):
            for kernel in CONVOLUTIONS:
                frames = (1, 60) if kernel is t.sep_conv_inference_kernel else (60,)
                for n in frames:
                    usage[f"{kernel.fn.__name__} {storage} k={size} relu={relu} n={n}"] = compile_one(
                        kernel, storage, K=size, DILATION=dilation, STRIDE=1, RELU=relu,
                        **blocks(kernel, n * 22 * 22),
                    )  # fmt: skip
        for kernel in OTHERS:
            usage[f"{kernel.fn.__name__} {storage}"] = compile_one(
                kernel, storage, LRELU=True, **blocks(kernel, 60 * 18 * 18)
            )
    return usage
