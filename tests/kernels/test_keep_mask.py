"""keep_mask: Philox against its published vectors, backend against reference bit for bit, rates, groups."""

import pytest
import torch

from chase_fast.kernels.keep_mask import CAN_RUN, cases, keep_mask
from chase_fast.kernels.keep_mask.reference import philox
from tests.kernels.aot import check_fits, compile_in_subprocess
from tests.kernels.harness import device_of, poison, skip_unless

BACKENDS = tuple(CAN_RUN)
TINY = cases.TESTS[0]

# Random123's kat_vectors, philox4x32 10: counter, key, result
VECTORS = (
    ("00000000 00000000 00000000 00000000", "00000000 00000000", "6627e8d5 e169c58d bc57ac4c 9b00dbd8"),
    ("ffffffff ffffffff ffffffff ffffffff", "ffffffff ffffffff", "408f276d 41c83b0e a20bc7c6 6d5451fd"),
    ("243f6a88 85a308d3 13198a2e 03707344", "a4093822 299f31d0", "d16cfe09 94fdcceb 5001e420 24126ea1"),
)


def prepared(backend, case=TINY):
    skip_unless(CAN_RUN, backend, torch.int64)
    return cases.inputs(case, device_of(backend))


@pytest.mark.parametrize("counter, key, expected", VECTORS)
def test_philox_gives_the_published_vectors(counter, key, expected):
    words = [[torch.tensor(int(w, 16)) for w in text.split()] for text in (counter, key)]
    assert [f"{int(w):08x}" for w in philox(tuple(words[0]), tuple(words[1]))] == expected.split()


@pytest.mark.parametrize("backend", BACKENDS)
def test_bits_are_where_the_contract_says(backend):
    """One value of one edge, frame and sequence, from the formula with Python integers."""
    x = prepared(backend, cases.TESTS[1])
    keep = keep_mask(**x, backend=backend)
    (h, w, c), frames, share = x["size"], x["frames"], len(x["seeds"]) // x["groups"]
    for e, k, i, row, column, channel in ((0, 0, 0, 0, 0, 0), (1, 3, 1, 2, 1, 4), (1, 1, 0, 1, 2, 3)):
        n = k // share * frames * share + i * share + k % share
        seed, place = int(x["seeds"][k]), (row * w + column) * c + channel
        counter = [place // 4, e * frames + i, 0, 0]
        words = philox(
            tuple(map(torch.tensor, counter)), (torch.tensor(seed % 2**32), torch.tensor(seed >> 32))
        )
        assert bool(keep[e, n, row, column, channel]) == (int(words[place % 4]) >= float(x["rate"]) * 2**32)
    assert keep.shape == (x["edges"], frames * len(x["seeds"]), h, w, c) and keep.dtype == torch.bool


@pytest.mark.parametrize("layout", ("contiguous", "strided"))
@pytest.mark.parametrize("case", cases.TESTS, ids=lambda c: c.name)
@pytest.mark.parametrize("backend", BACKENDS)
def test_matches_reference_bit_for_bit(backend, case, layout, monkeypatch):
    x = prepared(backend, case)
    expected = keep_mask(**cases.inputs(case), backend="reference")
    if layout == "strided":
        x["seeds"] = torch.stack([x["seeds"], x["seeds"] + 1], 1)[:, 0]
    before = x["seeds"].clone()
    poison(monkeypatch)
    first, second = (keep_mask(**x, backend=backend) for _ in range(2))
    assert torch.equal(first.cpu(), expected) and torch.equal(first, second)
    assert torch.equal(x["seeds"], before) and first.is_contiguous()


@pytest.mark.parametrize("backend", BACKENDS)
def test_rate(backend):
    """A share of 1 - rate is kept, within six standard deviations; 0 keeps all."""
    x = prepared(backend, cases.TESTS[2])
    for rate in (0.0, 1e-3, 0.25, 0.9):
        x["rate"] = torch.full_like(x["rate"], rate)
        keep = keep_mask(**x, backend=backend).double()
        assert abs(float(keep.mean()) - (1 - rate)) <= 6 * (rate * (1 - rate) / keep.numel()) ** 0.5
    # edges, frames and places are independent: neighbours agree as often as chance says
    x["rate"] = torch.full_like(x["rate"], 0.5)
    keep = keep_mask(**x, backend=backend)
    bound = 6 * (0.25 / keep[0].numel()) ** 0.5
    for a, b in ((keep[0], keep[1]), (keep[..., 1:], keep[..., :-1]), (keep[:, :, 1:], keep[:, :, :-1])):
        assert abs(float((a == b).double().mean()) - 0.5) <= bound


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_sequence_has_the_same_masks_in_whichever_group(backend):
    x = prepared(backend, cases.TESTS[1])
    frames, share = x["frames"], len(x["seeds"]) // 2
    both = keep_mask(**x, backend=backend).unflatten(1, (2, frames, share))
    for k, seed in enumerate(x["seeds"]):
        alone = keep_mask(**(x | {"seeds": seed[None], "groups": 1}), backend=backend)
        assert torch.equal(both[:, k // share, :, k % share], alone)


@pytest.mark.parametrize("backend", BACKENDS)
def test_opcheck(backend):
    x = prepared(backend)
    arguments = (*x.values(), backend)
    arguments = tuple(list(a) if isinstance(a, tuple) else a for a in arguments)
    checks = ("test_schema", "test_faketensor", "test_autograd_registration")
    torch.library.opcheck(torch.ops.chase_fast.keep_mask.default, arguments, test_utils=checks)


@pytest.mark.gpu
def test_graph_replay_follows_seeds_and_rate():
    if not torch.cuda.is_available():
        pytest.skip("no CUDA device")
    x = prepared("triton")
    keep_mask(**x, backend="triton")
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        captured = keep_mask(**x, backend="triton")
    x["seeds"].add_(5)
    x["rate"].fill_(0.1)
    graph.replay()
    assert torch.equal(captured, keep_mask(**x, backend="triton"))


@pytest.mark.parametrize(
    "change, text",
    [
        ({"seeds": torch.zeros(2)}, "seeds must be int64"),
        ({"rate": torch.zeros(1, dtype=torch.float64)}, "rate must be float64"),
        ({"rate": torch.zeros(())}, "rate must be float64"),
        ({"groups": 3}, "must divide 2 sequences"),
        ({"size": (0, 1, 1)}, "must be positive"),
    ],
)
def test_wrong_input_is_named(change, text):
    with pytest.raises(ValueError, match=text):
        keep_mask(**(cases.inputs(TINY) | change))


def test_triton_compiles_for_sm_90():
    pytest.importorskip("triton")
    usage = compile_in_subprocess("tests.kernels.aot_keep_mask", "compile_all")
    assert len(usage) == 2
    for kernel in usage.values():
        check_fits(kernel)
