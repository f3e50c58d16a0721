"""The least time an op can take on a GPU: bytes it must move and operations it must do, over the peaks.

Counted per call, a multiplication and an addition as two operations. Every array counts once for each time
that no implementation can avoid reading or writing it in DRAM: batch statistics need a pass over a map before
it can be normalised, so such maps count twice; tables, filters and weights count once; what fits on the chip
(the score maps, the features of the unrolled solver) is not read again. An op that finds its inputs in the
L2 cache may therefore be above 100 %.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Peaks:
    """Rates that large kernels reach: bytes/s of DRAM, operations/s of float32 and of the matrix units."""

    memory: float
    fp32: float
    tf32: float
    bf16: float


# the first name that is part of the device's name counts
PEAKS = {
    "H200": Peaks(4.3e12, 67e12, 395e12, 790e12),
    "GH200": Peaks(3.6e12, 67e12, 395e12, 790e12),
    "H100 PCIe": Peaks(1.8e12, 51e12, 300e12, 600e12),
    "H100": Peaks(3.0e12, 67e12, 395e12, 790e12),
    "A100": Peaks(1.4e12, 19.5e12, 125e12, 250e12),
}


@dataclass(frozen=True)
class Work:
    """Bytes to and from DRAM; operations that only the float32 units do; those of matrix products."""

    bytes: float
    vector: float = 0.0
    matrix: float = 0.0

    def seconds(self, peaks: Peaks, dtype: torch.dtype) -> float:
        """The bound: the slowest of memory, float32 units and matrix units. Products of float32 maps are
        float32 products (TF32 does not compute the same)."""
        if dtype == torch.bfloat16:
            compute = max(self.vector / peaks.fp32, self.matrix / peaks.bf16)
        else:
            compute = (self.vector + self.matrix) / peaks.fp32
        return max(self.bytes / peaks.memory, compute)


def peaks_of(name: str) -> Peaks | None:
    """Peaks of a device by its name, None if it is not in the table."""
    found = [key for key in PEAKS if key in name]
    return PEAKS[max(found, key=len)] if found else None


def size(value: Tensor | list | tuple) -> int:
    """Bytes of a tensor or of all tensors of a list."""
    return value.numel() * value.element_size() if isinstance(value, Tensor) else sum(map(size, value))


def node_sum(i: dict) -> tuple[Work, Work]:
    branches, training = i["branches"], i["training"]
    m, n = size(branches[0]), branches[0].numel()
    normed = sum(kind != 0 for kind in i["kinds"]) if training else 0
    count = len(branches)
    forward = Work(m * (count + normed + 1), vector=n * (4 * count + 4 * normed))
    # sums over g and g yhat read every branch; the gradients of normed ones read them and g once more
    backward = Work(m * (count + 1 + normed + bool(normed) + count), vector=n * (8 * count + 6 * normed))
    return forward, backward


def mixed_op(i: dict) -> tuple[Work, Work]:
    x, ops, edges = i["x"], i["ops"], len(i["depthwise"][0]) if i["depthwise"] else 1
    m, n, c = size(x), x.numel(), x.shape[1]
    seps, dils = (sum(op.startswith(kind) for op in ops) * edges for kind in ("sep", "dil"))
    pools = sum(op.endswith("pool_3x3") for op in ops)
    maps = pools + seps + dils
    taps = edges * sum(d.shape[-1] ** 2 for d in i["depthwise"])
    vector, matrix = n * (2 * taps + 9 * pools), 2.0 * n * c * edges * len(i["depthwise"])
    weights = size(i["depthwise"]) + size(i["pointwise"])
    between = 2 if i["training"] else 0  # the map before the batch norm of a first stage: written, read
    forward = Work(m * (1 + maps + between * seps) + weights, vector, matrix)
    # a first stage reads its map for the sums and for the gradient, whose incoming one is written and read
    backward = Work(m * (2 + maps + 2 * between * seps) + 2 * weights, 2 * vector, 2 * matrix)
    return forward, backward


def sep_conv(i: dict) -> tuple[Work, Work]:
    x, (d, c), k = i["x"], i["pointwise"].shape, i["depthwise"].shape[-1]
    pixels = x.shape[0] * -(-x.shape[2] // i["stride"]) * -(-x.shape[3] // i["stride"])
    y = pixels * d * x.element_size()
    weights = size(i["depthwise"]) + size(i["pointwise"])
    vector, matrix = 2.0 * pixels * c * k * k, 2.0 * pixels * c * d
    forward = Work(size(x) + (3 if i["training"] else 1) * y + weights, vector, matrix)
    backward = Work(2 * size(x) + (4 if i["training"] else 2) * y + 2 * weights, 2 * vector, 2 * matrix)
    return forward, backward


def _correlation(features: Tensor, k: int) -> float:
    """Operations of a filter k x k on all features [n, s, C, H, W]."""
    n, s, c, h, w = features.shape
    cells = (h + (k + 1) % 2) * (w + (k + 1) % 2)
    return 2.0 * n * s * c * k * k * cells


def target_filter_apply(i: dict) -> tuple[Work, Work]:
    features, filters = i["features"], i["filters"]
    n, s, _, h, w = features.shape
    k, m = filters.shape[-1], len(filters)
    scores = m * n * s * (h + (k + 1) % 2) * (w + (k + 1) % 2) * features.element_size()
    matrix = m * _correlation(features, k)
    forward = Work(size(features) + size(filters) + scores, matrix=matrix)
    return forward, Work(2 * size(features) + 2 * size(filters) + scores, matrix=2 * matrix)


def target_filter_apply_transpose(i: dict) -> tuple[Work, Work]:
    features, residual, k = i["features"], i["residual"], i["filter_size"]
    _, s, c = features.shape[:3]
    filters = s * c * k * k * features.element_size()
    matrix = _correlation(features, k)
    forward = Work(size(features) + size(residual) + filters, matrix=matrix)
    return forward, Work(2 * size(features) + 2 * size(residual) + filters, matrix=2 * matrix)


def _solver(i: dict) -> tuple[Work, Work]:
    """Scores of the start, then a transpose and a response in every iteration."""
    features, start, iterations = i["features"], i["filter"], i["iterations"]
    matrix = (2 * iterations + 1) * _correlation(features, start.shape[-1])
    iterates = (iterations + 1) * size(start)
    forward = Work(size(features) + size(start) + iterates, matrix=matrix)
    return forward, Work(2 * size(features) + 2 * iterates + size(start), matrix=2 * matrix)


def kl_loss(i: dict) -> tuple[Work, Work]:
    scores, density = i["scores"], i["density"]
    forward = Work(size(scores) + size(density), vector=8.0 * scores.numel())
    return forward, Work(2 * (size(scores) + size(density)), vector=8.0 * scores.numel())


def prroi_pool(i: dict) -> tuple[Work, Work]:
    """As two products with the weights of the rows and of the columns, of the whole map."""
    features, rois, (rows, columns) = i["features"], i["rois"], i["output_size"]
    _, c, h, w = features.shape
    pooled = len(rois) * c * rows * columns * features.element_size()
    matrix = 2.0 * len(rois) * c * (rows * h * w + rows * columns * w)
    forward = Work(size(features) + size(rois) + pooled, matrix=matrix)
    return forward, Work(2 * size(features) + size(rois) + pooled, matrix=2 * matrix)


def keep_mask(i: dict) -> tuple[Work, Work]:
    """The mask is written; counters are integers."""
    height, width, channels = i["size"]
    forward = Work(i["edges"] * i["frames"] * len(i["seeds"]) * height * width * channels)
    return forward, Work(0)


COUNTS: dict[str, Callable[[dict], tuple[Work, Work]]] = {
    "node_sum": node_sum,
    "mixed_op": mixed_op,
    "sep_conv": sep_conv,
    "target_filter.apply": target_filter_apply,
    "target_filter.apply_transpose": target_filter_apply_transpose,
    "target_filter.solve_prdimp": _solver,
    "target_filter.solve_dimp": _solver,
    "kl_loss": kl_loss,
    "prroi_pool": prroi_pool,
    "keep_mask": keep_mask,
}


def work(name: str, inputs: dict, mode: str) -> Work | None:
    """Work of an op (OP or OP.FUNCTION) on these arguments, None if nobody has counted it.

    Args:
        mode: forward, or forward+backward.
    """
    if name not in COUNTS:
        return None
    forward, backward = COUNTS[name](inputs)
    if mode == "forward":
        return forward
    return Work(
        forward.bytes + backward.bytes, forward.vector + backward.vector, forward.matrix + backward.matrix
    )
