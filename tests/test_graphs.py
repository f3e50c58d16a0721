"""The step wrapper: fixed buffers, numbers on the device, and what a capture would refuse."""

import pytest
import torch

from chase_fast.graphs import Graph

DEVICES = ("cpu", pytest.param("cuda", marks=pytest.mark.gpu))


@pytest.fixture(params=DEVICES)
def device(request):
    if request.param == "cuda" and not torch.cuda.is_available():
        pytest.skip("no CUDA device")
    return torch.device(request.param)


def descent(weights):
    def step(x, lr):
        loss = (weights * x).sum().square()
        (gradient,) = torch.autograd.grad(loss, [weights])
        with torch.no_grad():
            weights.sub_(lr * gradient)
        return {"loss": loss.detach()}

    return step


@pytest.mark.parametrize("enabled", (True, False))
def test_follows_inputs_and_numbers_for_many_steps(device, enabled):
    """100 steps with other inputs and another rate each: the same weights as the plain loop."""
    rng = torch.Generator().manual_seed(0)
    start = torch.randn(7, generator=rng, dtype=torch.float64)
    weights = start.to(device).requires_grad_()
    step = Graph(descent(weights), device, state=lambda: [weights], enabled=enabled)
    plain = start.clone().requires_grad_()
    for k in range(100):
        x = torch.randn(7, generator=rng, dtype=torch.float64)
        loss = step(x=x, lr=0.01 / (k + 1))["loss"]
        expected = descent(plain)(x, torch.tensor(0.01 / (k + 1), dtype=torch.float64))["loss"]
        torch.testing.assert_close(loss.cpu(), expected, rtol=1e-12, atol=1e-14)
    torch.testing.assert_close(weights.detach().cpu(), plain.detach(), rtol=1e-12, atol=1e-14)


def test_other_shapes_have_steps_of_their_own(device):
    step = Graph(lambda x: x * 2, device)
    for n in (2, 3, 2):
        assert step(x=torch.ones(n)).shape == (n,)


def test_function_sees_the_same_buffers_in_every_call():
    seen = []
    step = Graph(lambda x, rate: seen.append((x.data_ptr(), rate.data_ptr())), torch.device("cpu"))
    for k in range(3):
        step(x=torch.full((4,), float(k)), rate=k)
    assert len(set(seen)) == 1


@pytest.mark.parametrize("read", (lambda x: x.sum().item(), lambda x: x.nonzero(), lambda x: bool(x.any())))
def test_reading_a_value_on_the_host_is_refused_without_a_gpu(read):
    def step(x):
        read(x)
        return x

    with pytest.raises(RuntimeError, match="reads a value on the host"):
        Graph(step, torch.device("cpu"))(x=torch.ones(3))


@pytest.mark.gpu
def test_reading_a_value_on_the_host_names_the_way_out():
    if not torch.cuda.is_available():
        pytest.skip("no CUDA device")

    def step(x):
        return x * x.sum().item()

    with pytest.raises(RuntimeError, match="--no-graphs"):
        Graph(step, torch.device("cuda"))(x=torch.ones(3))
