"""kl_loss: backend against reference, and the label density."""

import math

import pytest
import torch

from chase_fast.kernels import kl_loss as folder
from chase_fast.kernels.kl_loss import cases, kl_loss, label_density, reference
from tests.kernels.aot import check_fits, compile_in_subprocess
from tests.kernels.harness import OpTests, device_of, skip_unless
from tests.tolerances import KERNEL, assert_close


class TestKlLoss(OpTests):
    op = staticmethod(kl_loss)
    reference = staticmethod(reference.kl_loss)
    can_run = folder.CAN_RUN
    cases = cases
    interpreted = ("tiny", "odd")

    def op_call(self, inputs, backend):
        return torch.ops.chase_fast.kl_loss, (*inputs.values(), backend)


def test_flat_scores_cost_the_log_of_the_cells():
    density = label_density(torch.tensor([[9.0, 4.5]], dtype=torch.float64), (19, 19), 0.9)
    loss = kl_loss(torch.zeros(6, 1, 19, 19, dtype=torch.float64), density)
    assert loss.shape == (6, 1)
    torch.testing.assert_close(loss, torch.full_like(loss, math.log(361)))


def test_density_sums():
    centre = torch.tensor([[5.2, 4.9], [100.0, -50.0]], dtype=torch.float64)
    density = label_density(centre, (10, 13), 1.2, uniform=0.1, shrink=0.2)
    torch.testing.assert_close(density.sum((1, 2)), torch.tensor([0.8, 0.08], dtype=torch.float64))
    raw = label_density(centre[:1], (10, 13), 1.2, normalize=False, threshold=0.05)
    assert raw[raw > 0].min() > 0.05 and raw.max() < 1 / (2 * math.pi * 1.2**2)


def test_zero_sigma_is_one_hot():
    density = label_density(torch.tensor([2.4, 3.6]), (6, 7), 0.0, normalize=False)
    assert density[2, 4] == 1 and density.sum() == 1


def test_bad_input():
    with pytest.raises(ValueError, match="does not fit"):
        kl_loss(torch.zeros(2, 4, 5), torch.zeros(3, 4, 5))


@pytest.mark.parametrize("backend", ("cpu", "triton"))
@pytest.mark.parametrize("dtype", (torch.float32, torch.float64))
def test_scores_of_any_height(dtype, backend):
    """Softmax of scores far below and above what exp can take, on the fast backends."""
    skip_unless(folder.CAN_RUN, backend, dtype)
    rng = torch.Generator().manual_seed(0)
    scores = 1000 * torch.randn(3, 2, 7, 5, generator=rng, dtype=dtype)
    density = torch.full((2, 7, 5), 1 / 35, dtype=dtype)
    found = []
    for name, kind in (("reference", torch.float64), (backend, dtype)):
        leaf = scores.to(device_of(name), kind).requires_grad_()
        loss = kl_loss(leaf, density.to(leaf), backend=name)
        found.append((loss.detach(), *torch.autograd.grad(loss.square().sum(), [leaf])))
    for wanted, got in zip(*found):
        assert_close(got, wanted, KERNEL[dtype])


def test_small_inputs_take_the_reference():
    """Below LEAST_CELLS the reference is faster than the call of a custom op, unless a backend is forced."""
    scores = torch.zeros(1, 4, 4, requires_grad=True)
    density = torch.zeros(1, 4, 4)
    assert "chase_fast" not in str(kl_loss(scores, density).grad_fn)
    assert "chase_fast" in str(kl_loss(scores, density, backend="cpu").grad_fn)
    many = scores.expand(folder.LEAST_CELLS // 16, 1, 4, 4)
    assert "chase_fast" in str(kl_loss(many, density).grad_fn)


@pytest.mark.parametrize("backend", ("cpu", "triton"))
def test_maps_larger_than_a_block(backend):
    """5000 cells; the scores of later cells are the higher ones. Empty batches have empty losses."""
    skip_unless(folder.CAN_RUN, backend, torch.float32)
    device, rng = device_of(backend), torch.Generator().manual_seed(0)
    rows = torch.randn(2, 50, 100, generator=rng, dtype=torch.float64) + torch.arange(100) / 5
    density = torch.rand(50, 100, generator=rng, dtype=torch.float64) / 2500
    found = []
    for name, dtype in (("reference", torch.float64), (backend, torch.float32)):
        leaves = [t.to(device, dtype).requires_grad_() for t in (rows, density)]
        loss = kl_loss(*leaves, 0.5, backend=name)
        found.append((loss.detach(), *torch.autograd.grad(loss.square().sum(), leaves)))
    for wanted, got in zip(*found):
        assert_close(got, wanted, KERNEL[torch.float32])
    assert kl_loss(rows[:0].to(device), density.to(device), backend=backend).shape == (0,)


@pytest.mark.parametrize("backend", ("triton",))
def test_graph_replay(backend):
    """Captured in a CUDA graph, forward and backward follow their inputs in replay."""
    if device_of(backend).type != "cuda":
        pytest.skip("CUDA graphs need a GPU")
    inputs = cases.inputs(cases.TESTS[0], "cuda")
    leaves = [inputs[name].requires_grad_() for name in cases.DIFFERENTIABLE]

    def step():
        loss = kl_loss(**inputs, backend=backend)
        return loss.detach(), *torch.autograd.grad(loss.square().sum(), leaves)

    side = torch.cuda.Stream()
    with torch.cuda.stream(side):
        step()  # compiles the kernels
    torch.cuda.current_stream().wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        captured = step()
    with torch.no_grad():
        inputs["scores"].mul_(-0.5)
    graph.replay()
    for a, b in zip(captured, step()):
        assert torch.equal(a, b)


def test_triton_compiles_for_sm_90():
    pytest.importorskip("triton")
    usage = compile_in_subprocess("tests.kernels.aot_kl_loss", "compile_all")
    assert len(usage) == 12
    for kernel in usage.values():
        check_fits(kernel)
