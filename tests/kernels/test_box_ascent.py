"""box_ascent on the skeleton, maps of 16 bits, blocks in every direction, boxes that are none."""

import pytest
import torch

from chase_fast.kernels.box_ascent import CAN_RUN, box_ascent, cases, reference
from tests.kernels.aot import check_fits, compile_in_subprocess
from tests.kernels.forward import ForwardTests
from tests.kernels.harness import device_of, each, interpreted, poison, skip_unless
from tests.tolerances import KERNEL, assert_close

FAST = [b for b in CAN_RUN if b != "reference"]
TINY, TWO_BOXES, TWO_IMAGES = cases.TESTS[:3]


class TestBoxAscent(ForwardTests):
    op = staticmethod(box_ascent)
    reference = staticmethod(reference.box_ascent)
    can_run = CAN_RUN
    cases = cases
    layouts = ("channels_last", "strided")  # read as they are, and copied
    floating = ("maps", "boxes")

    def op_call(self, inputs, backend):
        maps, modulation, head, *rest = inputs.values()
        return torch.ops.chase_fast.box_ascent.default, (maps, modulation, *head, *rest, backend)

    def test_opcheck(self, small, fast):
        """Not of the reference: the public function calls it without the op."""
        super().test_opcheck(small, fast)


def prepared(backend, case=TINY, dtype=torch.float32) -> dict:
    skip_unless(CAN_RUN, backend, dtype)
    return cases.inputs(case, device_of(backend), dtype)


def expected(inputs: dict) -> tuple[torch.Tensor, torch.Tensor]:
    """The reference in float64."""
    return reference.box_ascent(**{name: each(torch.Tensor.double, v) for name, v in inputs.items()})


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=["relative", "default, 16 bits"])
@pytest.mark.parametrize("fast", FAST)
def test_movement_of_the_boxes(fast, dtype, monkeypatch):
    """Apart from the boxes, which are much larger; maps may have 16 bits."""
    skip_unless(CAN_RUN, fast, dtype)
    inputs = prepared(fast, TWO_BOXES if dtype == torch.float32 else TWO_IMAGES)
    inputs["maps"] = [m.to(dtype) for m in inputs["maps"]]
    boxes, scores = expected(inputs)
    with monkeypatch.context() as patch:
        poison(patch)
        got = box_ascent(**inputs, backend=fast)
    assert_close(got[0], boxes, KERNEL[torch.float32], "boxes")
    assert_close(got[0] - inputs["boxes"], boxes - inputs["boxes"].double(), 1e-4, "movement")
    assert_close(got[1], scores, KERNEL[torch.float32], "scores")


@pytest.mark.parametrize("fast", FAST)
def test_several_blocks_in_every_direction_and_the_same_bits_again(fast, monkeypatch):
    shape = (1, 17, 330, 70)
    if interpreted(fast):  # slow: blocks are made small instead
        from chase_fast.kernels.box_ascent import triton_impl

        shape = (1, 2, 5, 5)
        sizes = {"BLOCK_R": 1, "BLOCK_H": 4, "BLOCK_K": 16, "BLOCK_BACK": 2, "BLOCK_C": 4, "MAX_CHANNELS": 4}
        for name, size in sizes.items():
            monkeypatch.setattr(triton_impl, name, size)
    inputs = prepared(fast, cases.Case("blocks", *shape, (12, 14), (6, 8), True, ((1e-4, 1e-4),)))
    first = box_ascent(**inputs, backend=fast)
    for got, wanted in zip(first, expected(inputs)):
        assert_close(got, wanted, KERNEL[torch.float32])
    if not interpreted(fast):
        again = box_ascent(**inputs, backend=fast)
        assert all(torch.equal(a, b) for a, b in zip(first, again)), "two runs differ"


@pytest.mark.parametrize("backend", list(CAN_RUN))
def test_boxes_without_area_stay_and_nan_stays_nan(backend):
    inputs = prepared(backend, cases.Case("four", 1, 4, 6, 5, (12, 14), (6, 8), False, ((0.1, 0.1),)))
    head, boxes = inputs["head"], inputs["boxes"]
    boxes[0, 1, 2], boxes[0, 2, 0], boxes[0, 3, 1] = 0.0, float("nan"), 1e5
    found, scores = box_ascent(**inputs, backend=backend)
    assert torch.equal(found[0, 1], boxes[0, 1]) and torch.equal(found[0, 3], boxes[0, 3])
    empty = head.bias + (head.hidden_bias.relu() * head.out).sum()
    assert_close(scores[0, [1, 3]], empty.expand(2), KERNEL[torch.float32])
    assert scores[0, 2].isnan() and found[0, 2, 0].isnan() and found[0, 0].isfinite().all()


@pytest.mark.parametrize("fast", FAST)
def test_no_boxes(fast):
    inputs = prepared(fast)
    found, scores = box_ascent(**(inputs | {"boxes": inputs["boxes"][:, :0]}), backend=fast)
    assert found.shape == (1, 0, 4) and scores.shape == (1, 0)


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
    with pytest.raises(ValueError, match=text):
        box_ascent(**(cases.inputs(cases.TESTS[0]) | change))


def test_triton_compiles_for_sm_90():
    pytest.importorskip("triton")
    usage = compile_in_subprocess("tests.kernels.aot_box_ascent", "compile_all")
    assert len(usage) == 8
    for kernel in usage.values():
        check_fits(kernel)
