"""`Frames` as a torch.export program, as ONNX, and as an OpenVINO model."""

import contextlib
import io
import logging
import warnings
from collections.abc import Iterator
from typing import TYPE_CHECKING

import torch

from chase_fast.engines.frames import Frames
from chase_fast.engines.outputs import OUTPUTS
from chase_fast.engines.packages import need
from chase_fast.kernels._dispatch import using
from chase_fast.nn.tracker_net import TrackerNet

if TYPE_CHECKING:
    import openvino

MOST = 64  # patches in one call
OPSET = 18


def to_program(net: TrackerNet, size: int) -> torch.export.ExportedProgram:
    """`Frames` for 1 to MOST patches of this size."""
    patches = torch.zeros(2, size, size, 3)
    shapes = ({0: torch.export.Dim("patches", min=1, max=MOST)},)
    with torch.no_grad(), using("reference"), _silent():  # plain torch operations: no engine knows ours
        return torch.export.export(Frames(net, size), (patches,), dynamic_shapes=shapes)


def to_onnx(program: torch.export.ExportedProgram) -> bytes:
    """An ONNX file; raises ChaseError where the packages onnx and onnxscript are missing."""
    need("onnx", "onnxscript")
    with _silent():
        made = torch.onnx.export(
            program,
            (),
            dynamo=True,
            opset_version=OPSET,
            input_names=["patches"],
            output_names=list(OUTPUTS),
            verbose=False,
        )
    assert made is not None, "with dynamo it returns the program"
    return made.model_proto.SerializeToString()


def to_openvino(program: torch.export.ExportedProgram) -> "openvino.Model":
    """An OpenVINO model; raises ChaseError where the package is missing."""
    (openvino,) = need("openvino")
    with _silent():
        model = openvino.convert_model(program)
    for output, name in zip(model.outputs, OUTPUTS, strict=True):
        output.get_tensor().set_names({name})
    model.reshape([-1, *program.example_inputs[0][0].shape[1:]])
    return model


@contextlib.contextmanager
def _silent() -> Iterator[None]:
    """Converters print, log and warn of their own affairs."""
    loggers = [logging.getLogger(name) for name in ("torch.onnx", "onnxscript", "torch.export")]
    before = [logger.level for logger in loggers]
    with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
        warnings.simplefilter("ignore")
        for logger in loggers:
            logger.setLevel(logging.ERROR)
        try:
            yield
        finally:
            for logger, level in zip(loggers, before):
                logger.setLevel(level)
