"""Golden arrays: numbers from the public implementations (see CONTRIBUTING.md).

The small copy under tests/data is used by default; CHASE_FAST_GOLDEN=DIR points at a full set (DIR/nas,
DIR/prdimp). What a set was made with, seeds and switches, is read from it.
"""

import ast
import functools
import json
import math
import os
from pathlib import Path

import numpy as np
import torch

DATA = Path(__file__).parent / "data"
ROOT = Path(os.environ.get("CHASE_FAST_GOLDEN", DATA))
# pytracking's words for what a tracked frame is -> ours, where they differ
STATE_OF = {"normal": "tracked", "not_found": "lost"}


@functools.cache
def load(name: str) -> dict[str, np.ndarray]:
    """All arrays of `nas/FILE` or `prdimp/FILE` (without .npz)."""
    with np.load(ROOT / f"{name}.npz") as z:
        arrays = {k: z[k] for k in z.files}
    if "index" not in arrays:
        return arrays
    unpacked = {}  # see tests/data/select.py
    for key, (dtype, offset, shape) in json.loads(str(arrays["index"])).items():
        unpacked[key] = arrays[dtype][offset : offset + math.prod(shape)].reshape(shape)
    return unpacked


def made_with(function: str) -> dict[str, int]:
    """Defaults of a function of the set's prdimp/seeded_inputs.py, which made its inputs: read, not run.

    {} if the set has no such file: it was made with our defaults.
    """
    script = ROOT / "prdimp" / "seeded_inputs.py"
    if not script.is_file():
        return {}
    (found,) = (
        node
        for node in ast.walk(ast.parse(script.read_text()))
        if isinstance(node, ast.FunctionDef) and node.name == function
    )
    names = [a.arg for a in found.args.args][-len(found.args.defaults) :]
    return {name: ast.literal_eval(value) for name, value in zip(names, found.args.defaults)}


def state_of(flag: object) -> str:
    """Our word for a flag of pytracking."""
    return STATE_OF.get(str(flag), str(flag))


def prefixes(name: str, depth: int = 1) -> list[str]:
    """Distinct leading key parts, e.g. ['odd', 'sq']: the cases present in this copy."""
    return sorted({"/".join(k.split("/")[:depth]) for k in load(name) if k.count("/") >= depth})


def sub(name: str, prefix: str) -> dict[str, torch.Tensor]:
    """Arrays under `prefix/` as tensors, the prefix cut off."""
    cut = len(prefix) + 1
    return {k[cut:]: torch.from_numpy(v) for k, v in load(name).items() if k.startswith(prefix + "/")}
