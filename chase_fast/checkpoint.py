"""Trained trackers as .safetensors files that say what they are: nothing else is needed to use them."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from chase_fast.errors import ChaseError, NeedsImport
from chase_fast.fields import load_object, short
from chase_fast.files import check_file, user_path
from chase_fast.nn.genotype import Genotype
from chase_fast.nn.shapes import shapes_only
from chase_fast.nn.spec import TrackerSpec
from chase_fast.nn.tracker_net import TrackerNet
from chase_fast.published import read_pytracking
from chase_fast.published.names import MARKS
from chase_fast.runs import checkpoint_file
from chase_fast.weights import check_types, is_safetensors, read_safetensors

FORMAT = 1
_KEY = "tracker"  # one metadata entry: the order of several is not fixed
_SEARCH_KEY = "search"  # that of a search's best.safetensors
MOST_CLAIMED = 2**31  # bytes of weights; one number stored for a whole tensor makes small files
_DESCRIBED = ("format", "spec", "about")
PUBLIC_MARK = MARKS[0]
_GIVE = "give the best.safetensors of a training run"


@dataclass(frozen=True)
class Checkpoint:
    """A tracker network in eval mode on the CPU, its architecture, and where it comes from.

    about: of a training run config, seed, versions, commit, data, trained_on (see data/trained_on.py), epoch,
        val_loss; of a public file source, format, epoch and net_type if it has them, and `assumed`, the
        published constants it does not hold.
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
    described = json.loads(json.dumps({"format": FORMAT, "spec": spec.to_data(), "about": about}))
    described["digest"] = digest(described, tensors)
    return save(tensors, {_KEY: json.dumps(described)})


def digest(described: Mapping[str, Any], tensors: Mapping[str, torch.Tensor]) -> str:
    """Of what a checkpoint says and of all its weights, their names, types and shapes: a flipped bit anywhere
    changes it."""
    text = json.dumps({k: described[k] for k in _DESCRIBED}, sort_keys=True)
    found = hashlib.sha256(text.encode())
    for name in sorted(tensors):
        tensor = tensors[name]
        found.update(f"{name} {tensor.dtype} {list(tensor.shape)}".encode())
        found.update(tensor.contiguous().view(-1).view(torch.uint8).numpy().data)
    return found.hexdigest()


def load_tracker(path: str | Path, cell: Genotype | None = None) -> Checkpoint:
    """Reads a trained tracker: a file that training wrote, or a public checkpoint of PrDiMP-18/50, DiMP-18/50
    or CHASE (a file of torch.save, of which nothing is executed, or a safetensors file with public names).
    A folder is that of a training run.

    Args:
        cell: of a public CHASE checkpoint whose cell is not a published one.

    Raises:
        ChaseError: no such file, damaged, no trained tracker, or its weights do not fit its description.
    """
    path = user_path(path)
    if path.is_dir():
        path = checkpoint_file(path, "checkpoint")
    origin = f"checkpoint {path}"
    check_file(path, "checkpoint")
    if own := is_safetensors(path):
        tensors, metadata = read_safetensors(path, "checkpoint")
        own = _is_own(metadata, tensors, origin)
    if own:
        if cell is not None:
            raise ChaseError(f"{origin}: describes its cell itself; leave out --cell")
        spec, state, about = _described(metadata, tensors, origin)
    else:
        spec, state, about = read_pytracking(path, cell)
    with shapes_only():  # nothing is allocated for a network that the weights do not fit
        expected = spec.build().state_dict()
    check_keys(expected, state, origin)
    claimed, size = sum(t.nbytes for t in expected.values()), path.stat().st_size
    if claimed > max(8 * size, MOST_CLAIMED):
        raise ChaseError(f"{origin}: claims {claimed >> 20} MiB of weights in a file of {size >> 20} MiB")
    check_types(expected, state, origin)
    net = spec.build()
    net.load_state_dict(net.state_dict() | state)
    return Checkpoint(net.eval(), spec, about)


def _is_own(metadata: Mapping[str, str], tensors: Mapping[str, torch.Tensor], origin: str) -> bool:
    """Whether a safetensors file is one that training wrote; False: its names may be public ones.

    Raises:
        ChaseError: it is something else that we know.
    """
    if _SEARCH_KEY in metadata:
        raise ChaseError(
            f"{origin}: is the network of a search, no trained tracker: train the cell.json "
            "beside it with python -m chase_fast.train --cell"
        )
    if _KEY in metadata:
        return True
    if any(key.startswith("layer1.") for key in tensors):
        raise ChaseError(f"{origin}: holds the weights of a backbone alone, for --backbone-weights; {_GIVE}")
    if any(key.endswith(PUBLIC_MARK) for key in tensors):
        return False
    raise ChaseError(f"{origin}: does not describe a tracker; {_GIVE}")


def _described(
    metadata: Mapping[str, str], state: dict[str, torch.Tensor], origin: str
) -> tuple[TrackerSpec, dict[str, torch.Tensor], dict[str, Any]]:
    """Architecture, state dict and origin of our file.

    Raises:
        ChaseError: it is damaged: it describes no tracker, or the digest is another. Files of older versions
            have no digest.
    """
    try:
        described = load_object(metadata[_KEY], f"{origin}: its description")
        if (wrote := described.integer("format")) != FORMAT:
            raise ChaseError(f"{origin}: format {wrote}, this version reads {FORMAT}")
        if unknown := sorted(set(described) - {*_DESCRIBED, "digest"}):
            raise ChaseError(f"{origin}: its description has an unknown field {short(unknown[0])}")
        spec, about = TrackerSpec.from_data(described.get("spec")), described.inner("about")
    except NeedsImport as e:
        raise NeedsImport(f"{origin}: {e}") from None
    except ChaseError as e:
        text = str(e) if str(e).startswith(origin) else f"{origin}: {e}"
        raise ChaseError(f"{text}: does not describe a tracker; {_GIVE}") from None
    if described.text("digest", default=None) not in (None, digest(described, state)):
        raise ChaseError(f"{origin}: is damaged: weights or description are not those that were written")
    return spec, state, dict(about)


def fit(net: torch.nn.Module, state: dict[str, torch.Tensor], origin: str) -> None:
    """Loads a state dict, all of it; raises ChaseError as `check_keys` and `check_types`."""
    own = net.state_dict()
    check_keys(own, state, origin)
    check_types(own, state, origin)
    net.load_state_dict(own | state)


def check_keys(own: Mapping[str, torch.Tensor], state: Mapping[str, torch.Tensor], origin: str) -> None:
    """Whether weights are all those of a network; counters of BatchNorm, which nothing reads, may be missing.

    Raises:
        ChaseError: keys or shapes differ; names the first of each kind.
    """
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
