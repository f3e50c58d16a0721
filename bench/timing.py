"""How long calls take: on a CPU by the clock, on a GPU by replays of a CUDA graph on buffers that rotate."""

import contextlib
import signal
import time
from collections.abc import Callable, Iterator
from typing import Any

import torch

COLD = 100 * 2**20  # bytes between two uses of a buffer: twice the L2 cache of an H100
MOST = 256  # copies of the inputs


def copies_for(bytes_of_inputs: int, device: torch.device) -> int:
    """Copies of the inputs to rotate over, so that a call does not find its own in the L2 cache. They take at
    most half of the free memory."""
    if device.type != "cuda":
        return 1
    free = torch.cuda.mem_get_info(device)[0] // 2
    wanted = -(-COLD // max(bytes_of_inputs, 1)) + 1
    return max(1, min(wanted, MOST, free // max(bytes_of_inputs, 1)))


class Timer:
    """Times calls of one candidate: `call(k)` uses the k-th copy of the inputs.

    Attributes:
        how: "clock", "graph x COPIES" (all copies once per replay), or "eager calls" with the reason.
    """

    def __init__(self, call: Callable[[int], Any], copies: int, device: torch.device):
        self._call, self._copies, self._device, self._graph = call, copies, device, None
        self.how = "clock"
        if device.type == "cuda":
            self._capture()

    def _capture(self) -> None:
        stream = torch.cuda.Stream(self._device)
        stream.wait_stream(torch.cuda.current_stream(self._device))
        with torch.cuda.stream(stream):  # kernels compile, libraries choose
            for k in (0, self._copies - 1):
                self._call(k)
        torch.cuda.synchronize(self._device)
        graph = torch.cuda.CUDAGraph()
        try:
            with torch.cuda.graph(graph, stream=stream):
                for k in range(self._copies):
                    self._call(k)
        except RuntimeError as e:
            torch.cuda.synchronize(self._device)
            self.how = f"eager calls, cannot be captured ({str(e).splitlines()[0][:80]})"
            return
        self._graph, self.how = graph, f"graph x {self._copies}"

    def seconds(self) -> float:
        """One measurement, per call."""
        if self._device.type != "cuda":
            begin = time.perf_counter()
            self._call(0)
            return time.perf_counter() - begin
        start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        start.record()
        if self._graph is not None:
            self._graph.replay()
        else:
            for k in range(self._copies):
                self._call(k)
        end.record()
        end.synchronize()
        return start.elapsed_time(end) / 1e3 / self._copies


@contextlib.contextmanager
def tf32(allowed: bool) -> Iterator[None]:
    """Float32 products in TF32 or not. A graph keeps what was allowed when it was captured."""
    backends = torch.backends.cuda.matmul, torch.backends.cudnn
    before = [b.allow_tf32 for b in backends]
    for b in backends:
        b.allow_tf32 = allowed
    try:
        yield
    finally:
        for b, value in zip(backends, before):
            b.allow_tf32 = value


@contextlib.contextmanager
def time_limit(seconds: float) -> Iterator[None]:
    """Raises TimeoutError within, after this long; for torch.compile. Main thread only."""

    def stop(number, frame):
        raise TimeoutError(f"took more than {seconds:.0f} s")

    before = signal.signal(signal.SIGALRM, stop)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def synchronise(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


class Memory:
    """Peak of the device memory that is taken within, MiB, without what was there before; on a CPU None."""

    mib: float | None = None

    def __init__(self, device: torch.device):
        self._device = device

    def __enter__(self) -> "Memory":
        if self._device.type == "cuda":
            synchronise(self._device)
            self._before = torch.cuda.memory_allocated(self._device)
            torch.cuda.reset_peak_memory_stats(self._device)
        return self

    def __exit__(self, *error) -> None:
        if self._device.type == "cuda":
            synchronise(self._device)
            self.mib = (torch.cuda.max_memory_allocated(self._device) - self._before) / 2**20
