"""Which engine runs a network, and a network made ready for it."""

import importlib.util

from chase_fast.engines import ENGINES
from chase_fast.engines.onnx_engine import OnnxRuntime
from chase_fast.engines.openvino_engine import OpenVINO
from chase_fast.engines.outputs import Engine
from chase_fast.engines.program import to_onnx, to_openvino, to_program
from chase_fast.errors import ChaseError
from chase_fast.nn.tracker_net import TrackerNet


def make_engine(name: str, net: TrackerNet, size: int, precision: str = "fp32") -> Engine:
    """A network converted for an engine; takes seconds.

    Args:
        name: openvino or onnxruntime.
        size: of the patches, in pixels.

    Raises:
        ChaseError: unknown engine, a missing package, a network without box regressor, no such precision.
    """
    if name == "openvino":
        return OpenVINO(to_openvino(to_program(net, size)), precision)
    if name == "onnxruntime":
        return OnnxRuntime(to_onnx(to_program(net, size)), precision)
    raise ChaseError(f"--engine {name} is unknown, choose from {', '.join(ENGINES)}")


def installed() -> list[str]:
    """Names of the engines besides torch whose packages are there; nothing is imported."""
    packages = {"openvino": ("openvino",), "onnxruntime": ("onnxruntime", "onnx", "onnxscript")}
    return [name for name, needed in packages.items() if all(map(importlib.util.find_spec, needed))]
