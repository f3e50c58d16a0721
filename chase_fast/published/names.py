"""Public PrDiMP, DiMP and CHASE checkpoints: which architecture a state dict is of, and its names in ours.

A state dict does not hold the constants of the solvers: those of the published settings are taken, and
`ASSUMED` is reported. SuperDiMP has the keys of DiMP-50 and is read as such.
"""

import dataclasses
from collections.abc import Mapping

import torch
from torch import Tensor

from chase_fast.errors import ChaseError
from chase_fast.nn.genotype import MOST_CHANNELS, Genotype
from chase_fast.nn.resnet import unused_shapes
from chase_fast.nn.spec import TrackerSpec
from chase_fast.nn.tracker_net import TrackerNet, from_published, to_published
from chase_fast.published.cell_names import COUNTER, neck_names, prefix_of, recognise

ASSUMED = {"feature_size": 18, "filter_iterations": 5, "filter_size": 4}
NECK = "neck."  # prefix of a CHASE neck in files that we write
_SOLVER = "classifier.filter_optimizer."
_PLAIN = "classifier.feature_extractor."
MARKS = (  # keys that every PrDiMP, DiMP and CHASE network has
    "feature_extractor.layer1.0.conv2.weight",
    f"{_SOLVER}filter_reg",
    "bb_regressor.conv3_1r.0.weight",
)


def spec_of(state: Mapping[str, Tensor], cell: Genotype | None = None) -> TrackerSpec:
    """Architecture that the keys and shapes of a public state dict describe.

    Args:
        cell: of a CHASE network whose cell is not published.

    Raises:
        ChaseError: none that we know; says which keys it has and lacks.
    """
    missing = [key for key in MARKS if key not in state]
    prefix = prefix_of(state)
    if prefix is None and not any(key.startswith(_PLAIN) for key in state):
        missing.append(f"{_PLAIN}*")
    if missing:
        raise ChaseError(
            f"another architecture: {', '.join(missing)} missing, which PrDiMP, DiMP and CHASE have; "
            f"its {len(state)} keys begin with {', '.join(_beginnings(state))}"
        )
    kind = "dimp" if f"{_SOLVER}label_map_predictor.weight" in state else "prdimp"
    depth = 50 if "feature_extractor.layer1.0.conv3.weight" in state else 18
    spec = TrackerSpec(
        classifier=kind,
        backbone=f"resnet{depth}",
        filter_iterations=ASSUMED["filter_iterations"],
        feature_size=ASSUMED["feature_size"],
    )
    if prefix is None:
        if cell is not None:
            raise ChaseError("it has the plain block and no cell: leave out --cell")
        return spec
    cell = recognise(state, prefix) if cell is None else cell
    channels = state[f"{prefix}conv_match3.weight"].shape[0]
    if channels > MOST_CHANNELS:
        raise ChaseError(f"its cell has {channels} channels, at most {MOST_CHANNELS} can be built")
    return dataclasses.replace(spec, cell=cell, channels=channels)


def _beginnings(state: Mapping[str, Tensor]) -> list[str]:
    found = dict.fromkeys(".".join(key.split(".")[:2]) for key in state)
    return [*list(found)[:5], "..."] if len(found) > 5 else list(found)


def from_pytracking(state: Mapping[str, Tensor], spec: TrackerSpec) -> dict[str, Tensor]:
    """State dict of a network of `spec` from a public one; what does not fit keeps its name.

    The unused layer4 and fc are dropped, as are batch counters that ours has not.
    """
    if spec.cell is None:
        return from_published(state)
    prefix = prefix_of(state) or ""
    ours = {prefix + name.theirs: name for name in neck_names(spec.cell)}
    counters = {f"{key.removesuffix('weight')}{COUNTER}" for key in ours}
    neck = {NECK + name.ours: name.to_ours(state[key]) for key, name in ours.items() if key in state}
    return neck | from_published({k: v for k, v in state.items() if k not in ours and k not in counters})


def to_pytracking_state(net: TrackerNet, spec: TrackerSpec) -> dict[str, Tensor]:
    """State dict in the public names, on the CPU, complete: pytracking loads strictly, so layer4 and fc of
    the backbone, which never run, are there as zeros that take no room in a file.

    A CHASE neck gets the prefix `neck.`: where the released network has it is not known to us.

    Raises:
        ChaseError: the network has no public names (flavour darts, operations of a user).
    """
    own = {key: tensor.detach().cpu() for key, tensor in net.state_dict().items()}
    if spec.cell is None:
        state = to_published(own)
    else:
        if spec.flavour != "chase":
            raise ChaseError(f"a cell of flavour {spec.flavour} has no names in the public checkpoints")
        names = {NECK + name.ours: name for name in neck_names(spec.cell)}
        state = {}
        for key, tensor in own.items():
            if key not in names:
                state[key] = tensor
                continue
            name = names[key]
            state[NECK + name.theirs] = name.to_theirs(tensor)
            if name.theirs.endswith("running_var"):
                state[f"{NECK}{name.theirs.removesuffix('running_var')}{COUNTER}"] = torch.tensor(0)
    unused = unused_shapes(spec.backbone)
    zeros = {f"feature_extractor.{key}": torch.zeros(()).expand(shape) for key, shape in unused.items()}
    counters = {key: torch.tensor(0) for key in zeros if key.endswith(COUNTER)}
    return state | zeros | counters
