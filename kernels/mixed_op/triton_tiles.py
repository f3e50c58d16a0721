"""What the Triton kernels of mixed_op share: which pixels a program holds, depthwise taps, products.

Maps are [N, H, W, C] in memory. A tile never mixes BN groups. Products and element-wise kernels hold
consecutive pixels; depthwise kernels hold strips of SPAN pixels of an image row, one [BM strips, BC channels]
tensor per column: a loaded column serves every tap that needs it, 10 loads for 30 products where k = 5.
Pixels outside an image count 0, also behind a norm.
"""

import triton
import triton.language as tl

from .._dispatch import interpreting

SPAN = 6  # named by a0 .. a5; 18 columns are 3 strips
COLUMNS = tl.constexpr(SPAN)
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
def strips(first, count, c, H, W, C, BM: tl.constexpr):
    """(offsets [BM, BC], int64; row in its image, first column [BM]) of `count` strips from the `first`."""
    r = tl.arange(0, BM)
    wide = tl.cdiv(W, COLUMNS)
    row = (first + r) // wide
    column = (first + r) % wide * COLUMNS
    offsets = (row.to(tl.int64) * W + column)[:, None] * C + c[None, :]
    return offsets, tl.where(r < count, row % H, -1048576), column


@triton.jit
def column_mask(row, w, c, W, C, D: tl.constexpr):
    """[BM, BC]: column w + D is inside its image; row [BM]: the row is"""
    return (row & (w + D >= 0) & (w + D < W))[:, None] & (c < C)[None, :]


@triton.jit
def load_column(x, row, w, c, W, C, D: tl.constexpr):
    """Column D of the strips at the pointers x, float32 [BM, BC]."""
    return tl.load(x + D * C, mask=column_mask(row, w, c, W, C, D), other=0.0).to(tl.float32)


@triton.jit
def depthwise(
    x, taps, h, w, c, H, W, C, mean, scale, shift, a0, a1, a2, a3, a4, a5,
    K: tl.constexpr, DIL: tl.constexpr, FLIP: tl.constexpr, NORM: tl.constexpr, SLOPE: tl.constexpr,
):  # fmt: skip
    """a0 .. a5 plus the depthwise convolution at the columns of the strips at the pointers x [BM, BC].

    taps [K K, C]; FLIP: the adjoint. mean, scale, shift [BC] are used with NORM.
    """
    reach: tl.constexpr = K // 2 * DIL
    step: tl.constexpr = -1 if FLIP else 1
    for i in range(K):  # a loop, not unrolled: bounds the loads in flight, hence registers
        dh = (i - K // 2) * DIL
        row = (h + dh >= 0) & (h + dh < H)  # [BM]
        y = x + dh * W * C
        if FLIP:
            middle = taps + ((K - 1 - i) * K + K // 2) * C + c
        else:
            middle = taps + (i * K + K // 2) * C + c
        for d in tl.static_range(-reach, reach + COLUMNS):
            # written out, not called: in the interpreter calls cost more than all else
            mask = (row & (w + d >= 0) & (w + d < W))[:, None] & (c < C)[None, :]
            v = tl.load(y + d * C, mask=mask, other=0.0).to(tl.float32)  # [BM, BC]
            if NORM:
                z = (v - mean[None, :]) * scale[None, :] + shift[None, :]
                v = tl.where(mask, tl.where(z <= 0, z * SLOPE, z), 0.0)
            if d % DIL == 0 and d >= -reach and d <= reach:
                a0 += tl.load(middle + d // DIL * step * C, mask=c < C, other=0.0)[None, :] * v
            if (d - 1) % DIL == 0 and (d - 1) >= -reach and (d - 1) <= reach:
                a1 += tl.load(middle + (d - 1) // DIL * step * C, mask=c < C, other=0.0)[None, :] * v
            if (d - 2) % DIL == 0 and (d - 2) >= -reach and (d - 2) <= reach:
                a2 += tl.load(middle + (d - 2) // DIL * step * C, mask=c < C, other=0.0)[None, :] * v
            if (d - 3) % DIL == 0 and (d - 3) >= -reach and (d - 3) <= reach:
                a3 += tl.load(middle + (d - 3) // DIL * step * C, mask=c < C, other=0.0)[None, :] * v
            if (d - 4) % DIL == 0 and (d - 4) >= -reach and (d - 4) <= reach:
                a4 += tl.load(middle + (d - 4) // DIL * step * C, mask=c < C, other=0.0)[None, :] * v
            if (d - 5) % DIL == 0 and (d - 5) >= -reach and (d - 5) <= reach:
                a5 += tl.load(middle + (d - 5) // DIL * step * C, mask=c < C, other=0.0)[None, :] * v
    return a0, a1, a2, a3, a4, a5


@triton.jit
def store_columns(out, h, w, c, W, C, a0, a1, a2, a3, a4, a5):
    real = out.dtype.element_ty
    row = h >= 0
    tl.store(out, a0.to(real), mask=column_mask(row, w, c, W, C, 0))
    tl.store(out + C, a1.to(real), mask=column_mask(row, w, c, W, C, 1))
    tl.store(out + 2 * C, a2.to(real), mask=column_mask(row, w, c, W, C, 2))
    tl.store(out + 3 * C, a3.to(real), mask=column_mask(row, w, c, W, C, 3))
    tl.store(out + 4 * C, a4.to(real), mask=column_mask(row, w, c, W, C, 4))
    tl.store(out + 5 * C, a5.to(real), mask=column_mask(row, w, c, W, C, 5))


@triton.jit
def dot(a, b, total):
    """total + a b: float32 with compensated TF32 (its rounding is 2^-22), bfloat16 as it is."""
    if INTERPRETED:  # which holds bfloat16 as integers
        return tl.dot(a.to(tl.float32), b.to(tl.float32), total)
    else:
        return tl.dot(a, b, total, input_precision="tf32x3")
