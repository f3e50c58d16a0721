"""TrackerNet: one small forward, separate statistics of train and test frames, published names."""

import pytest
import torch

from chase_fast.nn.box_regressor import AtomIoUNet
from chase_fast.nn.losses import dimp_loss, kl_box_loss
from chase_fast.nn.tracker_net import dimp18, from_published, prdimp18, to_published


@pytest.fixture(scope="module")
def net():
    return prdimp18(backbone_weights="random", seed=1)


def batch(n=2, s=2, size=96, proposals=3):
    rng = torch.Generator().manual_seed(0)
    boxes = torch.tensor([30.0, 36.0, 30.0, 24.0]).expand(n, s, 4)
    return (
        torch.randn(n, s, 3, size, size, generator=rng),
        torch.randn(n + 1, s, 3, size, size, generator=rng),
        boxes,
        boxes[:1, :, None].expand(n + 1, s, proposals, 4) + torch.rand(n + 1, s, proposals, 4, generator=rng),
    )


def test_forward_and_running_statistics(net):
    """Numbers of train and test frames may differ; each set updates the statistics once."""
    net.train()
    before = net.feature_extractor.bn1.num_batches_tracked.item()
    train, test, boxes, proposals = batch()
    scores, box_scores = net(train, test, boxes, proposals)
    assert len(scores) == 6 and scores[0].shape == (3, 2, 7, 7) and box_scores.shape == (3, 2, 3)
    assert net.feature_extractor.bn1.num_batches_tracked.item() == before + 2
    scores, box_scores = net(train, test, boxes)
    assert box_scores is None


def test_a_seed_makes_the_same_net(net):
    again = prdimp18(backbone_weights="random", seed=1)
    for name, parameter in again.named_parameters():
        assert torch.equal(parameter, dict(net.named_parameters())[name]), name


def test_published_names_and_back(net):
    state = dimp18(backbone_weights="random").state_dict()
    published = to_published(state)
    assert "classifier.feature_extractor.0.conv1.weight" in published
    assert "classifier.filter_optimizer.target_mask_predictor.0.weight" in published
    extra = {
        "feature_extractor.fc.weight": torch.zeros(1),
        "feature_extractor.layer4.0.bn1.bias": torch.zeros(1),
    }
    back = from_published(published | extra)
    assert back.keys() == state.keys() and all(torch.equal(back[k], state[k]) for k in state)


def test_boxes_are_scored_independently():
    """In eval mode neighbours do not change a box's score, and each frame uses its sequence's target."""
    torch.manual_seed(0)
    net = AtomIoUNet((4, 6), pool_channels=8, hidden=5).double().eval()
    low, high = torch.randn(4, 4, 12, 12).double(), torch.randn(4, 6, 6, 6).double()  # n = 2, s = 2
    boxes = 20 + 30 * torch.rand(4, 3, 4).double()
    modulation = net.modulation(low[:2], high[:2], boxes[:2, 0])
    maps = net.features(low, high)
    scores = net.predict(modulation, maps, boxes)
    for frame in range(4):
        alone = net.predict(
            tuple(m[frame % 2, None] for m in modulation),
            tuple(m[frame, None] for m in maps),
            boxes[frame, None, 1:2],
        )
        torch.testing.assert_close(alone[0, 0], scores[frame, 1])


def test_losses_without_middle_iterates():
    label = torch.rand(2, 1, 5, 5) + 0.1
    terms = dimp_loss([label, label], label)
    assert terms.keys() == {"total", "final", "initial"} and terms["total"] == 0


def test_box_loss_does_not_see_an_offset():
    """Only differences of the box scores matter when q = p."""
    scores, density = torch.randn(4, 16).double(), torch.rand(4, 16).double() + 0.1
    torch.testing.assert_close(
        kl_box_loss(scores + 3, density, density), kl_box_loss(scores, density, density)
    )
