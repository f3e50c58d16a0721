"""Weights by parameter name and synthetic inputs: what the golden arrays of the full nets were made with.

Every tensor has its own stream numpy.random.RandomState(crc32(name)) (frozen by NumPy), is drawn in float64
and rounded to float32, so that nets of any dtype hold equal numbers and 43 M parameters need no file.
"""

import math
import zlib
from collections.abc import Mapping

import numpy as np
import torch


def _value(name: str, shape: tuple[int, ...], default: torch.Tensor) -> np.ndarray:
    rng = np.random.RandomState(zlib.crc32(name.encode()))
    if name.endswith("running_mean"):
        return 0.1 * rng.standard_normal(shape)
    if name.endswith("running_var"):
        return rng.uniform(0.5, 1.5, shape)
    if name.endswith("log_step_length"):
        return np.full(shape, -0.1)
    if name.endswith("filter_reg"):
        return np.full(shape, 0.08)
    if name.endswith(".bias"):
        return 0.05 * rng.standard_normal(shape)
    if len(shape) == 1:  # BatchNorm
        return rng.uniform(0.1, 0.3, shape) if ".bn3." in name else rng.uniform(0.5, 1.0, shape)
    if "filter_optimizer" in name:  # radial maps: near what the constructor gives
        return default.detach().double().numpy() + 0.05 * rng.standard_normal(shape)
    if name.endswith("filter_conv.weight"):
        return 0.02 * rng.standard_normal(shape)
    return math.sqrt(2 / math.prod(shape[1:])) * rng.standard_normal(shape)


@torch.no_grad()
def fill(state: Mapping[str, torch.Tensor], prefix: str = "") -> None:
    """Overwrites the tensors of a state dict (published parameter names) with their seeded values."""
    for name, tensor in state.items():
        if not name.endswith("num_batches_tracked"):
            value = _value(prefix + name, tuple(tensor.shape), tensor)
            tensor.copy_(torch.from_numpy(value.astype(np.float32)))


def images(rng: np.random.RandomState, n: int, s: int) -> np.ndarray:
    """Smooth coloured noise, ImageNet-normalised: [n, s, 3, 288, 288], float32 values in float64."""
    coarse = np.kron(rng.rand(n, s, 3, 18, 18), np.ones((16, 16)))
    image = 0.7 * coarse + 0.3 * rng.rand(n, s, 3, 288, 288)
    mean, std = np.array([[0.485, 0.456, 0.406], [0.229, 0.224, 0.225]]).reshape(2, 3, 1, 1)
    return ((image - mean) / std).astype(np.float32).astype(np.float64)


def inputs(seed: int = 900, n: int = 3, s: int = 2, proposals: int = 16) -> dict[str, torch.Tensor]:
    """One batch of `s` sequences of `n` train and `n` test frames, float64, names as in the goldens."""
    rng = np.random.RandomState(seed)
    train_images, test_images = images(rng, n, s), images(rng, n, s)

    def boxes():
        centre, size = 144 + 40 * (rng.rand(n, s, 2) - 0.5), 40 + 50 * rng.rand(n, s, 2)
        return np.concatenate([centre - size / 2, size], -1)

    train_boxes, test_boxes = boxes(), boxes()
    component = rng.randint(0, 2, (n, s, proposals))
    offset = rng.standard_normal((n, s, proposals, 4)) * np.where(component == 0, 0.05, 0.5)[..., None]
    corner, size = test_boxes[:, :, None, :2], test_boxes[:, :, None, 2:]
    proposal_size = size * np.exp(offset[..., 2:])
    centre = corner + size / 2 + offset[..., :2] * size

    def gaussian(std):
        return (np.exp(-0.5 * (offset / std) ** 2) / (math.sqrt(2 * math.pi) * std)).prod(-1)

    cell = np.arange(19)
    row, column = (((test_boxes[..., i] + test_boxes[..., i + 2] / 2) / 16)[..., None, None] for i in (1, 0))
    label = np.exp(-((cell[:, None] - row) ** 2 + (cell - column) ** 2) / (2 * 0.9**2))
    arrays = {
        "train_images": train_images,
        "test_images": test_images,
        "train_anno": train_boxes,
        "test_anno": test_boxes,
        "test_proposals": np.concatenate([centre - proposal_size / 2, proposal_size], -1),
        "proposal_density": 0.5 * gaussian(0.05) + 0.5 * gaussian(0.5),
        "gt_density": gaussian(0.05),
        "test_label": label,
        "test_label_density": label / label.sum((-2, -1), keepdims=True),
        "proposal_iou": rng.uniform(-1, 1, (n, s, proposals)),
    }
    return {name: torch.from_numpy(value) for name, value in arrays.items()}
