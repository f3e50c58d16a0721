"""The ops of chase_fast, for networks of your own: one folder per op, `reference.py` beside all backends.

    from chase_fast.kernels import prroi_pool, solve_prdimp

    pooled = prroi_pool(features, rois, (7, 7), scale=1 / 16)  # differentiable to features and boxes
    iterates, losses = solve_prdimp(features, start, density, log_step_length, filter_reg)

An op takes torch tensors, is differentiable where its page says so, and chooses the fastest backend that can
run here; `backend=` and the environment variable CHASE_FAST_BACKEND choose another.
Open `OP/__init__.py` first: contract, fake, autograd and dispatch of that op are there. Its package can be
called: `kernels.prroi_pool(...)` is `kernels.prroi_pool.prroi_pool(...)`.
Modules made of them: `chase_fast.nn`.
"""

from typing import TYPE_CHECKING

from chase_fast.lazy import front_door

if TYPE_CHECKING:
    from . import target_filter
    from .box_ascent import box_ascent
    from .conv3x3 import conv3x3
    from .conv_epilogue import conv_epilogue
    from .crop import crop
    from .crop_windows import crop_windows
    from .keep_mask import keep_mask
    from .kl_loss import kl_loss, label_density
    from .mixed_op import mixed_op
    from .node_sum import node_sum
    from .pooled_linear import PooledLinear
    from .prroi_pool import prroi_pool
    from .sep_conv import sep_conv
    from .skip_drop import skip_drop
    from .target_filter import solve_dimp, solve_prdimp

__all__ = [
    "PooledLinear",
    "box_ascent",
    "conv3x3",
    "conv_epilogue",
    "crop",
    "crop_windows",
    "keep_mask",
    "kl_loss",
    "label_density",
    "mixed_op",
    "node_sum",
    "prroi_pool",
    "sep_conv",
    "skip_drop",
    "solve_dimp",
    "solve_prdimp",
    "target_filter",
]
_HOMES = {
    "PooledLinear": "pooled_linear",
    "label_density": "kl_loss",
    "solve_dimp": "target_filter",
    "solve_prdimp": "target_filter",
}
_OPS = tuple(name for name in __all__ if name not in _HOMES)
front_door(__name__, {name: f"{__name__}.{home}" for name, home in _HOMES.items()}, packages=_OPS)
