"""`Frames` by OpenVINO, on the CPU."""

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from chase_fast.engines.outputs import OUTPUTS
from chase_fast.engines.packages import need
from chase_fast.errors import ChaseError
from chase_fast.threads import cpu_threads

if TYPE_CHECKING:
    import openvino

HINT = {"fp32": "f32", "bf16": "bf16"}
MOST_REQUESTS = 4  # numbers of patches kept: the first frame, a frame, frames with several targets


class OpenVINO:
    """Runs a model for one number of patches at a time; models are compiled when a number first comes.

    Args:
        model: of `program.to_openvino`, or a file: .onnx, or .xml beside its .bin.
        precision: fp32, or bf16 for convolutions on a processor that computes with it.
        threads: of the CPU.

    Raises:
        ChaseError: the package is missing, the file is damaged, or the processor lacks bf16.
    """

    def __init__(self, model: "openvino.Model | Path", precision: str = "fp32", threads: int | None = None):
        (self._openvino,) = need("openvino")
        self._core = self._openvino.Core()
        file = model
        if isinstance(model, Path):
            try:
                model = self._core.read_model(model)
            except RuntimeError as e:
                raise ChaseError(
                    f"{model}: OpenVINO cannot read it ({' '.join(str(e).split())[:120]})"
                ) from None
        if [min(o.get_names(), default="") for o in model.outputs] != list(OUTPUTS):
            raise ChaseError(f"{file}: its outputs are not {', '.join(OUTPUTS)}: no file of this package")
        able = self._core.get_property("CPU", "OPTIMIZATION_CAPABILITIES")
        if precision == "bf16" and "BF16" not in able:
            raise ChaseError("--precision bf16: OpenVINO has no bfloat16 on this processor, use fp32")
        self._model, self._precision, self._threads = model, precision, threads
        self._requests: dict[tuple[int, tuple[str, ...]], openvino.InferRequest] = {}

    @property
    def about(self) -> str:
        """Engine and version."""
        return f"OpenVINO {self._openvino.__version__.split('-')[0]}"

    def run(self, patches: np.ndarray, outputs: tuple[str, ...] = OUTPUTS) -> list[np.ndarray]:
        """Results by name for patches [B, size, size, 3]; the next call overwrites them."""
        key = len(patches), outputs
        if key not in self._requests:
            while len(self._requests) >= MOST_REQUESTS:
                del self._requests[next(iter(self._requests))]
            self._requests[key] = self._compiled(*key)
        found = self._requests[key].infer([patches], share_inputs=True, share_outputs=True)
        return [found[k] for k in range(len(outputs))]

    def _compiled(self, patches: int, outputs: tuple[str, ...]) -> "openvino.InferRequest":
        whole = self._model.clone()
        chosen = [whole.output(name) for name in outputs]
        model = self._openvino.Model(chosen, whole.get_parameters())
        model.reshape([patches, *list(model.input(0).partial_shape)[1:]])
        how = {
            "INFERENCE_PRECISION_HINT": HINT[self._precision],
            "PERFORMANCE_HINT": "LATENCY",
            "INFERENCE_NUM_THREADS": self._threads or cpu_threads(),
        }
        return self._core.compile_model(model, "CPU", how).create_infer_request()
