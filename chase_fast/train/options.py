"""The command line of the training."""

import dataclasses
from collections.abc import Mapping
from typing import Any

from chase_fast.errors import ChaseError
from chase_fast.fields import Fields
from chase_fast.nn.spec import TrackerSpec
from chase_fast.recipes import TRAIN, TrainConfig, train_recipe
from chase_fast.runs.folder import BEST
from chase_fast.runs.job import Command, Options
from chase_fast.train import RESULT
from chase_fast.train.cells import resolve_spec, spec_of_seed

_TWO = "--train got10k:/data/GOT-10k:train --val got10k:/data/GOT-10k:val"


@dataclasses.dataclass(frozen=True)
class Arguments:
    config: TrainConfig
    options: Options


class TrainCommand(Command):
    """See `Command`."""

    name, arguments, recipes, recipe = "train", Arguments, TRAIN, staticmethod(train_recipe)
    about = "Train a tracker; the result is best.safetensors, described by result.json."
    examples = (
        "python -m chase_fast.train",
        f"python -m chase_fast.train small {_TWO} --cell runs/demo/cell.json",
        "python -m chase_fast.train small --train folder:/data/mine:0-80% --val folder:/data/mine:80-100%",
        f"python -m chase_fast.train chase_prdimp {_TWO} --precision bf16 --seeds 0 1 2",
        "python -m chase_fast.train --out runs/mine --resume",
        f"torchrun --nproc_per_node 2 -m chase_fast.train prdimp50 {_TWO}",
    )
    roles, weights = ("train", "val"), {**Command.weights, "init": "checkpoint"}
    result, loss, made = RESULT, ("val_loss", "validation loss"), ("network", BEST)

    def extra(self, config: TrainConfig, parent: Mapping[str, Any] | None = None) -> dict[str, Any]:
        """The architecture: a resumed run does not read its cell file again."""
        if parent is None:
            return {"spec": resolve_spec(config).to_data()}
        return {"spec": spec_of_seed(config, TrackerSpec.from_data(parent["spec"])).to_data()}

    def check_extra(self, about: Fields, config: TrainConfig) -> None:
        check_spec(TrackerSpec.from_data(about.get("spec")), config)

    def loop(self, *arguments: Any) -> Any:
        from chase_fast.train.loop import Training

        return Training(*arguments)


def check_spec(spec: TrackerSpec, config: TrainConfig) -> None:
    """Raises ChaseError if an architecture is not that of the flags it was made from."""
    pairs: dict[str, object] = {
        "classifier": config.classifier,
        "backbone": config.backbone,
        "feature_size": config.image_size // 16,
        "filter_iterations": config.filter_iterations,
    }
    pairs |= {"channels": config.channels} if spec.cell is not None and config.channels else {}
    pairs |= {"flavour": config.flavour} if spec.cell is not None and config.flavour != "auto" else {}
    if (spec.cell is None) != (config.cell == "plain"):
        raise ChaseError(f"its spec and its flag cell {config.cell} do not agree")
    for name, value in pairs.items():
        if getattr(spec, name) != value:
            raise ChaseError(f"its spec has {name} {getattr(spec, name)!r}, its flags say {value!r}")
