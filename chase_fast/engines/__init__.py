"""The frozen networks of a tracked frame in other engines: OpenVINO and ONNX Runtime, on a CPU.

frames.py says what they compute, onnx_file.py writes it as ONNX, openvino_engine.py and onnx_engine.py run
it; engine.py chooses. The packages are extras: `pip install "chase-fast[openvino]"` or `[onnxruntime]`.
"""

ENGINES = ("torch", "openvino", "onnxruntime")
