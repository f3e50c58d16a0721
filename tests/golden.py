"""Golden arrays: numbers from the public implementations (see CONTRIBUTING.md).

The small copy under tests/data is used by default; CHASE_FAST_GOLDEN=DIR points at the full set (DIR/nas,
DIR/prdimp).
"""

import functools
import json
import math
import os
from pathlib import Path

import numpy as np
import torch

DATA = Path(__file__).parent / "data"


@functools.cache
def load(name: str) -> dict[str, np.ndarray]:
    """All arrays of `nas/FILE` or `prdimp/FILE` (without .npz)."""
    root = Path(os.environ.get("CHASE_FAST_GOLDEN", DATA))
    with np.load(root / f"{name}.npz") as z:
        arrays = {k: z[k] for k in z.files}
    if "index" not in arrays:
        return arrays
    unpacked = {}  # see tests/data/select.py
    for key, (dtype, offset, shape) in json.loads(str(arrays["index"])).items():
        unpacked[key] = arrays[dtype][offset : offset + math.prod(shape)].reshape(shape)
    return unpacked


def prefixes(name: str, depth: int = 1) -> list[str]:
    """Distinct leading key parts, e.g. ['odd', 'sq']: the cases present in this copy."""
    return sorted({"/".join(k.split("/")[:depth]) for k in load(name) if k.count("/") >= depth})


def sub(name: str, prefix: str) -> dict[str, torch.Tensor]:
    """Arrays under `prefix/` as tensors, the prefix cut off."""
    cut = len(prefix) + 1
    return {k[cut:]: torch.from_numpy(v) for k, v in load(name).items() if k.startswith(prefix + "/")}
