"""Files as pytracking writes them: a state dict among objects of classes that exist nowhere else."""

import sys
import types
from collections import OrderedDict
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch

_CLASSES = {
    "ltr.admin.settings": ("Settings",),
    "ltr.admin.local": ("EnvironmentSettings",),
    "ltr.admin.stats": ("AverageMeter", "StatValue"),
    "ltr.admin.model_constructor": ("NetConstructor",),
    "dlframework.common.utils": ("Settings",),
    "ltr.models.tracking.dimpnet": ("DiMPnet",),
}


@contextmanager
def foreign_modules() -> Iterator[dict[tuple[str, str], type]]:
    """Makes the classes importable, which pickling asks for; afterwards they are gone."""
    classes = {}
    names = {".".join(m.split(".")[:i]) for m in _CLASSES for i in range(1, m.count(".") + 2)}
    modules = {name: types.ModuleType(name) for name in names}
    for module, members in _CLASSES.items():
        for member in members:
            classes[module, member] = type(member, (), {"__module__": module})
            setattr(modules[module], member, classes[module, member])
    sys.modules.update(modules)
    try:
        yield classes
    finally:
        for name in modules:
            del sys.modules[name]


def save(path: Path, state: Mapping[str, torch.Tensor], legacy: bool = False, **more: Any) -> Path:
    """A checkpoint file with `state` as its `net`; `legacy` takes the format before torch 1.6."""
    net = OrderedDict(state)
    net._metadata = OrderedDict({"": {"version": 1}})  # as nn.Module.state_dict() has it
    with foreign_modules() as classes:

        def instance(module: str, name: str, **attributes: Any) -> Any:
            thing = classes[module, name]()
            thing.__dict__.update(attributes)
            return thing

        settings = instance(
            "ltr.admin.settings",
            "Settings",
            env=instance("ltr.admin.local", "EnvironmentSettings", workspace_dir="/home/user/ltr"),
            old=instance("dlframework.common.utils", "Settings", description="Default"),
            device=torch.device("cpu"),
            normalize_mean=np.array([0.485, 0.456, 0.406]),
            print_stats=["Loss/total", "Loss/bb_ce"],
        )
        meter = instance("ltr.admin.stats", "AverageMeter", avg=np.float64(0.5), history=[0.5, float("nan")])
        constructor = instance(
            "ltr.admin.model_constructor",
            "NetConstructor",
            fun_name="dimpnet50",
            fun=classes["ltr.models.tracking.dimpnet", "DiMPnet"],
            args=(),
            kwds={"filter_size": 4, "init_gauss_sigma": np.float32(0.9), "loss": torch.nn.MSELoss()},
        )
        content = {
            "epoch": 50,
            "actor_type": "KLDiMPActor",
            "net_type": "DiMPnet",
            "net": net,
            "net_info": None,
            "constructor": constructor,
            "optimizer": {
                "state": {0: {"step": 3, "exp_avg": torch.ones(3)}},
                "param_groups": [{"lr": 0.001}],
            },
            "stats": OrderedDict({"train": OrderedDict({"Loss/total": meter}), "val": None}),
            "settings": settings,
            **more,
        }
        torch.save(content, path, _use_new_zipfile_serialization=not legacy)
    return path
