"""`start` and `outcome` of localize in Triton: one program per target, its score map in registers."""

import torch
import triton
import triton.language as tl
from torch import Tensor

TRACKED = tl.constexpr(0.0)
UNCERTAIN = tl.constexpr(1.0)
HARD_NEGATIVE = tl.constexpr(2.0)
LOST = tl.constexpr(3.0)


@triton.jit
def rounded(x):
    """To the nearest whole number, halves to the even one."""
    low = tl.floor(x)
    odd = low - 2 * tl.floor(low / 2)
    up = tl.where(x - low == 0.5, odd, tl.where(x - low > 0.5, 1.0, 0.0))
    return low + up


@triton.jit
def highest(values, order, side):
    """Maximum, its row and column; ties: the smallest order = column * side + row."""
    best = tl.max(values, 0)
    index = tl.min(tl.where(values == best, order, side * side - 1), 0)
    return best, (index % side).to(tl.float32), (index // side).to(tl.float32)


@triton.jit
def clip(position, size, frame, inside_ratio):
    outside = (inside_ratio - 0.5) * size
    return tl.maximum(tl.minimum(position, frame - outside), outside)


@triton.jit
def localize_start_kernel(
    maps, geometry, noise, found, boxes, side, R, extra, lost_below, distractor_above, hard_negative_above,
    neighbourhood, displacement, inside_ratio, position_jitter, size_jitter,
    IMAGE: tl.constexpr, STRIDE: tl.constexpr, SOFTMAX: tl.constexpr, EXTRA: tl.constexpr,
    B: tl.constexpr, BR: tl.constexpr,
):  # fmt: skip
    k = tl.program_id(0)
    e = tl.arange(0, B)
    inside = e < side * side
    row, column = e // side, e % side  # [B] each, S S of them real
    s = tl.load(maps + k * side * side + e, mask=inside, other=-float("inf"))
    if SOFTMAX:
        top = tl.max(s, 0)
        normaliser = top + tl.log(tl.sum(tl.where(inside, tl.exp(s - top), 0.0), 0))
        if EXTRA:
            larger = tl.maximum(normaliser, extra)
            normaliser = larger + tl.log(1.0 + tl.exp(tl.minimum(normaliser, extra) - larger))
        s = tl.where(inside, tl.exp(s - normaliser), -float("inf"))
    broken = tl.sum(tl.where(inside & (s != s), 1, 0), 0) > 0
    order = tl.where(inside, column * side + row, side * side - 1)  # [B]
    first, peak_y, peak_x = highest(s, order, side)
    first = tl.where(broken, float("nan"), first)

    g = geometry + 9 * k
    at_y, at_x, height, width = tl.load(g), tl.load(g + 1), tl.load(g + 2), tl.load(g + 3)
    window_y, window_x, scale = tl.load(g + 4), tl.load(g + 5), tl.load(g + 6)
    frame_h, frame_w = tl.load(g + 7), tl.load(g + 8)
    cell = STRIDE * scale  # frame px
    extent_y, extent_x = neighbourhood * height / cell, neighbourhood * width / cell
    near = (row >= rounded(peak_y - extent_y / 2)) & (row < rounded(peak_y + extent_y / 2 + 1))
    near = near & (column >= rounded(peak_x - extent_x / 2)) & (column < rounded(peak_x + extent_x / 2 + 1))
    second, other_y, other_x = highest(tl.where(inside & near, 0.0, s), order, side)
    middle = (side - 1) / 2
    move_y, move_x = peak_y - middle, peak_x - middle
    other_y, other_x = other_y - middle, other_x - middle
    before_y, before_x = (at_y - window_y) / cell, (at_x - window_x) / cell
    far = displacement * side / 2
    dy, dx = move_y - before_y, move_x - before_x
    other_dy, other_dx = other_y - before_y, other_x - before_x
    distance, other_distance = tl.sqrt(dy * dy + dx * dx), tl.sqrt(other_dy * other_dy + other_dx * other_dx)

    rival = second > distractor_above * first
    first_is_it = (other_distance > far) & (distance < far)
    second_is_it = (other_distance < far) & (distance > far)
    similar = (second > hard_negative_above * first) & (second > lost_below)
    negative = (rival & (first_is_it | second_is_it)) | ((not rival) & similar)
    state = tl.where(negative, HARD_NEGATIVE, tl.where(rival, UNCERTAIN, TRACKED))
    state = tl.where(first >= lost_below, state, LOST)  # NaN compares false
    take_second = rival & second_is_it
    move_y, move_x = tl.where(take_second, other_y, move_y), tl.where(take_second, other_x, move_x)
    at_y = clip(window_y + move_y * cell, height, frame_h, inside_ratio)
    at_x = clip(window_x + move_x * cell, width, frame_w, inside_ratio)
    tl.store(found + 4 * k, at_y)
    tl.store(found + 4 * k + 1, at_x)
    tl.store(found + 4 * k + 2, state)
    tl.store(found + 4 * k + 3, first)

    half = (IMAGE - 1) / 2
    w, h = width / scale, height / scale  # in the patch
    x = (at_x - window_x) / scale + half - (w - 1) / 2
    y = (at_y - window_y) / scale + half - (h - 1) / 2
    box = boxes + k.to(tl.int64) * (R + 1) * 4
    tl.store(box, x)
    tl.store(box + 1, y)
    tl.store(box + 2, w)
    tl.store(box + 3, h)
    n = tl.arange(0, BR)
    some = n < R
    u = noise + (k.to(tl.int64) * R + n) * 4  # [BR]
    spread, smallest = tl.sqrt(w * h), tl.minimum(w, h) / 3
    by_x = position_jitter * (spread * (tl.load(u, mask=some, other=0.0) - 0.5))
    by_y = position_jitter * (spread * (tl.load(u + 1, mask=some, other=0.0) - 0.5))
    by_w = size_jitter * (spread * (tl.load(u + 2, mask=some, other=0.0) - 0.5))
    by_h = size_jitter * (spread * (tl.load(u + 3, mask=some, other=0.0) - 0.5))
    new_w, new_h = tl.maximum(w + by_w, smallest), tl.maximum(h + by_h, smallest)
    here = box + (n + 1) * 4
    tl.store(here, x + w / 2 + by_x - new_w / 2, mask=some)
    tl.store(here + 1, y + h / 2 + by_y - new_h / 2, mask=some)
    tl.store(here + 2, new_w, mask=some)
    tl.store(here + 3, new_h, mask=some)


@triton.jit
def finite(x):
    return tl.abs(x) < float("inf")


@triton.jit
def localize_outcome_kernel(
    boxes, box_scores, found, geometry, out, P, max_aspect,
    IMAGE: tl.constexpr, BEST: tl.constexpr, HALF_PIXEL: tl.constexpr, BP: tl.constexpr,
):  # fmt: skip
    k = tl.program_id(0)
    n = tl.arange(0, BP)
    some = n < P
    at = k.to(tl.int64) * P + n  # [BP]
    x, y = tl.load(boxes + 4 * at, mask=some, other=0.0), tl.load(boxes + 4 * at + 1, mask=some, other=0.0)
    w, h = (
        tl.load(boxes + 4 * at + 2, mask=some, other=1.0),
        tl.load(boxes + 4 * at + 3, mask=some, other=1.0),
    )
    score = tl.load(box_scores + at, mask=some, other=0.0)
    w, h = tl.where(w < 1, 1.0, w), tl.where(h < 1, 1.0, h)  # NaN stays
    aspect = w / h
    valid = some & (aspect < max_aspect) & (aspect > 1 / max_aspect) & finite(score)
    valid = valid & finite(x) & finite(y) & finite(w) & finite(h)
    ranked = tl.where(valid, score, -float("inf"))  # [BP]
    count = 0.0
    best_x, best_y, best_w, best_h = 0.0, 0.0, 0.0, 0.0
    for _ in tl.static_range(BEST):
        top = tl.max(ranked, 0)
        index = tl.min(tl.where(ranked == top, n, BP), 0)
        chosen = (n == index) & (ranked > -float("inf"))
        best_x += tl.sum(tl.where(chosen, x, 0.0), 0)
        best_y += tl.sum(tl.where(chosen, y, 0.0), 0)
        best_w += tl.sum(tl.where(chosen, w, 0.0), 0)
        best_h += tl.sum(tl.where(chosen, h, 0.0), 0)
        count += tl.where(top > -float("inf"), 1.0, 0.0)
        ranked = tl.where(n == index, -float("inf"), ranked)
    some_box = count > 0
    count = tl.maximum(count, 1.0)
    best_x, best_y, best_w, best_h = best_x / count, best_y / count, best_w / count, best_h / count
    centre_x, centre_y = best_x + best_w / 2, best_y + best_h / 2
    if not HALF_PIXEL:
        centre_x, centre_y = centre_x - 0.5, centre_y - 0.5
    g, half = geometry + 9 * k, (IMAGE - 1) / 2
    scale = tl.load(g + 6)
    at_y = (centre_y - half) * scale + tl.load(g + 4)
    at_x = (centre_x - half) * scale + tl.load(g + 5)
    row = out + 7 * k
    tl.store(row, tl.where(some_box, at_y, tl.load(found + 4 * k)))
    tl.store(row + 1, tl.where(some_box, at_x, tl.load(found + 4 * k + 1)))
    tl.store(row + 2, tl.where(some_box, best_h * scale, tl.load(g + 2)))
    tl.store(row + 3, tl.where(some_box, best_w * scale, tl.load(g + 3)))
    tl.store(row + 4, tl.where(some_box, 1.0, 0.0))
    tl.store(row + 5, tl.load(found + 4 * k + 2))
    tl.store(row + 6, tl.load(found + 4 * k + 3))


def start(
    scores: Tensor,
    geometry: Tensor,
    noise: Tensor,
    numbers: list[float],
    image_size: int,
    softmax: bool,
    stride: int,
    extra: float | None,
) -> tuple[Tensor, Tensor]:
    count, side, random_boxes = scores.shape[0], scores.shape[-1], noise.shape[1]
    found = torch.empty((count, 4), dtype=torch.float32, device=scores.device)
    boxes = torch.empty((count, 1 + random_boxes, 4), dtype=torch.float32, device=scores.device)
    localize_start_kernel[(count,)](
        scores.contiguous(), geometry.contiguous(), noise.contiguous(), found, boxes, side, random_boxes,
        float(extra or 0.0), *numbers,
        IMAGE=image_size, STRIDE=stride, SOFTMAX=softmax, EXTRA=extra is not None,
        B=triton.next_power_of_2(side * side), BR=triton.next_power_of_2(max(1, random_boxes)),
    )  # fmt: skip
    return found, boxes


def outcome(
    boxes: Tensor,
    scores: Tensor,
    found: Tensor,
    geometry: Tensor,
    image_size: int,
    best_boxes: int,
    max_aspect: float,
    half_pixel_offset: bool,
) -> Tensor:
    count, per_target = scores.shape
    out = torch.empty((count, 7), dtype=torch.float32, device=scores.device)
    localize_outcome_kernel[(count,)](
        boxes.contiguous(), scores.contiguous(), found.contiguous(), geometry.contiguous(), out, per_target,
        max_aspect, IMAGE=image_size, BEST=best_boxes, HALF_PIXEL=half_pixel_offset,
        BP=triton.next_power_of_2(per_target),
    )  # fmt: skip
    return out
