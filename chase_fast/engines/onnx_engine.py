"""`Frames` by ONNX Runtime, on the CPU."""

from pathlib import Path

import numpy as np

from chase_fast.engines.outputs import OUTPUTS
from chase_fast.engines.packages import need
from chase_fast.errors import ChaseError
from chase_fast.threads import cpu_threads

PROVIDER = "CPUExecutionProvider"


class OnnxRuntime:
    """Runs a model for any number of patches.

    Args:
        model: of `program.to_onnx`, or a file.
        precision: fp32; ONNX Runtime has no bfloat16 for convolutions on a CPU.
        threads: of the CPU.

    Raises:
        ChaseError: the package is missing, the file is damaged, or the precision is another.
    """

    def __init__(self, model: bytes | Path, precision: str = "fp32", threads: int | None = None):
        (self._runtime,) = need("onnxruntime")
        if precision != "fp32":
            raise ChaseError(f"--precision {precision}: ONNX Runtime has fp32 on a CPU, take openvino")
        options = self._runtime.SessionOptions()
        options.intra_op_num_threads = threads or cpu_threads()
        options.log_severity_level = 3
        # its threads wait actively after each call, on the cores that the rest of a frame needs
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        name = model if isinstance(model, Path) else "the model"
        try:
            source = str(model) if isinstance(model, Path) else model
            self._session = self._runtime.InferenceSession(source, options, providers=[PROVIDER])
        except Exception as e:  # its own types, without a common base
            reason = " ".join(str(e).split())[:120]
            raise ChaseError(f"{name}: ONNX Runtime cannot read it ({reason})") from None
        if [o.name for o in self._session.get_outputs()] != list(OUTPUTS):
            raise ChaseError(f"{name}: its outputs are not {', '.join(OUTPUTS)}: no file of this package")

    @property
    def about(self) -> str:
        """Engine and version."""
        return f"ONNX Runtime {self._runtime.__version__}"

    def run(self, patches: np.ndarray, outputs: tuple[str, ...] = OUTPUTS) -> list[np.ndarray]:
        """Results by name for patches [B, size, size, 3]."""
        return self._session.run(list(outputs), {"patches": patches})
