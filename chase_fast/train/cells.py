"""From the names on the command line to the architecture that is trained."""

import random
import re
from dataclasses import replace
from typing import Any

from chase_fast.cells import load_cell
from chase_fast.nn.genotype import Genotype
from chase_fast.nn.space import OPS
from chase_fast.nn.spec import TrackerSpec
from chase_fast.recipes import TrainConfig
from chase_fast.runs import stream

NODES, CHANNELS = 4, 256  # of the published cells
OTHERS = ("plain", "random", "random:K")  # names that are no cell of their own


def random_cell(seed: int, nodes: int = NODES) -> Genotype:
    """A cell drawn uniformly from what a search can derive: two sources per node, an operation on each."""
    rng = random.Random(stream(seed, "random cell"))
    return Genotype(
        tuple(
            tuple((rng.choice(OPS[1:]), source) for source in sorted(rng.sample(range(i + 2), 2)))
            for i in range(nodes)
        )
    )


def resolve_spec(config: TrainConfig) -> TrackerSpec:
    """Architecture of a configuration; reads the cell file if --cell names one.

    Raises:
        ChaseError: no such cell or file, or the file holds no valid cell.
    """
    spec = TrackerSpec(
        classifier=config.classifier,
        backbone=config.backbone,
        feature_size=config.image_size // 16,
        filter_iterations=config.filter_iterations,
    )
    if config.cell == "plain":
        return spec
    about: dict[str, Any] = {}
    if match := re.fullmatch(r"random(?::(\d+))?", config.cell):
        cell = random_cell(config.seed if match[1] is None else int(match[1]))
    else:
        cell, about = load_cell(config.cell, OTHERS)
    flavour = about.get("flavour", "chase") if config.flavour == "auto" else config.flavour
    return replace(
        spec, cell=cell, flavour=flavour, channels=config.channels or about.get("channels", CHANNELS)
    )


def spec_of_seed(config: TrainConfig, spec: TrackerSpec) -> TrackerSpec:
    """The architecture for another seed: the same, unless the cell is drawn from the seed."""
    return resolve_spec(config) if config.cell == "random" else spec
