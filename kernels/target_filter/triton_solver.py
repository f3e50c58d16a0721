"""One step of the unrolled solvers in Triton, forward and backward.

Formulas: __init__.py; the order of the backward: csrc/cpu/target_filter.cpp.
    descend     per block of channels: next iterate f, gradient G = X^T r + lambda f, its responses u = X G
    step        per tile of frames: step length, next scores s and residual r, losses
    ascend      adjoint of descend: gG = -a F + 2 gN G + X^T gu, F = F + lambda gG + ..., gr = X gG
    step_grad   adjoint of step: through residual and loss of iterate i, then through the step before it

FUSED: a program has all frames of a sequence for its block of channels, so G meets the features a second
time in the same launch (they come from L2, last frame first). Otherwise X^T r comes as parts per run of
frames, and u = X G is another launch. A step is one launch where a tile holds all frames of a sequence (CURVE
and MOVE, THROUGH and MOVE), else two, with sums per frame in between.

Contiguous arrays: filters [T + 1 or T, s, C, taps], score maps [T + 1 or T, n, s, cells], scalars of a step
[T, s]. What a launch writes it does not read again, but for `products`, behind a barrier.
"""

import triton
import triton.language as tl

from .triton_losses import clamped, curvature, curvature_grad, prepared, residual, residual_grad
from .triton_products import adjoint, folded

SMALLEST = tl.constexpr(1e-8)  # of the denominator of a step


@triton.jit
def regulariser(filter_reg, MIN_REG: tl.constexpr):
    root = tl.load(filter_reg)
    return tl.where(root * root < MIN_REG * MIN_REG, MIN_REG * MIN_REG, root * root)


@triton.jit
def filter_block(q, C, BC: tl.constexpr, BN: tl.constexpr, K: tl.constexpr):
    """(offsets [BC, BN], mask) of the channels of program_id(0) in the filter of sequence q."""
    c = tl.program_id(0) * BC + tl.arange(0, BC)
    tap = tl.arange(0, BN)
    return (q * C + c)[:, None] * (K * K) + tap[None, :], (c < C)[:, None] & (tap < K * K)[None, :]


@triton.jit
def summed_parts(parts, size, at, mask, COUNT: tl.constexpr):
    """Sum of parts [COUNT, size] at `at`, size in int64; loads of a group are in flight together."""
    GROUP: tl.constexpr = 8 if COUNT > 8 else COUNT
    total = tl.zeros(at.shape, tl.float32)
    for first in range(0, COUNT, GROUP):
        for k in tl.static_range(GROUP):
            part = first + k
            here = mask & (part < COUNT)
            total += tl.load(parts + part * size + at, mask=here, other=0.0)
    return total


@triton.jit
def respond(
    features, g, products, responses, n, s, q, C, H, W, s_frame, s_channel, s_pixel,
    K: tl.constexpr, BC: tl.constexpr, BP: tl.constexpr, BN: tl.constexpr, BM: tl.constexpr,
):  # fmt: skip
    """responses [blocks, n, s, cells] to filters g [BC, BN], a block of channels for each program_id(0).

    products [blocks, n, s, taps, pixels] passes them from the threads that compute to those that fold.
    """
    block = tl.program_id(0)
    c = block * BC + tl.arange(0, BC)
    tap = tl.arange(0, BN)
    tiles = tl.cdiv(H * W, BP)
    for t in range(n * tiles):
        back = n * tiles - 1 - t
        frame = back // tiles
        pixel = back % tiles * BP + tl.arange(0, BP)
        image = features + frame * tl.cast(s_frame, tl.int64)
        x = tl.load(
            image + c[None, :] * s_channel + pixel[:, None] * s_pixel,
            mask=(c < C)[None, :] & (pixel < H * W)[:, None],
            other=0.0,
        )
        p = tl.dot(x, g, input_precision="tf32x3")  # [BP, BN]
        to = products + ((block * n + frame) * s + q).to(tl.int64) * (K * K * H * W)
        mask = (pixel < H * W)[:, None] & (tap < K * K)[None, :]
        tl.store(to + tap[None, :] * (H * W) + pixel[:, None], p, mask=mask)
    tl.debug_barrier()
    cells = (H + (K + 1) % 2) * (W + (K + 1) % 2)
    runs = tl.cdiv(cells, BM)
    for t in range(n * runs):
        row = ((block * n + t // runs) * s + q).to(tl.int64)
        cell = t % runs * BM + tl.arange(0, BM)
        u = folded(products + row * (K * K * H * W), cell, H, W, K, BN)  # [BM]
        tl.store(responses + row * cells + cell, u, mask=cell < cells)


@triton.jit(do_not_specialize=["i"])
def target_filter_descend_kernel(
    features, residuals, parts, iterates, gradients, factors, filter_squares, squares, filter_reg,
    products, responses, i, n, s, C, H, W, s_frame, s_sequence, s_channel, s_pixel,
    FUSED: tl.constexpr, LAST: tl.constexpr, CHUNKS: tl.constexpr, MIN_REG: tl.constexpr,
    K: tl.constexpr, BC: tl.constexpr, BP: tl.constexpr, BN: tl.constexpr, BM: tl.constexpr,
):  # fmt: skip
    """Program (channels, sequence). iterates[0] is there; LAST: the last iterate, which has no gradient."""
    q = tl.program_id(1)
    at, mask = filter_block(q, C, BC, BN, K)
    size = tl.cast(s * C * (K * K), tl.int64)
    before = tl.maximum(i - 1, 0)
    moved = mask & (i > 0)
    a = tl.load(factors + before * s + q, mask=i > 0, other=0.0)
    f = tl.load(iterates + before * size + at, mask=mask, other=0.0)  # [BC, BN]
    f -= a * tl.load(gradients + before * size + at, mask=moved, other=0.0)
    tl.store(iterates + i * size + at, f, mask=moved)
    own = q * tl.num_programs(0) + tl.program_id(0)
    tl.store(filter_squares + i * s * tl.num_programs(0) + own, tl.sum(f * f))
    if not LAST:
        if FUSED:
            x0 = features + q.to(tl.int64) * s_sequence
            g = adjoint(
                x0, residuals, 0, n, tl.arange(0, BN), n, s, q, C, H, W, s_frame, s_channel, s_pixel, K * K,
                K, BC, BP, BN,
            )  # fmt: skip
        else:
            g = summed_parts(parts, size, at, mask, CHUNKS)  # [BC, BN]
        g += regulariser(filter_reg, MIN_REG) * f
        tl.store(gradients + i * size + at, g, mask=mask)
        tl.store(squares + own, tl.sum(g * g))
        if FUSED:
            respond(
                x0, g, products, responses, n, s, q, C, H, W, s_frame, s_channel, s_pixel, K, BC, BP, BN, BM
            )


@triton.jit(do_not_specialize=["i"])
def target_filter_ascend_kernel(
    features, maps, parts, iterates, gradients, adjoints, factor_filters, grad_iterates, grad_losses,
    factors, to_squares, filter_reg, reg_parts, squares, dots, products, responses,
    i, n, s, C, H, W, s_frame, s_sequence, s_channel, s_pixel,
    FUSED: tl.constexpr, LAST: tl.constexpr, CHUNKS: tl.constexpr, MIN_REG: tl.constexpr,
    K: tl.constexpr, BC: tl.constexpr, BP: tl.constexpr, BN: tl.constexpr, BM: tl.constexpr,
):  # fmt: skip
    """Program (channels, sequence). maps: gu of step i. LAST: the last iterate, behind which is no step."""
    q = tl.program_id(1)
    at, mask = filter_block(q, C, BC, BN, K)
    size = tl.cast(s * C * (K * K), tl.int64)
    own = q * tl.num_programs(0) + tl.program_id(0)
    reg = regulariser(filter_reg, MIN_REG)
    f = tl.load(iterates + i * size + at, mask=mask, other=0.0)  # [BC, BN]
    gl = tl.load(grad_losses + i) / s
    to_f = tl.load(grad_iterates + i * size + at, mask=mask, other=0.0) + 2 * gl * reg * f
    to_reg = gl * tl.sum(f * f)
    if not LAST:
        if FUSED:
            x0 = features + q.to(tl.int64) * s_sequence
            g = adjoint(
                x0, maps, 0, n, tl.arange(0, BN), n, s, q, C, H, W, s_frame, s_channel, s_pixel, K * K,
                K, BC, BP, BN,
            )  # fmt: skip
        else:
            g = summed_parts(parts, size, at, mask, CHUNKS)  # [BC, BN]
        after = tl.load(adjoints + (i + 1) * size + at, mask=mask, other=0.0)  # [BC, BN]
        g -= tl.load(factors + i * s + q) * after
        g += 2 * tl.load(to_squares + i * s + q) * tl.load(gradients + i * size + at, mask=mask, other=0.0)
        tl.store(factor_filters + i * size + at, g, mask=mask)
        to_f += after + reg * g
        to_reg += tl.sum(g * f)
    tl.store(adjoints + i * size + at, to_f, mask=mask)
    tl.store(reg_parts + i * s * tl.num_programs(0) + own, to_reg)
    before = tl.load(gradients + tl.maximum(i - 1, 0) * size + at, mask=mask & (i > 0), other=0.0)
    tl.store(squares + own, tl.sum(before * before))
    tl.store(dots + own, tl.sum(before * to_f))
    if not LAST and FUSED:
        respond(x0, g, products, responses, n, s, q, C, H, W, s_frame, s_channel, s_pixel, K, BC, BP, BN, BM)


@triton.jit
def frame_tile(n, s, cells, NB: tl.constexpr, CELLS: tl.constexpr):
    """(images [NB], real images, offsets [NB, CELLS], mask, real cells) of program (frames, sequence)."""
    frame = tl.program_id(0) * NB + tl.arange(0, NB)
    image = frame * s + tl.program_id(1)
    cell = tl.arange(0, CELLS)
    inside = (cell < cells)[None, :]
    real = frame < n
    return image, real, image[:, None] * cells + cell[None, :], real[:, None] & inside, inside


@triton.jit
def target_maps(y, m, v, at, mask, KL: tl.constexpr):
    y_tile = tl.load(y + at, mask=mask, other=0.0)
    if KL:
        return y_tile, y_tile, y_tile
    else:
        return y_tile, tl.load(m + at, mask=mask, other=0.0), tl.load(v + at, mask=mask, other=0.0)


@triton.jit
def sequence_sum(values, n, s, FRAMES: tl.constexpr):
    """Sum over the frames of values [n, s] of this program's sequence."""
    frame = tl.arange(0, FRAMES)
    return tl.sum(tl.load(values + frame * s + tl.program_id(1), mask=frame < n, other=0.0))


@triton.jit
def block_sum(values, blocks, BLOCKS: tl.constexpr):
    """Sum of values [s, blocks] of this program's sequence."""
    block = tl.arange(0, BLOCKS)
    return tl.sum(tl.load(values + tl.program_id(1) * blocks + block, mask=block < blocks, other=0.0))


@triton.jit
def step_length(squared, curved, log_step, filter_reg, MIN_REG: tl.constexpr, ALPHA_EPS: tl.constexpr):
    """(a, eta, damping, D before its clamp, D)."""
    eta = tl.exp(tl.load(log_step))
    damping = regulariser(filter_reg, MIN_REG) + ALPHA_EPS
    free = curved + damping * squared
    bottom = tl.where(free < SMALLEST, SMALLEST, free)
    return eta * squared / bottom, eta, damping, free, bottom


@triton.jit(do_not_specialize=["i"])
def target_filter_step_kernel(
    parts, scores, responses, residuals, y, m, v, weight, log_step, filter_reg,
    squares, curvatures, losses, factors, i, n, s, cells, blocks,
    START: tl.constexpr, CURVE: tl.constexpr, MOVE: tl.constexpr, PARTS: tl.constexpr,
    KL: tl.constexpr, HAS_EXTRA: tl.constexpr, EXTRA: tl.constexpr,
    MIN_REG: tl.constexpr, ALPHA_EPS: tl.constexpr,
    NB: tl.constexpr, CELLS: tl.constexpr, FRAMES: tl.constexpr, BLOCKS: tl.constexpr,
):  # fmt: skip
    """Step i from scores[i] to scores[i + 1]. START: i = -1, `parts` are the scores of the start."""
    image, real, at, mask, inside = frame_tile(n, s, cells, NB, CELLS)
    size = tl.cast(n * s * cells, tl.int64)
    maps = target_maps(y, m, v, at, mask, KL)  # three [NB, CELLS]
    g = tl.load(weight + image, mask=real, other=0.0)  # [NB]
    if START:
        found = summed_parts(parts, size, at, mask, PARTS)  # [NB, CELLS]
    else:
        old = tl.load(scores + i * size + at, mask=mask, other=0.0)  # [NB, CELLS]
    if CURVE:
        u = summed_parts(parts, size, at, mask, PARTS)
        tl.store(responses + i * size + at, u, mask=mask)
        q, _ = prepared(old, maps[1], maps[2], inside, KL, HAS_EXTRA, EXTRA)
        h, _ = curvature(q, u, KL)  # [NB]
        curved = g * clamped(h, KL)
        if not MOVE:
            tl.store(curvatures + image, curved, mask=real)
    if MOVE:
        if CURVE:
            total = tl.sum(curved)
        else:
            u = tl.load(responses + i * size + at, mask=mask, other=0.0)
            total = sequence_sum(curvatures, n, s, FRAMES)
        squared = block_sum(squares, blocks, BLOCKS)
        a, _, _, _, _ = step_length(squared, total, log_step, filter_reg, MIN_REG, ALPHA_EPS)
        if tl.program_id(0) == 0:
            tl.store(factors + i * s + tl.program_id(1), a)
        found = old - a * u
    if START or MOVE:
        tl.store(scores + (i + 1) * size + at, found, mask=mask)
        q, normaliser = prepared(found, maps[1], maps[2], inside, KL, HAS_EXTRA, EXTRA)
        r, loss = residual(found, q, normaliser, maps[0], maps[1], maps[2], g, KL)
        tl.store(residuals + at, r, mask=mask)
        tl.store(losses + (i + 1) * n * s + image, loss, mask=real)


@triton.jit(do_not_specialize=["i", "T"])
def target_filter_step_grad_kernel(
    parts, scores, responses, y, m, v, weight, log_step, filter_reg, squares, dots, grad_losses,
    through, adjoints, frame_sums, maps_in, maps_out, weight_in, weight_out, factor_maps,
    factors, to_squares, step_log, step_reg,
    i, T, n, s, cells, blocks,
    THROUGH: tl.constexpr, MOVE: tl.constexpr, LAST: tl.constexpr, PARTS: tl.constexpr,
    KL: tl.constexpr, HAS_EXTRA: tl.constexpr, EXTRA: tl.constexpr,
    MIN_REG: tl.constexpr, ALPHA_EPS: tl.constexpr,
    NB: tl.constexpr, CELLS: tl.constexpr, FRAMES: tl.constexpr, BLOCKS: tl.constexpr,
):  # fmt: skip
    """Through iterate i (residual and loss) and, for i > 0, through step i - 1.

    through [n, s, cells]: adjoint of scores[i] between the two launches, and at i = 0 the result.
    adjoints [T, ...]: adjoint of scores[i] from the steps behind. factor_maps [2 T, ...]: gu, r of the steps.
    """
    image, real, at, mask, inside = frame_tile(n, s, cells, NB, CELLS)
    size = tl.cast(n * s * cells, tl.int64)
    maps = target_maps(y, m, v, at, mask, KL)  # three [NB, CELLS]
    g = tl.load(weight + image, mask=real, other=0.0)  # [NB]
    to_y = tl.zeros((NB, CELLS), tl.float32)
    to_m = to_y
    to_v = to_y
    to_g = tl.zeros((NB,), tl.float32)
    if not (LAST and THROUGH):
        to_y = tl.load(maps_in + at, mask=mask, other=0.0)
        if not KL:
            to_m = tl.load(maps_in + size + at, mask=mask, other=0.0)
            to_v = tl.load(maps_in + 2 * size + at, mask=mask, other=0.0)
        to_g = tl.load(weight_in + image, mask=real, other=0.0)
    if THROUGH:
        to_s = tl.zeros((NB, CELLS), tl.float32)
        gr = to_s
        if not LAST:
            to_s = tl.load(adjoints + i * size + at, mask=mask, other=0.0)
            gr = summed_parts(parts, size, at, mask, PARTS)
        gl = tl.load(grad_losses + i) / s
        now = tl.load(scores + i * size + at, mask=mask, other=0.0)
        q, normaliser = prepared(now, maps[1], maps[2], inside, KL, HAS_EXTRA, EXTRA)
        to_s, to_y, to_m, to_v, to_g = residual_grad(
            gr, gl, now, q, normaliser, maps[0], maps[1], maps[2], g, to_s, to_y, to_m, to_v, to_g, KL
        )
    else:
        to_s = tl.load(through + at, mask=mask, other=0.0)
    # behind iterate 0 is the start: the arrays of step i - 1 are not read there
    step = tl.maximum(i - 1, 0)
    moves = mask & (i > 0)
    old = tl.load(scores + step * size + at, mask=moves, other=0.0)
    u = tl.load(responses + step * size + at, mask=moves, other=0.0)
    q, normaliser = prepared(old, maps[1], maps[2], inside, KL, HAS_EXTRA, EXTRA)
    h, mean = curvature(q, u, KL)  # [NB] each
    if THROUGH:
        curved = g * clamped(h, KL)
        along = tl.sum(to_s * u, 1)  # [NB]
        if not MOVE:
            tl.store(through + at, to_s, mask=mask)
            tl.store(frame_sums + image, curved, mask=real)
            tl.store(frame_sums + n * s + image, along, mask=real)
    if MOVE:
        if THROUGH:
            total = tl.sum(curved)
            total_along = tl.sum(along)
        else:
            total = sequence_sum(frame_sums, n, s, FRAMES)
            total_along = sequence_sum(frame_sums + n * s, n, s, FRAMES)
        squared = block_sum(squares, blocks, BLOCKS)
        a, eta, damping, free, bottom = step_length(squared, total, log_step, filter_reg, MIN_REG, ALPHA_EPS)
        to_factor = -block_sum(dots, blocks, BLOCKS) - total_along
        to_bottom = tl.where(free < SMALLEST, 0.0, -to_factor * a / bottom)
        if tl.program_id(0) == 0:
            own = step * s + tl.program_id(1)
            tl.store(factors + own, a)
            tl.store(to_squares + own, to_factor * eta / bottom + to_bottom * damping)
            tl.store(step_log + own, to_factor * a)
            tl.store(step_reg + own, to_bottom * squared)
        to_u = -a * to_s
        more, to_s, to_y, to_m, to_v, to_g = curvature_grad(
            to_bottom, old, u, q, h, mean, maps[1], maps[2], g, to_s, to_y, to_m, to_v, to_g, KL
        )
        tl.store(factor_maps + step * size + at, to_u + more, mask=mask)
        r, _ = residual(old, q, normaliser, maps[0], maps[1], maps[2], g, KL)
        tl.store(factor_maps + (T + step) * size + at, r, mask=mask)
        tl.store(adjoints + step * size + at, to_s, mask=mask)
    tl.store(maps_out + at, to_y, mask=mask)
    if not KL:
        tl.store(maps_out + size + at, to_m, mask=mask)
        tl.store(maps_out + 2 * size + at, to_v, mask=mask)
    tl.store(weight_out + image, to_g, mask=real)


@triton.jit
def total(values, size, BLOCK: tl.constexpr):
    lanes = tl.zeros((BLOCK,), tl.float32)
    for first in range(0, size, BLOCK):
        at = first + tl.arange(0, BLOCK)
        lanes += tl.load(values + at, mask=at < size, other=0.0)
    return tl.sum(lanes)


@triton.jit
def target_filter_losses_kernel(
    data_losses,
    filter_squares,
    filter_reg,
    losses,
    images,
    blocks,
    s,
    MIN_REG: tl.constexpr,
    BLOCK: tl.constexpr,
):
    """losses [T + 1] from data_losses [T + 1, images] and filter_squares [T + 1, blocks]."""
    i = tl.program_id(0)
    data = total(data_losses + i * images, images, BLOCK)
    squares = total(filter_squares + i * blocks, blocks, BLOCK)
    tl.store(losses + i, (data + regulariser(filter_reg, MIN_REG) * squares) / s)


@triton.jit
def target_filter_scalars_grad_kernel(
    step_log,
    step_reg,
    reg_parts,
    filter_reg,
    to_log,
    to_reg,
    steps,
    parts,
    MIN_REG: tl.constexpr,
    BLOCK: tl.constexpr,
):
    """Gradients of log_step_length and filter_reg from step_log, step_reg [steps] and reg_parts [parts]."""
    tl.store(to_log, total(step_log, steps, BLOCK))
    root = tl.load(filter_reg)
    found = 2 * root * (total(step_reg, steps, BLOCK) + total(reg_parts, parts, BLOCK))
    tl.store(to_reg, tl.where(root * root < MIN_REG * MIN_REG, 0.0, found))
