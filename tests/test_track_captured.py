"""A frame and an update as CUDA graphs: the functions that are captured give what eager tracking gives, read
nothing on the host, and a frame waits for the device once."""

import warnings

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from chase_fast.errors import ChaseError
from chase_fast.graphs import Graph
from chase_fast.kernels import box_ascent, localize
from chase_fast.nn.genotype import CHASE
from chase_fast.nn.spec import TrackerSpec
from chase_fast.track import MultiTracker
from chase_fast.track import captured as capturing
from chase_fast.track.captured import Captured
from chase_fast.track.patch import take
from chase_fast.track.settings import settings_for
from chase_fast.track.step import Eager, locate
from chase_fast.track.target import stacked
from tests import moving
from tests.tolerances import BATCHED_PX, KERNEL, ON_GPU_PX, assert_close

FRAMES, BOXES = moving.video(4)
OTHER = [30, 40, 60, 30]
SPECS = {
    "cell": TrackerSpec("prdimp", "resnet18", CHASE, channels=16),
    "prdimp": TrackerSpec("prdimp", "resnet18"),
    "dimp": TrackerSpec("dimp", "resnet18"),
}
NETS: dict = {}


def make(name="cell", device="cpu", precision="fp32", graphs=True, **changes):
    if name not in NETS:
        NETS[name] = SPECS[name].build().eval()
    quick = {"image_size": 96, "init_iterations": 3, "refine_iterations": 2, "lost_below": -1.0}
    settings = settings_for(SPECS[name], **(quick | {"update_interval": 2} | changes))
    return MultiTracker(NETS[name], SPECS[name], settings, device, 3, graphs, precision)


def follow(tracker, count: int, frames=FRAMES) -> np.ndarray:
    tracker.init(frames[0], [BOXES[0], OTHER][:count])
    return np.array([[(*r.box, r.score) for r in tracker.update(frame)] for frame in frames[1:]])


class GraphOfLocate(Eager):
    """Eager, with `locate` as the function of a Graph."""

    def __init__(self, network, settings):
        super().__init__(network, settings)

        def function(patches, filters, low, high, geometry, noise):
            return locate(network, patches, filters, (low, high), geometry, noise, settings)

        self.graph, self.calls = Graph(function, network.device), 0

    def locate(self, frame, windows, geometry, noise, targets):
        self.calls += 1
        patches = np.stack([take(frame, w, self._settings.image_size) for w in windows])
        filters, (low, high) = stacked(targets)
        patches, geometry, noise = map(self._network.upload, (patches, geometry, noise))
        return self.graph(
            patches=patches, filters=filters, low=low, high=high, geometry=geometry, noise=noise
        )


@pytest.mark.parametrize("count", [1, 2])
@pytest.mark.parametrize("name", list(SPECS))
def test_locate_in_a_graph_gives_identical_boxes(name, count):
    """The stand-in refuses what reads a value on the host."""
    expected = follow(make(name), count)
    tracker = make(name)
    tracker._device = GraphOfLocate(tracker._network, tracker.settings)
    np.testing.assert_array_equal(follow(tracker, count), expected)
    assert tracker._device.calls == len(FRAMES) - 1


@pytest.mark.parametrize("count", [1, 2])
@pytest.mark.parametrize("name", list(SPECS))
def test_a_captured_frame_cuts_patches_and_updates_as_the_eager_one(name, count):
    """Rounding differs: patches are cut by other code, updates add the empty slots."""
    tracker = make(name)
    expected = follow(tracker, count)
    filters = [t.filter for t in tracker._targets]
    again = make(name)
    again._device = Captured(again._network, again.settings)
    np.testing.assert_allclose(follow(again, count), expected, rtol=0, atol=BATCHED_PX)
    assert again._device._updates, "the filter was updated"
    for target, wanted in zip(again._targets, filters):
        assert_close(target.filter, wanted, 1e-3, "filters after frames whose boxes differ by rounding")


@pytest.mark.parametrize("name", ["prdimp", "dimp"])
def test_the_kernels_of_a_gpu_frame_fit_together(name, monkeypatch):
    """Patches, localisation and outcome by the functions that a GPU runs, in Triton's interpreter (boxes are
    refined by the reference there)."""
    tracker = make(name)
    expected = follow(tracker, 2)
    if why := localize.CAN_RUN["triton"](torch.device("cpu"), torch.float32):
        pytest.skip(why)
    again = make(name)
    again._device, head = Captured(again._network, again.settings), again._network.head
    head._packed = box_ascent.pack(head._layers, head._out, head._bias)
    from chase_fast.kernels.localize import triton_impl

    calls, functions = [], {name: getattr(triton_impl, name) for name in ("start", "outcome")}
    for name, run in functions.items():
        monkeypatch.setattr(triton_impl, name, lambda *a, run=run: calls.append(1) or run(*a))
    monkeypatch.setenv("CHASE_FAST_BACKEND", "localize=triton,crop_windows=triton")
    np.testing.assert_allclose(follow(again, 2), expected, rtol=0, atol=BATCHED_PX)
    assert len(calls) == 2 * len(FRAMES)  # with the one that prepares


@pytest.mark.parametrize("name", ["prdimp", "dimp"])
def test_an_update_with_empty_slots_equals_the_one_without(name):
    tracker = make(name, memory=30)
    follow(tracker, 1)
    target, network = tracker._targets[0], tracker._network
    memory, device = target.memory, Captured(network, tracker.settings)
    for iterations in (2, 1):
        n = memory.weights.count
        assert n < len(memory.features)
        expected = Eager(network, tracker.settings).update(target.filter, memory, iterations)
        got = device.update(target.filter, memory, iterations)
        assert_close(got, expected, KERNEL[torch.float32], f"{n} samples")
        assert (got != target.filter).any()
        memory.insert(memory.features[1] * 1.1, memory.boxes[0] + 3, 0.01)


def test_frames_of_several_sizes_share_a_buffer():
    rng = np.random.default_rng(0)
    sizes = [(240, 320), (90, 120), (300, 50), (480, 640), (12, 9), (240, 320)]
    frames = [rng.integers(0, 256, (*size, 3), dtype=np.uint8) for size in sizes]
    frames[1].flags.writeable = False
    frames[2] = frames[2][..., ::-1]
    expected = follow(make(random_boxes=0), 1, frames)
    tracker = make(random_boxes=0)
    tracker._device = Captured(tracker._network, tracker.settings)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = follow(tracker, 1, frames)
    np.testing.assert_allclose(found, expected, rtol=0, atol=BATCHED_PX)
    assert tracker._device._pixels.numel() == 480 * 640 * 3


class HostReads(TorchDispatchMode):
    """Counts operations that bring values to the host."""

    NAMES = ("_local_scalar_dense", "nonzero", "masked_select", "_unique2", "equal", "is_nonzero")

    def __init__(self):
        super().__init__()
        self.seen: list[str] = []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        name = func._schema.name.removeprefix("aten::")
        if name in self.NAMES:
            self.seen.append(name)
        return func(*args, **(kwargs or {}))


def test_graphs_are_made_before_the_first_frame():
    """And again only for another number of targets."""
    tracker = make("prdimp", hard_negative_iterations=1, update_iterations=2)
    device = tracker._device = Captured(tracker._network, tracker.settings)
    tracker.init(FRAMES[0], [BOXES[0], OTHER])
    graphs = [device._frame, *(device._updates[n] for n in (2, 1))]
    assert [len(g._captured) for g in graphs] == [1, 1, 1] and len(device._updates) == 2
    for frame in FRAMES[1:]:
        tracker.update(frame)
    assert [len(g._captured) for g in graphs] == [1, 1, 1] and len(device._updates) == 2
    tracker.remove(0)
    tracker.update(FRAMES[-1])
    assert [len(g._captured) for g in graphs] == [2, 1, 1]
    tracker.init(FRAMES[0], [])
    assert tracker.update(FRAMES[1]) == []


@pytest.mark.parametrize("count", [1, 2])
def test_a_frame_brings_values_to_the_host_once(count, monkeypatch):
    """With an update of the filter in it. `tolist` and its like do not pass the dispatcher on a CPU."""
    tracker = make("prdimp", update_interval=1)
    tracker._device = Captured(tracker._network, tracker.settings)
    tracker.init(FRAMES[0], [BOXES[0], OTHER][:count])
    before = [t.filter for t in tracker._targets]
    reads: list[str] = []

    def counted(name):
        method = getattr(Tensor, name)

        def call(self, *args, **kwargs):
            reads.append(name)
            return method(self, *args, **kwargs)

        return call

    for name in ("tolist", "item", "numpy", "cpu", "__bool__", "__float__", "__int__", "__array__"):
        monkeypatch.setattr(Tensor, name, counted(name))
    # the crop on a CPU is plain torch; the box head's tables are made for the CPU and read boxes there
    monkeypatch.setattr(tracker._network.head, "_by_bin", None)
    with HostReads() as dispatched:
        tracker.update(FRAMES[1])
    assert reads == ["tolist"] and not dispatched.seen
    assert all((t.filter != old).any() for t, old in zip(tracker._targets, before))


def test_that_the_test_above_sees_a_read():
    with HostReads() as dispatched:
        torch.ones(3).sum().item()
        torch.ones(3).nonzero()
    assert dispatched.seen == ["_local_scalar_dense", "nonzero"]


@pytest.mark.parametrize("name", list(SPECS))
def test_bf16_convolutions_find_nearly_the_same(name):
    expected = follow(make(name, step=0.0), 1)
    tracker = make(name, precision="bf16", step=0.0)
    network = tracker._network
    found = follow(tracker, 1)
    cell = 16 * np.sqrt(25 * 40 * 50) / 96  # frame px per cell of the score map
    assert np.abs(found - expected)[..., :4].max() < cell / 2
    assert (found != expected).any()
    patches = torch.zeros(1, 96, 96, 3)
    features, layers = network.layers.first(patches)
    assert all(m.dtype == torch.bfloat16 for m in (*layers, *network.layers.frame(patches)[1]))
    target = tracker._targets[0]
    for tensor in (features, target.filter, *target.modulation):
        assert tensor.dtype == torch.float32


def test_what_is_used_is_said_in_one_line():
    threads = torch.get_num_threads()
    plural = "s" if threads > 1 else ""
    assert make().about == f"cpu, {threads} thread{plural}, fp32"
    assert make(precision="bf16").about == f"cpu, {threads} thread{plural}, bf16 convolutions"
    with pytest.raises(ChaseError, match="--precision fp8 is unknown"):
        make(precision="fp8")


@pytest.mark.gpu
@pytest.mark.parametrize("graphs", [True, False])
@pytest.mark.parametrize("name", list(SPECS))
def test_on_a_gpu_a_frame_waits_once_and_finds_what_the_cpu_finds(name, graphs):
    if not torch.cuda.is_available():
        pytest.skip("no CUDA device")
    regular = {"distractor_above": 2.0, "hard_negative_above": 2.0}  # no update but the regular ones
    expected = follow(make(name, **regular), 2)
    tracker = make(name, device="cuda", graphs=graphs, **regular)
    np.testing.assert_allclose(follow(tracker, 2), expected, rtol=0, atol=ON_GPU_PX)
    torch.cuda.set_sync_debug_mode("warn")
    try:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            tracker.update(FRAMES[-1])
    finally:
        torch.cuda.set_sync_debug_mode("default")
    assert sum("synchronizing" in str(w.message) for w in caught) == 1
    assert capturing.Captured is type(tracker._device) and ("CUDA graph" in tracker.about)


@pytest.mark.gpu
def test_on_a_gpu_replays_equal_eager_frames():
    if not torch.cuda.is_available():
        pytest.skip("no CUDA device")
    found = [follow(make("prdimp", "cuda", graphs=g), 2) for g in (True, False)]
    np.testing.assert_array_equal(*found)
