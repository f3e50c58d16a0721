"""`ascend` against its reference in float64 on every backend, and the reference against box refinement."""

import pytest
import torch

from chase_fast.kernels.prroi_pool import ascent
from chase_fast.kernels.prroi_pool.ascent import ascend, pack, reference
from tests.kernels.aot import check_fits, compile_in_subprocess
from tests.kernels.harness import device_of, interpreted, poison, skip_unless
from tests.tolerances import KERNEL, assert_close

FAST = [b for b in ascent.CAN_RUN if b != "reference"]
STEPS = {"relative": ([2e-3, 1e-3], [3e-3, 2e-3], True), "default": ([1e-2, 2e-2], [2e-2, 1e-2], False)}
SCALES = (1 / 8, 1 / 16)


def inputs(k=1, p=2, channels=6, hidden=5, dtype=torch.float64, device="cpu"):
    """maps, modulation, head, boxes; boxes of about a third of the map, one overhangs."""
    rng = torch.Generator().manual_seed(k + p)

    def random(*shape):
        return torch.randn(*shape, generator=rng, dtype=torch.float64).to(device, dtype)

    maps = tuple(random(k, channels, 2 * n, 2 * n + 2) for n in (6, 3))
    modulation = tuple(random(k, channels, 1, 1) for _ in range(2))
    layers = tuple((random(hidden, channels * n * n) / 3, random(hidden) / 3) for n in ascent.BINS)
    head = pack(layers, tuple(random(hidden) for _ in range(2)), random(1))
    boxes = torch.rand(k, p, 4, generator=rng, dtype=torch.float64) * 30 + torch.tensor([10.0, 12, 25, 20])
    boxes[0, -1, 0] = -20
    return maps, modulation, head, boxes.to(device, dtype), layers


def upcast(arguments):
    maps, modulation, head, boxes = arguments
    head = ascent.Head(*(t.double() for t in vars(head).values()))
    return [m.double() for m in maps], [m.double() for m in modulation], head, boxes.double()


@pytest.mark.parametrize(
    "steps, maps_dtype, shape",
    [("relative", torch.float32, (1, 2)), ("default", torch.bfloat16, (2, 1))],
    ids=["relative", "default, 16 bits"],
)
@pytest.mark.parametrize("fast", FAST)
def test_backend_equals_reference(fast, steps, maps_dtype, shape, monkeypatch):
    skip_unless(ascent.CAN_RUN, fast, maps_dtype)
    steps = STEPS[steps]
    maps, *rest, _ = inputs(*shape, dtype=torch.float32, device=device_of(fast))
    arguments = tuple(m.to(maps_dtype) for m in maps), *rest
    boxes, scores = reference(*upcast(arguments), SCALES, *steps)
    with monkeypatch.context() as patch:
        poison(patch)
        got = ascend(*arguments, SCALES, *steps, backend=fast)
    assert_close(got[0], boxes, KERNEL[torch.float32], "boxes")
    assert_close(got[0] - arguments[3], boxes - upcast(arguments)[3], 1e-4, "movement")
    assert_close(got[1], scores, KERNEL[torch.float32], "scores")


@pytest.mark.parametrize("fast", FAST)
def test_several_blocks_in_every_direction_and_the_same_bits_again(fast, monkeypatch):
    skip_unless(ascent.CAN_RUN, fast, torch.float32)
    shape = (1, 17, 330, 70)
    if interpreted(fast):  # slow: blocks are made small instead
        from chase_fast.kernels.prroi_pool import triton_ascent

        shape = (1, 2, 5, 5)
        sizes = {"BLOCK_R": 1, "BLOCK_H": 4, "BLOCK_K": 16, "BLOCK_BACK": 2, "BLOCK_C": 4, "MAX_CHANNELS": 4}
        for name, size in sizes.items():
            monkeypatch.setattr(triton_ascent, name, size)
    *arguments, _ = inputs(*shape, torch.float32, device_of(fast))
    steps = [1e-4], [1e-4], True
    expected = reference(*upcast(arguments), SCALES, *steps)
    first = ascend(*arguments, SCALES, *steps, backend=fast)
    for got, wanted in zip(first, expected):
        assert_close(got, wanted, KERNEL[torch.float32])
    if not interpreted(fast):
        again = ascend(*arguments, SCALES, *steps, backend=fast)
        assert all(torch.equal(a, b) for a, b in zip(first, again)), "two runs differ"


@pytest.mark.parametrize("backend", list(ascent.CAN_RUN))
def test_boxes_without_area_stay_and_nan_stays_nan(backend):
    skip_unless(ascent.CAN_RUN, backend, torch.float32)
    maps, modulation, head, boxes, _ = inputs(1, 4, dtype=torch.float32, device=device_of(backend))
    boxes[0, 1, 2], boxes[0, 2, 0], boxes[0, 3, 1] = 0.0, float("nan"), 1e5
    found, scores = ascend(maps, modulation, head, boxes, SCALES, [0.1], [0.1], False, backend=backend)
    assert torch.equal(found[0, 1], boxes[0, 1]) and torch.equal(found[0, 3], boxes[0, 3])
    empty = head.bias + (head.hidden_bias.relu() * head.out).sum()
    assert_close(scores[0, [1, 3]], empty.expand(2), KERNEL[torch.float32])
    assert scores[0, 2].isnan() and found[0, 2, 0].isnan() and found[0, 0].isfinite().all()


@pytest.mark.parametrize("fast", FAST)
def test_no_boxes(fast):
    skip_unless(ascent.CAN_RUN, fast, torch.float32)
    maps, modulation, head, boxes, _ = inputs(dtype=torch.float32, device=device_of(fast))
    found, scores = ascend(maps, modulation, head, boxes[:, :0], SCALES, [1.0], [1.0], True, backend=fast)
    assert found.shape == (1, 0, 4) and scores.shape == (1, 0)


@pytest.mark.parametrize("fast", FAST)
def test_opcheck(fast):
    skip_unless(ascent.CAN_RUN, fast, torch.float32)
    maps, modulation, head, boxes, _ = inputs(dtype=torch.float32, device=device_of(fast))
    arguments = list(maps), list(modulation), *vars(head).values(), boxes, list(SCALES), [1e-3], [1e-3], True
    utilities = ("test_schema", "test_faketensor")
    torch.library.opcheck(ascent._ascend, arguments, test_utils=utilities)


@pytest.mark.parametrize(
    "change, text",
    [
        ({"boxes": torch.zeros(2, 4)}, "boxes must be"),
        ({"maps": (torch.zeros(1, 6, 4, 4), torch.zeros(1, 5, 4, 4))}, "maps must be"),
        ({"modulation": (torch.zeros(1, 6), torch.zeros(1, 6))}, "modulation must be"),
        ({"to_size": []}, "steps must be"),
    ],
)
def test_wrong_input_is_named(change, text):
    maps, modulation, head, boxes, _ = inputs(dtype=torch.float32)
    good = {"maps": maps, "modulation": modulation, "head": head, "boxes": boxes, "scales": SCALES}
    with pytest.raises(ValueError, match=text):
        ascend(**(good | {"to_position": [1.0], "to_size": [1.0], "relative": True} | change))


def test_triton_compiles_for_sm_90():
    pytest.importorskip("triton")
    usage = compile_in_subprocess("tests.kernels.aot_prroi_pool_ascent", "compile_all")
    assert len(usage) == 8
    for kernel in usage.values():
        check_fits(kernel)
