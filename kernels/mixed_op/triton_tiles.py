"""What the Triton kernels of mixed_op share: which pixels a program holds, the depthwise taps, products.

Maps are [N, H, W, C] in memory. A tile is BM consecutive pixels of one BN group (`rows` pixels) times a block
of channels, so statistics never mix groups; taps outside the image of a pixel count 0.
"""

import triton
import triton.language as tl

from .._dispatch import interpreting

INTERPRETED = tl.constexpr(interpreting())


@triton.jit
def pick(maps, e):
    """Pointer to map e of a tuple (the maps of an op's edges are separate tensors)."""
    p = maps[0]
    for i in tl.static_range(1, len(maps)):
        p = tl.where(e == i, maps[i], p)
    return p


@triton.jit
def pixels(first, count, H, W, BM: tl.constexpr):
    """(offset of the first pixel, int64; inside [BM]; row in its image, column [BM]) of `count` pixels from
    the `first`, both counted in a run of whole images. Rows of pixels outside are far outside every image."""
    r = tl.arange(0, BM)
    inside = r < count
    p = first + r
    return tl.cast(first, tl.int64), inside, tl.where(inside, p // W % H, -1048576), p % W


@triton.jit
def depthwise(
    x, taps, h, w, c, H, W, C, K: tl.constexpr, DIL: tl.constexpr, FLIP: tl.constexpr, BM: tl.constexpr
):
    """Depthwise convolution [BM, BC] in float32 at the pixels from x on; taps [K K, C]. FLIP: its adjoint."""
    offsets = tl.arange(0, BM)[:, None] * C + c[None, :]
    total = tl.zeros(offsets.shape, tl.float32)
    for i in range(K):  # a loop, not unrolled: bounds the loads in flight, hence registers
        dh = (i - K // 2) * DIL
        row = (h + dh >= 0) & (h + dh < H)
        for j in tl.static_range(K):
            dw = (j - K // 2) * DIL
            inside = row & (w + dw >= 0) & (w + dw < W)
            tap = i * K + j
            if FLIP:
                tap = K * K - 1 - tap
            weight = tl.load(taps + tap * C + c, mask=c < C, other=0.0)
            mask = inside[:, None] & (c < C)[None, :]
            value = tl.load(x + offsets + (dh * W + dw) * C, mask=mask, other=0.0)
            total += value.to(tl.float32) * weight[None, :]
    return total


@triton.jit
def dot(a, b, total):
    """total + a b: float32 with compensated TF32 (its rounding is 2^-22), bfloat16 as it is."""
    if INTERPRETED:  # which holds bfloat16 as integers
        return tl.dot(a.to(tl.float32), b.to(tl.float32), total)
    else:
        return tl.dot(a, b, total, input_precision="tf32x3")
