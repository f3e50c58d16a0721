"""The data losses of the two solvers on a tile [frames, cells] of score maps, and their adjoints, in Triton.

Formulas: __init__.py. KL: PrDiMP, y is the label density, m and v are unused. Else DiMP: y label, m target
mask, v spatial weight. g [frames] are the sample weights; V^2 = g v^2, so g is kept apart and may be 0.
Outside a map `cells` is False and everything loaded is 0. Comparisons are written so that NaN passes.
    prepared   (q, normaliser) of KL; (v a', 0) of DiMP: what the rest needs from the scores
    residual   (r = dloss/ds, loss [frames])
    curvature  (h [frames] before the clamp of KL, mean of u under q)
"""

import triton
import triton.language as tl


@triton.jit
def sign(s):
    return tl.where(s > 0, 1.0, tl.where(s < 0, -1.0, 0.0))


@triton.jit
def slope(s, m):
    """a'(s) of DiMP."""
    return (1 - m) * 0.5 * sign(s) + (1 + m) * 0.5


@triton.jit
def prepared(s, m, v, cells, KL: tl.constexpr, HAS_EXTRA: tl.constexpr, EXTRA: tl.constexpr):
    if KL:
        s = tl.where(cells, s, -float("inf"))
        top = tl.max(s, 1)  # [frames]
        if HAS_EXTRA:
            top = tl.maximum(top, EXTRA)
        q = tl.exp(s - top[:, None])  # [frames, cells]
        total = tl.sum(q, 1)
        if HAS_EXTRA:
            total += tl.exp(EXTRA - top)
        return q / total[:, None], top + tl.log(total)
    else:
        return v * slope(s, m), tl.sum(v * 0, 1)


@triton.jit
def residual(s, q, normaliser, y, m, v, g, KL: tl.constexpr):
    if KL:
        return g[:, None] * (q - y), g * (normaliser - tl.sum(y * s, 1))
    else:
        error = v * ((1 - m) * 0.5 * tl.abs(s) + (1 + m) * 0.5 * s - y)
        return g[:, None] * q * error, g * tl.sum(error * error, 1)


@triton.jit
def curvature(q, u, KL: tl.constexpr):
    if KL:
        mean = tl.sum(q * u, 1)  # [frames]
        return tl.sum(q * u * (u - mean[:, None]), 1), mean
    else:
        return tl.sum(q * u * q * u, 1), tl.sum(q * 0, 1)


@triton.jit
def clamped(h, KL: tl.constexpr):
    """h of KL is at least 0; a sum of squares is as it is."""
    if KL:
        return tl.where(h < 0, 0.0, h)
    else:
        return h


@triton.jit
def curvature_grad(gc, s, u, q, h, mean, m, v, g, to_s, to_y, to_m, to_v, to_g, KL: tl.constexpr):
    """Adjoint of sum g h for its gradient gc: (gradient of u, and to_* with theirs added)."""
    if KL:
        passed = tl.where(h < 0, 0.0, gc * g)[:, None]  # [frames, 1]
        along = u * (u - 2 * mean[:, None])  # [frames, cells]
        to_s += passed * q * (along - tl.sum(q * along, 1)[:, None])
        to_g += gc * tl.where(h < 0, 0.0, h)
        return 2 * passed * q * (u - mean[:, None]), to_s, to_y, to_m, to_v, to_g
    else:
        factor = 2 * gc * g[:, None]
        to_tilt = factor * q * u * u
        to_m += to_tilt * v * (1 - sign(s)) * 0.5
        to_v += to_tilt * slope(s, m)
        to_g += gc * h
        return factor * q * q * u, to_s, to_y, to_m, to_v, to_g


@triton.jit
def residual_grad(gr, gl, s, q, normaliser, y, m, v, g, to_s, to_y, to_m, to_v, to_g, KL: tl.constexpr):
    """Adjoint of `residual` for gradients gr [frames, cells] of r and gl of the loss: to_* with it added."""
    if KL:
        along = tl.sum(q * gr, 1)  # [frames]
        to_s += g[:, None] * (gl * (q - y) + q * (gr - along[:, None]))
        to_y -= g[:, None] * (gl * s + gr)
        to_g += gl * (normaliser - tl.sum(y * s, 1)) + along - tl.sum(y * gr, 1)
    else:
        tilt_slope = slope(s, m)
        difference = (1 - m) * 0.5 * tl.abs(s) + (1 + m) * 0.5 * s - y
        error = v * difference  # [frames, cells]
        to_error = g[:, None] * (2 * gl * error + gr * q)
        to_tilt = g[:, None] * gr * error
        to_s += to_error * q
        to_y -= to_error * v
        to_m += (to_error * v * (s - tl.abs(s)) + to_tilt * v * (1 - sign(s))) * 0.5
        to_v += to_error * difference + to_tilt * tilt_slope
        to_g += tl.sum(gl * error * error + gr * q * error, 1)
    return to_s, to_y, to_m, to_v, to_g
