"""sep_conv in Triton; formulas: __init__.py. Maps are NHWC: [rows, C], a row is a pixel of an image.

    inference  one kernel: depthwise -> product -> batch norm with running statistics -> activation
    training   the same tile with its moments -> join -> normalise
    backward   S1, S2 per tile -> join, with the gradients of gamma and beta -> gradient of the product ->
               gradient between depthwise and pointwise -> gradients of x and, by parts of the image rows, of
               the depthwise; gradient of the pointwise by parts of the pixels, the depthwise computed again
No tile straddles two BN groups. No atomics: partial results are joined in a fixed order, in float64.
Sums are float32, whatever the dtype of the maps.
"""

import torch
import triton
from torch import Tensor

from .._layout import channels_last
from .triton_backward import (
    sep_conv_between_grad_kernel,
    sep_conv_join_kernel,
    sep_conv_join_sums_kernel,
    sep_conv_pointwise_grad_kernel,
    sep_conv_product_grad_kernel,
    sep_conv_sums_kernel,
    sep_conv_taps_grad_kernel,
    sep_conv_x_grad_kernel,
)
from .triton_forward import (
    sep_conv_inference_kernel,
    sep_conv_join_moments_kernel,
    sep_conv_normalise_kernel,
    sep_conv_product_kernel,
)

# Tiles: pixels (M), channels summed over in a step (K), channels of the result (N); of elementwise kernels
# and joins: rows and channels. Chosen for sm_90 at C = 256: no spills, and 16 warps or more on a
# multiprocessor where the map is large.
BLOCK_M, BLOCK_K, BLOCK_N = 64, 32, 256
FRAME_M, FRAME_K, FRAME_N, FRAME_WARPS = 16, 128, 64, 8  # of few pixels; N also twice that, K then half
REDUCE_M, REDUCE_C = 64, 64
DEPTHWISE_M, DEPTHWISE_C, TAPS_UNROLL = 32, 64, 4
WEIGHT_M, WEIGHT_C = 32, 64
JOIN_T, JOIN_C = 32, 32
PROGRAMS = 120  # that fill the GPU: an H100 or H200 has 132 multiprocessors


def _block(size: int, most: int) -> int:
    """Block for `size` channels: a power of 2, at least 16 for the tensor cores."""
    return max(16, min(most, triton.next_power_of_2(size)))


def _taps(depthwise: Tensor) -> Tensor:
    """[C, k, k] -> [k, k, C]; no copy where the memory is in that order."""
    return depthwise.permute(1, 2, 0).contiguous()


def _new_map(x: Tensor, channels: int, stride: int) -> Tensor:
    n, _, h, w = x.shape
    shape = (n, -(-h // stride), -(-w // stride), channels)
    return torch.empty(shape, dtype=x.dtype, device=x.device).permute(0, 3, 1, 2)


def _float(like: Tensor, *shape: int) -> Tensor:
    return torch.empty(shape, dtype=torch.float32, device=like.device)


def _empty(like: Tensor) -> Tensor:
    """Stands for a result that is not wanted; a fresh one each time, an op's results must not alias."""
    return torch.empty(0, dtype=like.dtype, device=like.device)


def _rows_of_tile(x: Tensor, most: int) -> int:
    """BM of a product: half in float32, whose 3xTF32 products need twice the registers."""
    return most // 2 if x.dtype == torch.float32 else most


def _warps(width: int) -> int:
    """Warps of a product `width` channels wide."""
    return max(4, width // 16)


def _inference_tile(x: Tensor, pixels: int, channels: int) -> dict:
    """A tile of the product; for few pixels a small one, so that PROGRAMS programs share them.

    A frame of 22 x 22 pixels and 256 channels: 31 tiles of 16 pixels x 4 of 64 channels = 124 programs; of
    18 x 18: 21 x 4 = 84; of 22 x 22 and 1024 channels: 31 x 8 of 128 = 248. Every tile of channels computes
    the depthwise again, so narrower ones gain nothing. A step is as deep as registers allow (32 weights per
    thread): what takes time is the C / BK k loads that wait for one another.
    """
    bm, bn = _rows_of_tile(x, BLOCK_M), _block(channels, BLOCK_N)
    if pixels >= bm * PROGRAMS:
        return {"BM": bm, "BN": bn, "BK": _block(x.shape[1], BLOCK_K), "num_warps": _warps(bn)}
    bn = min(bn, 2 * FRAME_N)
    if triton.cdiv(pixels, FRAME_M) * triton.cdiv(channels, bn) < PROGRAMS:
        bn = min(bn, FRAME_N)
    bk = _block(x.shape[1], min(FRAME_K, FRAME_K * FRAME_N // bn))
    return {"BM": FRAME_M, "BN": bn, "BK": bk, "num_warps": FRAME_WARPS}


def forward(
    x, depthwise, pointwise, gamma, beta, mean, var,
    stride, dilation, flavour, groups, training, eps, slope, keep,
):  # fmt: skip
    x, taps, pointwise = channels_last(x), _taps(depthwise), pointwise.contiguous()
    gamma, beta = gamma.contiguous(), beta.contiguous()
    (_, c, h, w), d, lrelu = x.shape, pointwise.shape[0], flavour == "chase"
    y = _new_map(x, d, stride)
    oh, ow = y.shape[2:]
    pixels = y.shape[0] * oh * ow
    used_mean, used_var = _float(x, groups, d), _float(x, groups, d)
    sizes = c, d, h, w, oh, ow
    convolution = {"K": depthwise.shape[-1], "STRIDE": stride, "DILATION": dilation, "RELU": not lrelu}
    if not training and not keep:
        tile = _inference_tile(x, pixels, d)
        sep_conv_inference_kernel[triton.cdiv(pixels, tile["BM"]), triton.cdiv(d, tile["BN"])](
            x, taps, pointwise, gamma, beta, mean.contiguous(), var.contiguous(), y, used_mean, used_var,
            pixels, groups, *sizes, **convolution, EPS=eps, SLOPE=slope, **tile,
        )  # fmt: skip
        return y, used_mean, used_var, _empty(x), _empty(x)
    rows, bm, bn = pixels // groups, _rows_of_tile(x, BLOCK_M), _block(d, BLOCK_N)
    tiles = triton.cdiv(rows, bm)
    product = torch.empty_like(y) if keep else y
    parts = _float(x, 2, groups, tiles, d) if training else (used_mean, used_var)
    sep_conv_product_kernel[tiles, triton.cdiv(d, bn), groups](
        x, taps, pointwise, product, *parts, rows, *sizes, **convolution, MOMENTS=training,
        BM=bm, BK=_block(c, BLOCK_K), BN=bn, num_warps=_warps(bn),
    )  # fmt: skip
    if training:
        sep_conv_join_moments_kernel[triton.cdiv(d, JOIN_C), groups](
            *parts, used_mean, used_var, rows, d, tiles, BM=bm, BT=JOIN_T, BC=JOIN_C
        )
    else:
        used_mean.copy_(mean.expand(groups, d))
        used_var.copy_(var.expand(groups, d))
    block = _block(d, REDUCE_C)
    sep_conv_normalise_kernel[triton.cdiv(rows, REDUCE_M), triton.cdiv(d, block), groups](
        product, y, gamma, beta, used_mean, used_var, rows, d,
        LRELU=lrelu, EPS=eps, SLOPE=slope, BM=REDUCE_M, BC=block,
    )  # fmt: skip
    return y, used_mean, used_var, _empty(x), product if keep else _empty(x)


def backward(
    grad, x, depthwise, pointwise, gamma, beta, mean, var, between, product,
    stride, dilation, flavour, training, eps, slope, wanted,
):  # fmt: skip
    to_x, to_depthwise, to_pointwise = wanted[:3]
    grad, x, product = channels_last(grad), channels_last(x), channels_last(product)
    taps, pointwise = _taps(depthwise), pointwise.contiguous()
    tables = [t.contiguous() for t in (gamma, beta, mean, var)]
    (n, c, h, w), d, lrelu, groups = x.shape, pointwise.shape[0], flavour == "chase", mean.shape[0]
    oh, ow = product.shape[2:]
    pixels = n * oh * ow
    rows = pixels // groups
    norm = {"LRELU": lrelu, "EPS": eps, "SLOPE": slope, "BM": REDUCE_M, "BC": _block(d, REDUCE_C)}
    convolution = {"K": depthwise.shape[-1], "STRIDE": stride, "DILATION": dilation, "RELU": not lrelu}

    tiles = triton.cdiv(rows, REDUCE_M)
    grid = tiles, triton.cdiv(d, norm["BC"]), groups
    parts, sums = _float(x, 2, groups, tiles, d), _float(x, 2, groups, d)
    sep_conv_sums_kernel[grid](grad, product, *tables, *parts, rows, d, **norm)
    grad_gamma, grad_beta = _float(x, d), _float(x, d)
    sep_conv_join_sums_kernel[(triton.cdiv(d, JOIN_C),)](
        *parts, *sums, grad_gamma, grad_beta, groups, d, tiles, BT=JOIN_T, BC=JOIN_C
    )
    grad_x = torch.empty_like(x, memory_format=torch.channels_last) if to_x else _empty(x)
    grad_depthwise = _float(x, *depthwise.shape) if to_depthwise else _empty(depthwise)
    grad_pointwise = _float(x, d, c) if to_pointwise else _empty(pointwise)
    if to_x or to_depthwise or to_pointwise:
        grad_product = torch.empty_like(product)
        sep_conv_product_grad_kernel[grid](
            grad, product, *tables, *sums, grad_product, rows, d, TRAINING=training, **norm
        )
    if to_x or to_depthwise:
        grad_between, bm, bn = _new_map(x, c, stride), _rows_of_tile(x, BLOCK_M), _block(c, BLOCK_N)
        sep_conv_between_grad_kernel[triton.cdiv(pixels, bm), triton.cdiv(c, bn)](
            grad_product, pointwise, grad_between, pixels, c, d,
            BM=bm, BK=_block(d, BLOCK_K), BN=bn, num_warps=_warps(bn),
        )  # fmt: skip
        bc = _block(c, DEPTHWISE_C)
        if to_x:
            sep_conv_x_grad_kernel[triton.cdiv(n * h * w, DEPTHWISE_M), triton.cdiv(c, bc)](
                grad_between, x, taps, grad_x, n * h * w, c, h, w, oh, ow,
                **convolution, BM=DEPTHWISE_M, BC=bc,
            )  # fmt: skip
        if to_depthwise:
            lines, lanes = n * oh, triton.cdiv(c, bc)
            share = triton.cdiv(lines, max(1, 4 * PROGRAMS // lanes))
            part = _float(x, triton.cdiv(lines, share), depthwise.numel())
            sep_conv_taps_grad_kernel[part.shape[0], lanes](
                x, grad_between, part, lines, share, c, h, w, oh, ow,
                **convolution, BT=triton.next_power_of_2(depthwise[0].numel()), BC=bc, UNROLL=TAPS_UNROLL,
            )  # fmt: skip
            _join(part, grad_depthwise, inner=c)
    if to_pointwise:
        bm, bc, bd = _rows_of_tile(x, WEIGHT_M), _block(c, WEIGHT_C), _block(d, BLOCK_N)
        lanes = triton.cdiv(c, bc), triton.cdiv(d, bd)
        parts = max(1, min(PROGRAMS // (lanes[0] * lanes[1]), triton.cdiv(pixels, bm)))
        share = triton.cdiv(triton.cdiv(pixels, parts), bm) * bm
        part = _float(x, parts, d * c)
        sep_conv_pointwise_grad_kernel[parts, *lanes](
            x, taps, grad_product, part, pixels, share, c, d, h, w, oh, ow,
            **convolution, BM=bm, BD=bd, BC=bc, num_warps=_warps(bd),
        )  # fmt: skip
        _join(part, grad_pointwise, inner=d * c)
    return grad_x, grad_depthwise, grad_pointwise, grad_gamma, grad_beta


def _join(part: Tensor, out: Tensor, inner: int) -> None:
    """out = the sum of part [tiles, size] over its tiles, transposed from [size / inner, inner]."""
    tiles, size = part.shape
    sep_conv_join_kernel[(triton.cdiv(size, JOIN_C),)](
        part, out, tiles, size, inner, size // inner, BT=JOIN_T, BC=JOIN_C
    )
