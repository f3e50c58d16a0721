"""The frozen networks of a tracked frame in other engines: OpenVINO and ONNX Runtime, on a CPU.

frames.py says what they compute, program.py converts it, openvino_engine.py and onnx_engine.py run it,
engine.py makes one from a network, folder.py from what was exported. The packages are extras:
`pip install "chase-fast[openvino]"` or `[onnxruntime]`.
"""

ENGINES = ("torch", "openvino", "onnxruntime")
