"""The engines' packages, which are extras of this one."""

import importlib
from types import ModuleType

from chase_fast.errors import ChaseError

EXTRA = {
    "openvino": "openvino",
    "onnxruntime": "onnxruntime",
    "onnx": "onnx",
    "onnxscript": "onnx",
    "nncf": "int8",
}


def need(*names: str) -> list[ModuleType]:
    """The packages of these names; raises ChaseError that says how to install what is missing."""
    modules = []
    for name in names:
        try:
            modules.append(importlib.import_module(name))
        except ImportError as e:
            extra = EXTRA[name]
            raise ChaseError(
                f'the package {name} cannot be imported ({e}): pip install "chase-fast[{extra}]"'
            ) from None
    return modules
