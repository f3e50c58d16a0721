"""Public checkpoints of pytracking's family (PrDiMP, DiMP, CHASE): read safely, written in their names.

Such a file is a pickled dictionary whose `net` is the state dict; what stands around it (settings,
statistics, constructor, optimiser) is objects of that code base, which are never loaded.
"""

import io
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from chase_fast.errors import ChaseError
from chase_fast.fields import load_object, short
from chase_fast.nn.genotype import Genotype
from chase_fast.nn.spec import TrackerSpec
from chase_fast.nn.tracker_net import TrackerNet
from chase_fast.published.names import ASSUMED, MARKS, from_pytracking, spec_of, to_pytracking_state
from chase_fast.unpickle import TensorRecord
from chase_fast.weights import find, open_weights, tensors_of

__all__ = ["ASSUMED", "pack_pytracking", "read_pytracking", "to_pytracking_state"]

_OWN = "chase_fast"  # entry of files that we write: architecture and origin


def read_pytracking(
    path: Path, cell: Genotype | None = None
) -> tuple[TrackerSpec, dict[str, Tensor], dict[str, Any]]:
    """A checkpoint file as architecture, state dict in our names, and what is known of it.

    What is known: source (file name), format, epoch, net_type; and `assumed`, the published constants that
    such a file does not hold. Nothing of the file is executed. The state dict may stand under any name and
    behind a prefix (see `weights`).

    Args:
        cell: of a CHASE network whose cell is not published.

    Raises:
        ChaseError: damaged, no checkpoint, or of an architecture that we do not know.
    """
    origin = f"checkpoint {path}"
    with open_weights(path, "checkpoint") as content:
        if isinstance(content, dict) and {"net", "history", "optimizer"} <= content.keys():
            raise ChaseError(f"{origin}: is the state that a run goes on from; give its best.safetensors")
        found = find(content, MARKS, origin, usual=("net",))
        state = tensors_of(_check(content, origin) if found is None else found.state)
    beside = content if isinstance(content, dict) else {}
    about: dict[str, Any] = {"source": path.name, "format": "pytracking"}
    about |= {k: beside[k] for k in ("epoch", "net_type") if isinstance(beside.get(k), int | str)}
    try:
        if cell is None and isinstance(beside.get(_OWN), str):
            spec, about = _described(beside[_OWN], about)
        else:
            spec, about = spec_of(state, cell), about | {"assumed": ASSUMED}
        return spec, from_pytracking(state, spec), about
    except ChaseError as e:
        raise ChaseError(f"{origin}: {e}") from None


def _described(text: str, about: dict[str, Any]) -> tuple[TrackerSpec, dict[str, Any]]:
    """What our own description in a public file adds to what is known."""
    try:
        own = load_object(text, "it")
        return TrackerSpec.from_data(own.get("spec")), about | {"about": dict(own.inner("about"))}
    except ChaseError as e:
        raise ChaseError(f"its entry {_OWN} is damaged ({e})") from None


def _check(content: Any, origin: str) -> dict[str, Any]:
    """The tensors of a file without a whole tracker, for the message that says what they lack.

    Raises:
        ChaseError: it holds no state dict, or one of something else that we know.
    """
    records = content.get("net", content) if isinstance(content, dict) else None
    if (
        not isinstance(records, dict)
        or not records
        or not all(type(k) is str and isinstance(v, Tensor | TensorRecord) for k, v in records.items())
    ):
        held = ", ".join(map(short, list(content)[:6])) if isinstance(content, dict) else "no dictionary"
        raise ChaseError(
            f"{origin}: holds no state dict of a network under 'net' (but {held or 'nothing'}): give a "
            "checkpoint of PrDiMP, DiMP or CHASE, or the best.safetensors of a training run"
        )
    if any(key.startswith("layer1.") for key in records):
        raise ChaseError(
            f"{origin}: holds the weights of a backbone alone; give it to a training with --backbone-weights"
        )
    return {key.removeprefix("module."): value for key, value in records.items()}


def pack_pytracking(net: TrackerNet, spec: TrackerSpec, about: Mapping[str, Any]) -> bytes:
    """Content of a checkpoint file in the public names: a dictionary with `net` (the state dict, see
    `to_pytracking_state`), `net_type`, and `chase_fast`, our description of it as JSON.

    It holds nothing but tensors and text, so `torch.load(..., weights_only=True)` takes it.

    Raises:
        ChaseError: the network has no public names.
    """
    own = json.dumps({"spec": spec.to_data(), "about": dict(about)})
    buffer = io.BytesIO()
    torch.save({"net": to_pytracking_state(net, spec), "net_type": "DiMPnet", _OWN: own}, buffer)
    return buffer.getvalue()
