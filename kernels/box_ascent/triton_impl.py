"""box_ascent in Triton; formulas and the plan of the three launches: __init__.py.

Columns of all [..., 34 C] tables are (bin, channel), the 25 bins of the first map before the 9 of the second.
Parts of the linear layer cover one row of bins: five of the first map, three of the second.
"""

import torch
import triton
import triton.language as tl
from torch import Tensor

from .._layout import channels_last
from ..prroi_pool.triton_impl import cells_between, edge, extent, inverse, weight

BLOCK_J = 8  # map columns a program reads at once
BLOCK_R = 16  # boxes
BLOCK_H = 16  # hidden units of a program of the linear layer
BLOCK_K = 64  # its columns at once
BLOCK_BACK = 64  # hidden units at once on the way back
BLOCK_C = 64  # channels of a program on the way back
MAX_CHANNELS = 256  # of a pooling program
LOW = tl.constexpr(5)
HIGH = tl.constexpr(3)
LOW_BINS = tl.constexpr(25)
BINS = tl.constexpr(34)


@triton.jit
def moved(first, before, partial, r, P, blocks, a, b, START: tl.constexpr, RELATIVE: tl.constexpr,
          BLOCKS: tl.constexpr):  # fmt: skip
    """(centre x, y, width, height) of box r: at the start those of `first` [R, 4] (x, y, w, h), else `before`
    [R, 4] (centre, size) moved by the sum of its gradients, partial [R, blocks, 4]."""
    if START:
        width, height = tl.load(first + 4 * r + 2), tl.load(first + 4 * r + 3)
        return tl.load(first + 4 * r) + width / 2, tl.load(first + 4 * r + 1) + height / 2, width, height
    else:
        n = tl.arange(0, BLOCKS)
        at = partial + (r * blocks + n) * 4
        x0 = tl.sum(tl.load(at, mask=n < blocks, other=0.0), 0)
        y0 = tl.sum(tl.load(at + 1, mask=n < blocks, other=0.0), 0)
        x1 = tl.sum(tl.load(at + 2, mask=n < blocks, other=0.0), 0)
        y1 = tl.sum(tl.load(at + 3, mask=n < blocks, other=0.0), 0)
        x, y = tl.load(before + 4 * r), tl.load(before + 4 * r + 1)
        width, height = tl.load(before + 4 * r + 2), tl.load(before + 4 * r + 3)
        if RELATIVE:
            unit_x, unit_y = tl.load(first + r // P * P * 4 + 2), tl.load(first + r // P * P * 4 + 3)
            x += a * unit_x * unit_x * (x0 + x1)
            y += a * unit_y * unit_y * (y0 + y1)
            width *= tl.exp(b * width * (x1 - x0) / 2)
            height *= tl.exp(b * height * (y1 - y0) / 2)
            return x, y, width, height
        else:
            left = x - width / 2 + a * width * (x0 + x1)
            top = y - height / 2 + a * height * (y0 + y1)
            width += b * width * x1
            height += b * height * y1
            return left + width / 2, top + height / 2, width, height


@triton.jit
def pool_bin(
    map, modulation, pooled, slopes, x0, y0, x1, y1, p, q, bin, r, k, c, C, H, W, scale,
    N: tl.constexpr, BJ: tl.constexpr, BC: tl.constexpr,
):  # fmt: skip
    """Mean over bin (p, q) of a box and its derivative to the four corners, times the modulation: [BC]."""
    x0, y0 = x0 * scale, y0 * scale
    width, height = extent(x0, x1 * scale), extent(y0, y1 * scale)
    left, right = edge(x0, width, q, N), edge(x0, width, q + 1, N)
    top, bottom = edge(y0, height, p, N), edge(y0, height, p + 1, N)
    per_area = inverse((height / N) * (width / N))
    x_begin, x_end = cells_between(left, right, W)
    y_begin, y_end = cells_between(top, bottom, H)
    y_end = tl.where(per_area > 0, y_end, y_begin)
    image = map + k.to(tl.int64) * H * W * C
    total = tl.zeros((BJ, BC), tl.float32)
    at_left = tl.zeros((BJ, BC), tl.float32)
    at_right = tl.zeros((BJ, BC), tl.float32)
    at_top = tl.zeros((BJ, BC), tl.float32)
    at_bottom = tl.zeros((BJ, BC), tl.float32)
    for i in range(y_begin, y_end):
        wy = weight(top, bottom, i)
        on_top, on_bottom = tl.maximum(1.0 - tl.abs(top - i), 0.0), tl.maximum(1.0 - tl.abs(bottom - i), 0.0)
        for j0 in range(x_begin, x_end, BJ):
            j = j0 + tl.arange(0, BJ)
            inside = (j < x_end)[:, None] & (c < C)[None, :]
            tile = tl.load(image + (i * W + j[:, None]) * C + c[None, :], mask=inside, other=0.0)
            tile = tile.to(tl.float32)  # [BJ, BC]
            wx = weight(left, right, j)  # [BJ]
            on_left = tl.maximum(1.0 - tl.abs(left - j), 0.0)
            on_right = tl.maximum(1.0 - tl.abs(right - j), 0.0)
            total += (wy * wx)[:, None] * tile
            at_top += (on_top * wx)[:, None] * tile
            at_bottom += (on_bottom * wx)[:, None] * tile
            at_left += (wy * on_left)[:, None] * tile
            at_right += (wy * on_right)[:, None] * tile
    total, at_top, at_bottom = tl.sum(total, 0), tl.sum(at_top, 0), tl.sum(at_bottom, 0)  # [BC] each
    at_left, at_right = tl.sum(at_left, 0), tl.sum(at_right, 0)
    m = tl.load(modulation + k * C + c, mask=c < C, other=0.0)
    value = total * per_area
    tl.store(pooled + (r * BINS + bin) * C + c, value * m, mask=c < C)

    some = tl.where(per_area != 0, per_area, 0.0)
    by_width, by_height = value * (some * height / N), value * (some * width / N)
    m = m * scale
    d_left, d_right = (by_width - at_left * per_area) * m, (at_right * per_area - by_width) * m
    d_top, d_bottom = (by_height - at_top * per_area) * m, (at_bottom * per_area - by_height) * m
    low_x, high_x = q.to(tl.float32) / N, (q + 1).to(tl.float32) / N
    low_y, high_y = p.to(tl.float32) / N, (p + 1).to(tl.float32) / N
    here = slopes + (r * 4 * BINS + bin) * C + c
    tl.store(here, (1 - low_x) * d_left + (1 - high_x) * d_right, mask=c < C)
    tl.store(here + BINS * C, (1 - low_y) * d_top + (1 - high_y) * d_bottom, mask=c < C)
    tl.store(here + 2 * BINS * C, low_x * d_left + high_x * d_right, mask=c < C)
    tl.store(here + 3 * BINS * C, low_y * d_top + high_y * d_bottom, mask=c < C)


@triton.jit
def box_ascent_pool_kernel(
    low_map, high_map, low_modulation, high_modulation, first, before, after, partial, pooled, slopes,
    P, C, blocks, low_h, low_w, high_h, high_w, low_scale, high_scale, a, b,
    START: tl.constexpr, RELATIVE: tl.constexpr, BLOCKS: tl.constexpr, BJ: tl.constexpr, BC: tl.constexpr,
):  # fmt: skip
    bin, r = tl.program_id(0), tl.program_id(1)
    c = tl.program_id(2) * BC + tl.arange(0, BC)
    x, y, width, height = moved(first, before, partial, r, P, blocks, a, b, START, RELATIVE, BLOCKS)
    if (bin == 0) & (tl.program_id(2) == 0):
        tl.store(after + 4 * r, x)
        tl.store(after + 4 * r + 1, y)
        tl.store(after + 4 * r + 2, width)
        tl.store(after + 4 * r + 3, height)
    x0, y0, x1, y1 = x - width / 2, y - height / 2, x + width / 2, y + height / 2
    k = r // P
    if bin < LOW_BINS:
        pool_bin(
            low_map, low_modulation, pooled, slopes, x0, y0, x1, y1, bin // LOW, bin % LOW, bin, r, k, c,
            C, low_h, low_w, low_scale, LOW, BJ, BC,
        )  # fmt: skip
    else:
        n = bin - LOW_BINS
        pool_bin(
            high_map, high_modulation, pooled, slopes, x0, y0, x1, y1, n // HIGH, n % HIGH, bin, r, k, c,
            C, high_h, high_w, high_scale, HIGH, BJ, BC,
        )  # fmt: skip


@triton.jit
def box_ascent_linear_kernel(
    pooled, weights, parts, R, H, C, BR: tl.constexpr, BH: tl.constexpr, BK: tl.constexpr
):
    s = tl.program_id(0)
    h = tl.program_id(1) * BH + tl.arange(0, BH)
    r = tl.program_id(2) * BR + tl.arange(0, BR)
    begin = tl.where(s < LOW, s * LOW, LOW_BINS + (s - LOW) * HIGH) * C
    end = begin + tl.where(s < LOW, LOW, HIGH) * C
    total = tl.zeros((BR, BH), tl.float32)
    for k0 in range(begin, end, BK):
        k = k0 + tl.arange(0, BK)
        p_inside, w_inside = (r < R)[:, None] & (k < end)[None, :], (h < H)[None, :] & (k < end)[:, None]
        p = tl.load(pooled + r[:, None] * (BINS * C) + k[None, :], mask=p_inside, other=0.0)  # [BR, BK]
        w = tl.load(weights + h[None, :] * (BINS * C) + k[:, None], mask=w_inside, other=0.0)  # [BK, BH]
        total = tl.dot(p, w, total, input_precision="ieee")
    tl.store(parts + (s * R + r[:, None]) * H + h[None, :], total, mask=(r < R)[:, None] & (h < H)[None, :])


@triton.jit
def box_ascent_back_kernel(
    parts, weights, hidden_bias, out, slopes, scores, partial, R, H, C, per_bin,
    BR: tl.constexpr, BH: tl.constexpr, BC: tl.constexpr,
):  # fmt: skip
    block = tl.program_id(0)
    bin = block // per_bin
    c = block % per_bin * BC + tl.arange(0, BC)
    r = tl.program_id(1) * BR + tl.arange(0, BR)
    branch = tl.where(bin < LOW_BINS, 0, 1)
    first = tl.where(branch == 0, 0, LOW)
    last = tl.where(branch == 0, LOW, LOW + HIGH)
    total = tl.zeros((BR, BC), tl.float32)
    score = tl.zeros((BR,), tl.float32)
    for h0 in range(0, H, BH):
        h = h0 + tl.arange(0, BH)
        inside = (r < R)[:, None] & (h < H)[None, :]
        hidden = tl.zeros((BR, BH), tl.float32)
        hidden += tl.load(hidden_bias + branch * H + h, mask=h < H, other=0.0)[None, :]
        for s in tl.static_range(LOW):  # all loads at once; the second map has fewer parts
            part = parts + ((first + s) * R + r[:, None]) * H + h[None, :]
            hidden += tl.load(part, mask=inside & (first + s < last), other=0.0)
        o = tl.load(out + branch * H + h, mask=h < H, other=0.0)
        score += tl.sum(tl.where(hidden < 0, 0.0, hidden) * o[None, :], 1)  # NaN stays
        active = tl.where(hidden > 0, o[None, :], 0.0)  # [BR, BH]
        w = tl.load(
            weights + h[:, None] * (BINS * C) + bin * C + c[None, :],
            mask=(h < H)[:, None] & (c < C)[None, :],
            other=0.0,
        )
        total = tl.dot(active, w, total, input_precision="ieee")  # [BR, BH] [BH, BC]
    if (block == 0) | (block == per_bin * LOW_BINS):
        tl.store(scores + branch * R + r, score, mask=r < R)
    inside = (r < R)[:, None] & (c < C)[None, :]
    for corner in tl.static_range(4):
        slope = tl.load(
            slopes + ((r[:, None] * 4 + corner) * BINS + bin) * C + c[None, :], mask=inside, other=0.0
        )
        sums = tl.sum(total * slope, 1)  # [BR]
        tl.store(partial + (r * tl.num_programs(0) + block) * 4 + corner, sums, mask=r < R)


@triton.jit
def box_ascent_end_kernel(
    first, before, partial, parts_of_score, bias, boxes, scores, P, R, blocks, a, b,
    RELATIVE: tl.constexpr, BLOCKS: tl.constexpr,
):  # fmt: skip
    r = tl.program_id(0)
    x, y, width, height = moved(first, before, partial, r, P, blocks, a, b, False, RELATIVE, BLOCKS)
    tl.store(boxes + 4 * r, x - width / 2)
    tl.store(boxes + 4 * r + 1, y - height / 2)
    tl.store(boxes + 4 * r + 2, width)
    tl.store(boxes + 4 * r + 3, height)
    tl.store(scores + r, tl.load(bias) + tl.load(parts_of_score + r) + tl.load(parts_of_score + R + r))


def forward(maps, modulation, head, boxes, scales, to_position, to_size, relative) -> tuple[Tensor, Tensor]:
    low, high = map(channels_last, maps)
    vectors = [m.contiguous() for m in modulation]
    weights, hidden_bias, out = head.weight.contiguous(), head.hidden_bias.contiguous(), head.out.contiguous()
    first = boxes.contiguous()
    per_target, channels, hidden = boxes.shape[1], low.shape[1], weights.shape[0]
    rows = boxes.shape[0] * per_target

    def empty(*shape: int) -> Tensor:
        return torch.empty(shape, dtype=torch.float32, device=boxes.device)

    refined, scores = empty(*boxes.shape), empty(*boxes.shape[:2])
    if not rows:
        return refined, scores
    per_bin = triton.cdiv(channels, BLOCK_C)
    blocks, row_blocks = BINS.value * per_bin, triton.cdiv(rows, BLOCK_R)
    wide = min(MAX_CHANNELS, triton.next_power_of_2(channels))
    states = empty(len(to_position), rows, 4)
    pooled, slopes = empty(rows, BINS.value, channels), empty(rows, 4, BINS.value, channels)
    parts, partial = empty(LOW.value + HIGH.value, rows, hidden), empty(rows, blocks, 4)
    parts_of_score = empty(2, rows)
    padded = triton.next_power_of_2(blocks)
    moves = list(zip(to_position, to_size))
    for i in range(len(moves)):
        a, b = moves[i - 1] if i else (0.0, 0.0)  # of the step before
        box_ascent_pool_kernel[(BINS.value, rows, triton.cdiv(channels, wide))](
            low, high, *vectors, first, states[max(i - 1, 0)], states[i], partial, pooled, slopes,
            per_target, channels, blocks, *low.shape[2:], *high.shape[2:], *scales, a, b,
            START=i == 0, RELATIVE=relative, BLOCKS=padded, BJ=BLOCK_J, BC=wide,
        )  # fmt: skip
        box_ascent_linear_kernel[(LOW.value + HIGH.value, triton.cdiv(hidden, BLOCK_H), row_blocks)](
            pooled, weights, parts, rows, hidden, channels, BR=BLOCK_R, BH=BLOCK_H, BK=BLOCK_K
        )
        box_ascent_back_kernel[(blocks, row_blocks)](
            parts, weights, hidden_bias, out, slopes, parts_of_score, partial,
            rows, hidden, channels, per_bin, BR=BLOCK_R, BH=BLOCK_BACK, BC=BLOCK_C,
        )  # fmt: skip
    box_ascent_end_kernel[(rows,)](
        first, states[-1], partial, parts_of_score, head.bias, refined, scores,
        per_target, rows, blocks, *moves[-1], RELATIVE=relative, BLOCKS=padded,
    )  # fmt: skip
    return refined, scores
