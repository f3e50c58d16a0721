"""A step as one CUDA graph: captured at its first call, then replayed on new inputs with one launch.

    step = Graph(function, device, state=network_and_optimizer_tensors)
    loss = step(images=batch.images, lr=0.001)["loss"]

The function takes tensors by name and returns tensors (in tuples, lists or dicts). It may read and write
device memory that exists before and after it (weights, optimizer moments, running statistics), and nothing
else: no value may come to the host, and no host number that changes between calls may be used, because a
replay would repeat the old one. Numbers therefore are inputs: the function gets them as 0-d float64 tensors
on the device.

Without a CUDA device, or with `enabled=False`, the same function runs eagerly on the same fixed buffers, and
its first run on a CPU raises if it reads a value on the host: what would break a capture fails there too.
Source of the rules: CUDA programming guide, "CUDA Graphs"; PyTorch notes, "CUDA graphs".
"""

import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

Signature = tuple[tuple[Any, ...], ...]
_WARMUP = 2  # steps before the capture: kernels compile, libraries choose, lazy state is made
_KEPT = 8  # captured shapes; the oldest makes room
_HOST_READS = {"aten::_local_scalar_dense", "aten::nonzero", "aten::masked_select", "aten::_unique2"}


@dataclass
class _Captured:
    inputs: dict[str, Tensor]  # fixed buffers, also the numbers, which are views of `numbers`
    numbers: Tensor  # [number of them], float64
    outputs: Any
    graph: "torch.cuda.CUDAGraph | None"  # None: runs eagerly


class _NoHostReads(TorchDispatchMode):
    """Raises where an operation brings a value to the host."""

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        if func._schema.name in _HOST_READS:
            raise RuntimeError(
                f"{func._schema.name} reads a value on the host: a step that a CUDA graph captures cannot"
            )
        return func(*args, **(kwargs or {}))


class Graph:
    """A function of tensors that is captured per shape of its inputs and replayed.

    Args:
        function: see the module text.
        device: where it runs.
        state: the tensors that the function changes. The warm-up runs the function for real, so they are
            kept before it and put back after it. Called when a capture begins.
        enabled: False runs eagerly (`--no-graphs`).

    Attributes:
        seconds: what warm-up and captures have taken so far.
    """

    def __init__(
        self,
        function: Callable[..., Any],
        device: torch.device,
        state: Callable[[], Iterable[Tensor]] = tuple,
        enabled: bool = True,
    ):
        self._function, self._device, self._state = function, torch.device(device), state
        self.captures = enabled and self._device.type == "cuda"
        self._stream = torch.cuda.Stream(self._device) if self.captures else None
        self._pool = torch.cuda.graph_pool_handle() if self.captures else None
        self._captured: dict[Signature, _Captured] = {}
        self.seconds = 0.0

    def __call__(self, **inputs: Tensor | float) -> Any:
        """Runs the step.

        Args:
            inputs: tensors on any device (pinned host memory is copied without waiting) and numbers.

        Returns:
            What the function returns, in buffers that the next call overwrites.

        Raises:
            RuntimeError: the function cannot be captured; the text says why and names --no-graphs.
        """
        tensors = {name: value for name, value in inputs.items() if isinstance(value, Tensor)}
        numbers = {name: float(value) for name, value in inputs.items() if name not in tensors}
        signature = _signature(tensors, numbers)
        captured = self._captured.get(signature)
        if captured is None:
            while len(self._captured) >= _KEPT:
                del self._captured[next(iter(self._captured))]
            captured = self._captured[signature] = self._make(tensors, numbers)
        for name, value in tensors.items():
            captured.inputs[name].copy_(value, non_blocking=True)
        if numbers:
            values = torch.tensor(list(numbers.values()), dtype=torch.float64)
            captured.numbers.copy_(values.pin_memory() if self.captures else values, non_blocking=True)
        if captured.graph is not None:
            captured.graph.replay()
        elif self.captures:
            graph, captured.outputs = self._capture(captured.inputs)
            graph.replay()  # a capture only records
            captured.graph = graph
        else:
            captured.outputs = self._eager(captured)
        return captured.outputs

    def _make(self, tensors: dict[str, Tensor], numbers: dict[str, float]) -> _Captured:
        """Fixed buffers for these inputs."""
        flat = torch.zeros(len(numbers), dtype=torch.float64, device=self._device)
        buffers = {name: torch.empty_like(value, device=self._device) for name, value in tensors.items()}
        buffers |= dict(zip(numbers, flat.unbind()))
        return _Captured(buffers, flat, None, None)

    def _eager(self, captured: _Captured) -> Any:
        if captured.outputs is None and self._device.type == "cpu":
            with _NoHostReads():
                return self._function(**captured.inputs)
        return self._function(**captured.inputs)

    def _capture(self, inputs: dict[str, Tensor]) -> tuple[torch.cuda.CUDAGraph, Any]:
        stream = self._stream
        assert stream is not None
        start = time.perf_counter()
        state = list(self._state())
        before = [t.detach().clone() for t in state]
        current = torch.cuda.current_stream(self._device)
        stream.wait_stream(current)
        with torch.cuda.stream(stream):
            for _ in range(_WARMUP):
                self._function(**inputs)
            for t, value in zip(state, before):
                t.detach().copy_(value)
        current.wait_stream(stream)
        torch.cuda.synchronize(self._device)
        graph = torch.cuda.CUDAGraph()
        try:
            # thread_local: threads that pin memory for the next batches must not end the capture
            with torch.cuda.graph(graph, pool=self._pool, stream=stream, capture_error_mode="thread_local"):
                outputs = self._function(**inputs)
        except RuntimeError as e:
            raise RuntimeError(
                f"the step cannot be captured as a CUDA graph ({str(e).splitlines()[0]}); --no-graphs runs it"
            ) from e
        if any(not t.is_cuda for t in tree_leaves(outputs) if isinstance(t, Tensor)):
            raise RuntimeError("a step that is captured must return tensors on its device")
        self.seconds += time.perf_counter() - start
        return graph, outputs


def _signature(tensors: dict[str, Tensor], numbers: dict[str, float]) -> Signature:
    """What a captured step is made for."""
    shapes = ((name, t.shape, t.dtype, t.stride()) for name, t in sorted(tensors.items()))
    return (*shapes, tuple(numbers))
