"""Trained trackers as .safetensors files that say what they are: nothing else is needed to use them."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from chase_fast.errors import ChaseError
from chase_fast.nn.genotype import Genotype
from chase_fast.nn.tracker_net import TrackerNet, TrackerSpec
from chase_fast.published import read_pytracking

FORMAT = 1
_KEY = "tracker"  # one metadata entry: the order of several is not fixed
_SEARCH_KEY = "search"  # that of a search's best.safetensors
_GIVE = "give the best.safetensors of a training run"


@dataclass(frozen=True)
class Checkpoint:
    """A tracker network in eval mode on the CPU, its architecture, and where it comes from.

    about: of a training run config, seed, versions, commit, data, epoch, val_loss; of a public file source,
        format, epoch and net_type if it has them, and `assumed`, the published constants it does not hold.
    """

    net: TrackerNet
    spec: TrackerSpec
    about: dict[str, Any]

    @property
    def public(self) -> bool:
        """Whether the weights are those of a public file (of PrDiMP, DiMP or CHASE), converted or not; it is
        tracked in the published form. A network trained here is none, also in a file with public key names.
        """
        about = self.about
        while isinstance(about.get("about"), dict):  # of a file that was converted to public key names
            about = about["about"]
        return "assumed" in about


def pack_tracker(net: TrackerNet, spec: TrackerSpec, about: dict[str, Any]) -> bytes:
    """Content of a checkpoint file."""
    from safetensors.torch import save

    tensors = {name: t.detach().cpu().contiguous() for name, t in net.state_dict().items()}
    return save(tensors, {_KEY: json.dumps({"format": FORMAT, "spec": spec.to_data(), "about": about})})


def load_tracker(path: str | Path, cell: Genotype | None = None) -> Checkpoint:
    """Reads a trained tracker: a .safetensors file that training wrote, or, with any other ending, a public
    checkpoint of PrDiMP-18/50, DiMP-18/50 or CHASE (.pth, .pth.tar), of which nothing is executed.

    Args:
        cell: of a public CHASE checkpoint whose cell is not a published one.

    Raises:
        ChaseError: no such file, damaged, no trained tracker, or its weights do not fit its description.
    """
    path = Path(path)
    if path.is_dir():
        raise ChaseError(f"checkpoint {path}: is a folder; {_GIVE}")
    if not path.is_file():
        raise ChaseError(f"checkpoint {path}: no such file")
    if path.suffix == ".safetensors":
        if cell is not None:
            raise ChaseError(f"checkpoint {path}: describes its cell itself; leave out --cell")
        spec, state, about = _read(path)
    else:
        spec, state, about = read_pytracking(path, cell)
    net = spec.build()
    fit(net, state, f"checkpoint {path}")
    return Checkpoint(net.eval(), spec, about)


def _read(path: Path) -> tuple[TrackerSpec, dict[str, torch.Tensor], dict[str, Any]]:
    """Architecture, state dict and origin of a .safetensors file.

    Raises:
        ChaseError: damaged, or no trained tracker.
    """
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, "pt") as f:
            metadata = f.metadata() or {}
            state = {name: f.get_tensor(name) for name in f.keys()}  # noqa: SIM118
    except (SafetensorError, OSError) as e:
        reason = str(e).splitlines()[0]
        raise ChaseError(f"checkpoint {path}: cannot be read ({reason}): damaged or incomplete") from None
    if _SEARCH_KEY in metadata:
        raise ChaseError(
            f"checkpoint {path}: is the network of a search, no trained tracker: train the cell.json "
            "beside it with python -m chase_fast.train --cell"
        )
    if _KEY not in metadata and any(key.startswith("layer1.") for key in state):
        raise ChaseError(
            f"checkpoint {path}: holds the weights of a backbone alone, for --backbone-weights; {_GIVE}"
        )
    try:
        about = json.loads(metadata[_KEY])
        if about["format"] != FORMAT:
            raise ChaseError(f"checkpoint {path}: format {about['format']}, this version reads {FORMAT}")
        return TrackerSpec.from_data(about["spec"]), state, about["about"]
    except (KeyError, ValueError, TypeError):
        raise ChaseError(f"checkpoint {path}: does not describe a tracker; {_GIVE}") from None


def fit(net: torch.nn.Module, state: dict[str, torch.Tensor], origin: str) -> None:
    """Loads a state dict, all of it; counters of BatchNorm, which nothing reads, may be missing.

    Raises:
        ChaseError: keys or shapes differ; names the first of each kind. Or a number is not finite.
    """
    own = net.state_dict()
    missing = [k for k in own if k not in state and not k.endswith("num_batches_tracked")]
    unexpected = [k for k in state if k not in own]
    wrong = [k for k in own if k in state and state[k].shape != own[k].shape]
    found = [
        f"{len(keys)} {problem} (e.g. {keys[0]})"
        for problem, keys in (("missing", missing), ("unexpected", unexpected), ("of another shape", wrong))
        if keys
    ]
    if found:
        raise ChaseError(f"{origin}: another architecture: keys {', '.join(found)}")
    if bad := [k for k, v in state.items() if v.is_floating_point() and not v.isfinite().all()]:
        raise ChaseError(f"{origin}: {bad[0]} holds NaN or infinity, the file is damaged")
    net.load_state_dict(own | state)
