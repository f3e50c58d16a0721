"""Trained trackers as .safetensors files that say what they are: nothing else is needed to use them."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from chase_fast.errors import ChaseError
from chase_fast.nn.tracker_net import TrackerNet, TrackerSpec

FORMAT = 1
_KEY = "tracker"  # one metadata entry: the order of several is not fixed


@dataclass(frozen=True)
class Checkpoint:
    """A tracker network in eval mode on the CPU, its architecture, and where it comes from (config, seed,
    versions, commit, data, epoch, val_loss)."""

    net: TrackerNet
    spec: TrackerSpec
    about: dict[str, Any]


def pack_tracker(net: TrackerNet, spec: TrackerSpec, about: dict[str, Any]) -> bytes:
    """Content of a checkpoint file."""
    from safetensors.torch import save

    tensors = {name: t.detach().cpu().contiguous() for name, t in net.state_dict().items()}
    return save(tensors, {_KEY: json.dumps({"format": FORMAT, "spec": spec.to_data(), "about": about})})


def load_tracker(path: str | Path) -> Checkpoint:
    """Reads a checkpoint that training wrote.

    Raises:
        ChaseError: no such file, not a checkpoint of a tracker, or its weights do not fit its description.
    """
    from safetensors import SafetensorError, safe_open

    path = Path(path)
    if not path.is_file():
        raise ChaseError(f"checkpoint {path}: no such file")
    try:
        with safe_open(path, "pt") as f:
            metadata = f.metadata() or {}
            state = {name: f.get_tensor(name) for name in f.keys()}  # noqa: SIM118
    except (SafetensorError, OSError) as e:
        raise ChaseError(f"checkpoint {path}: cannot be read ({str(e).splitlines()[0]})") from None
    try:
        about = json.loads(metadata[_KEY])
        if about["format"] != FORMAT:
            raise ChaseError(f"checkpoint {path}: format {about['format']}, this version reads {FORMAT}")
        spec = TrackerSpec.from_data(about["spec"])
    except (KeyError, ValueError, TypeError):
        raise ChaseError(
            f"checkpoint {path}: does not describe a tracker; give the best.safetensors of a training run"
        ) from None
    net = spec.build()
    fit(net, state, f"checkpoint {path}")
    return Checkpoint(net.eval(), spec, about["about"])


def fit(net: torch.nn.Module, state: dict[str, torch.Tensor], origin: str) -> None:
    """Loads a state dict, all of it.

    Raises:
        ChaseError: keys or shapes differ; names the first of each kind.
    """
    own = net.state_dict()
    missing = [k for k in own if k not in state]
    unexpected = [k for k in state if k not in own]
    wrong = [k for k in own if k in state and state[k].shape != own[k].shape]
    found = [
        f"{len(keys)} {problem} (e.g. {keys[0]})"
        for problem, keys in (("missing", missing), ("unexpected", unexpected), ("of another shape", wrong))
        if keys
    ]
    if found:
        raise ChaseError(f"{origin}: another architecture: keys {', '.join(found)}")
    net.load_state_dict(state)
