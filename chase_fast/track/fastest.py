"""Which engine computes the convolutions of a network fastest on this processor."""

import logging
import statistics
import time
from collections.abc import Callable
from functools import partial

import numpy as np
import torch

from chase_fast.device import resolve_device
from chase_fast.engines.engine import installed, make_engine
from chase_fast.engines.outputs import LATER, Engine
from chase_fast.errors import ChaseError
from chase_fast.nn.tracker_net import TrackerNet
from chase_fast.track.network import Network

log = logging.getLogger("chase_fast")
LIMIT = {"fp32": 1e-4, "bf16": 0.05}  # of the relative difference of features between engines


@torch.no_grad()
def fastest(net: TrackerNet, size: int, device: str | torch.device, precision: str) -> str | Engine:
    """torch (on a GPU always), or the engine that takes the least time for a frame; the figures are
    logged. An engine that computes other features is left aside.

    Args:
        size: of the patches, in pixels.
    """
    if resolve_device(device).type != "cpu":
        return "torch"
    patches = np.random.default_rng(0).integers(0, 256, (1, size, size, 3)).astype(np.float32)
    layers, seen = Network(net, device, precision).layers, torch.from_numpy(patches)
    expected = layers.frame(seen)[0].numpy()
    times = {"torch": _milliseconds(partial(layers.frame, seen))}
    engines: dict[str, Engine] = {}
    for name in installed():
        try:
            engine = make_engine(name, net, size, precision)
        except ChaseError as e:
            log.info("engine %s: %s", name, e)
            continue
        found = engine.run(patches, LATER)[0]
        if np.linalg.norm(found - expected) <= LIMIT[precision] * np.linalg.norm(expected):
            engines[name], times[name] = engine, _milliseconds(partial(engine.run, patches, LATER))
        else:
            log.warning("engine %s computes other features here and is left aside", name)
    log.info("milliseconds of a frame: %s", ", ".join(f"{name} {t:.1f}" for name, t in times.items()))
    chosen = min(times, key=times.__getitem__)
    return engines.get(chosen, "torch")


def _milliseconds(frame: Callable[[], object], rounds: int = 5) -> float:
    """Median time, after one call that is not counted."""
    times = []
    for _ in range(rounds + 1):
        start = time.perf_counter()
        frame()
        times.append((time.perf_counter() - start) * 1e3)
    return statistics.median(times[1:])
