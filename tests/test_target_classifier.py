"""Target classifier: the pooled-first initializer against convolution and pooling, starts, layouts."""

import math

import pytest
import torch

from chase_fast.errors import ChaseError
from chase_fast.kernels.prroi_pool.reference import prroi_pool
from chase_fast.nn.box_regressor import rois
from chase_fast.nn.losses import prdimp_loss
from chase_fast.nn.target_classifier import FilterInitializer, TargetClassifier
from tests.tolerances import KERNEL, assert_close

BOXES = torch.tensor(
    [
        [[30.0, 40.0, 50.0, 35.0], [-20.0, 90.0, 60.0, 80.0]],  # inside; over the border
        [[-10.0, -10.0, 140.0, 140.0], [50.0, 50.0, 0.0, 20.0]],  # whole map; empty
        [[0.0, 0.0, 16.0, 16.0], [300.0, 20.0, 30.0, 30.0]],  # corner cell; outside
    ],
    dtype=torch.float64,
)


@pytest.mark.parametrize("k", [1, 3, 4])
def test_initializer_equals_convolution_then_pooling(k):
    torch.manual_seed(0)
    net = FilterInitializer(5, k, zero=False).double()
    torch.nn.init.normal_(net.filter_conv.bias)
    features = torch.randn(3, 2, 5, 8, 7, dtype=torch.float64, requires_grad=True)
    leaves = (features, net.filter_conv.weight, net.filter_conv.bias)

    maps = net.filter_conv(features.flatten(0, 1))
    expected = (
        prroi_pool(maps, rois(BOXES.flatten(0, 1).unsqueeze(1)), (k, k), 1 / 16).view(3, 2, 5, k, k).mean(0)
    )
    filters = net(features, BOXES)
    assert_close(filters, expected, KERNEL[torch.float64])
    grad = torch.randn(expected.shape, dtype=torch.float64)
    for ours, theirs in zip(
        torch.autograd.grad(filters, leaves, grad), torch.autograd.grad(expected, leaves, grad)
    ):
        assert_close(ours, theirs, KERNEL[torch.float64])


def test_prdimp_starts_at_the_uniform_distribution():
    """Zero-initialised filters: the first loss is the log of the cell count, and the solver lowers it."""
    torch.manual_seed(0)
    classifier = TargetClassifier(8, "prdimp")
    train = torch.randn(3, 2, 8, 18, 18)
    boxes = torch.tensor([120.0, 100.0, 50.0, 60.0]).expand(3, 2, 4)
    train[..., 8, 9] += 3  # the target's cell looks the same in every frame
    scores = classifier(train, train, boxes)
    assert [tuple(s.shape) for s in scores] == [(3, 2, 19, 19)] * 6
    density = classifier.filter_optimizer.label(boxes, (19, 19), 4)
    loss = prdimp_loss(scores, density)
    assert loss["initial"].item() == pytest.approx(math.log(361), rel=1e-6)
    assert loss["final"] < 0.9 * loss["initial"]
    assert loss["total"].item() == pytest.approx(
        0.25 * loss["final"].item() + 0.25 * loss["initial"].item() + loss["middle"].item(), rel=1e-6
    )


@pytest.mark.parametrize("kind", ["prdimp", "dimp"])
def test_layout_does_not_matter_and_every_parameter_learns(kind):
    torch.manual_seed(1)
    classifier = TargetClassifier(6, kind, feature_size=9, iterations=2)
    torch.nn.init.normal_(classifier.filter_initializer.filter_conv.weight, std=0.1)
    frames = torch.randn(4, 6, 9, 9)
    boxes = torch.tensor([40.0, 50.0, 30.0, 40.0]).expand(2, 2, 4)

    def scores(x):
        x = x.unflatten(0, (2, 2))
        return torch.stack(classifier(x, x, boxes))

    assert_close(
        scores(frames.contiguous(memory_format=torch.channels_last)), scores(frames), KERNEL[torch.float32]
    )
    scores(frames).square().sum().backward()
    for name, parameter in classifier.named_parameters():
        assert parameter.grad is not None and parameter.grad.abs().sum() > 0, name


def test_sigma_follows_the_feature_size():
    assert TargetClassifier(4).filter_optimizer.sigma == pytest.approx(0.9)
    assert TargetClassifier(4, feature_size=22, sigma=0.9).filter_optimizer.sigma == 0.9


def test_unknown_kind():
    with pytest.raises(ChaseError, match="choose prdimp or dimp"):
        TargetClassifier(4, "siam")
