"""Backbone: weight files, errors a user can make, calibration of BatchNorm, folding."""

import copy
import importlib.abc
import sys
import urllib.error

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from chase_fast.errors import ChaseError
from chase_fast.nn.backbone import (
    CHANNELS,
    UNFOLDED,
    Backbone,
    build_backbone,
    calibrate,
    freeze,
    is_folded,
    unfold,
)
from chase_fast.nn.resnet import ResNet, unused_shapes
from tests.tolerances import CALIBRATION, GOLDEN, KERNEL, assert_close, error


def pictures(count=4, size=64, seed=0):
    rng = torch.Generator().manual_seed(seed)
    return 2 * torch.randn(count, 3, size, size, generator=rng) + 0.5


@pytest.fixture(scope="module")
def resnet18():
    return build_backbone("resnet18", "random", seed=3)


@pytest.mark.parametrize("name", list(CHANNELS))
def test_strides_and_channels(name):
    backbone = build_backbone(name, "random").eval()
    with torch.no_grad():
        layer2, layer3 = backbone(pictures(1, 96))
    assert backbone.channels == CHANNELS[name]
    assert layer2.shape == (1, CHANNELS[name][0], 12, 12) and layer3.shape == (1, CHANNELS[name][1], 6, 6)


def test_random_weights_follow_the_seed_alone(resnet18):
    torch.manual_seed(1)
    before = torch.get_rng_state()
    again, other = build_backbone("resnet18", "random", seed=3), build_backbone("resnet18", "random", seed=4)
    assert torch.equal(before, torch.get_rng_state())
    assert torch.equal(again.conv1.weight, resnet18.conv1.weight)
    assert not torch.equal(other.conv1.weight, resnet18.conv1.weight)


@pytest.mark.parametrize("suffix", ["safetensors", "pth"])
def test_weight_file(resnet18, tmp_path, suffix):
    """Batch counters may be missing, layer4 and fc may be present."""
    state = {k: v.clone() for k, v in resnet18.state_dict().items() if not k.endswith("num_batches_tracked")}
    state |= {"fc.weight": torch.zeros(10, 512), "layer4.0.conv1.weight": torch.zeros(512, 256, 3, 3)}
    path = tmp_path / f"weights.{suffix}"
    save_file(state, path) if suffix == "safetensors" else torch.save(state, path)
    loaded = build_backbone("resnet18", path, seed=9)
    assert all(torch.equal(v, resnet18.state_dict()[k]) for k, v in loaded.state_dict().items())


def test_unusable_weight_files(resnet18, tmp_path):
    state = resnet18.state_dict()

    def error(name, content, backbone="resnet18"):
        path = tmp_path / name
        if isinstance(content, bytes):
            path.write_bytes(content)
        elif content is not None:
            torch.save(content, path)
        with pytest.raises(ChaseError) as caught:
            build_backbone(backbone, path)
        text = str(caught.value)
        assert name in text and "\n" not in text
        return text

    assert "no such file" in error("absent.pth", None)
    assert "cannot be read" in error("text.pth", b"not weights")
    assert "cannot be read" in error("text.safetensors", b"not weights")
    assert "cannot be read" in error("pickled.pth", {"net": ChaseError("x")})
    assert "cannot be read" in error("list.pth", [state])
    assert "missing bn1.weight" in error("missing.pth", {k: v for k, v in state.items() if k != "bn1.weight"})
    assert "unexpected neck.weight" in error("other.pth", state | {"neck.weight": torch.zeros(1)})
    assert "wrong shape of conv1.weight" in error(
        "shape.pth", state | {"conv1.weight": torch.zeros(64, 1, 7, 7)}
    )
    assert "resnet18" in error("depth.pth", state, "resnet50")
    assert "NaN" in error("nan.pth", state | {"bn1.bias": torch.full((64,), float("nan"))})


def test_truncated_file(resnet18, tmp_path):
    path = tmp_path / "half.safetensors"
    save_file({k: v.clone() for k, v in resnet18.state_dict().items()}, path)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(ChaseError, match="cannot be read"):
        build_backbone("resnet18", path)


def test_unknown_backbone():
    with pytest.raises(ChaseError, match="choose from resnet18, resnet50"):
        build_backbone("vgg", "random")


def test_download_without_network(monkeypatch):
    def refuse(*args, **kwargs):
        raise urllib.error.URLError("Name or service not known")

    monkeypatch.setattr("torchvision.models._api.load_state_dict_from_url", refuse)
    with pytest.raises(ChaseError, match=r"--backbone-weights FILE.*conv1\.weight"):
        build_backbone("resnet18", "imagenet")


@pytest.mark.parametrize(
    ("error", "fix"),
    [
        (RuntimeError("operator torchvision::nms does not exist"), "--force-reinstall torch torchvision"),
        (ModuleNotFoundError("No module named 'torchvision'"), "pip install torchvision"),
    ],
)
def test_broken_torchvision(monkeypatch, error, fix):
    class Broken(importlib.abc.MetaPathFinder):
        def find_spec(self, name, path, target=None):
            if name.partition(".")[0] == "torchvision":
                raise error

    for name in [m for m in sys.modules if m.partition(".")[0] == "torchvision"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setattr(sys, "meta_path", [Broken(), *sys.meta_path])
    build_backbone("resnet18", "random")
    with pytest.raises(ChaseError, match=fix):
        build_backbone("resnet18", "imagenet")


@pytest.mark.parametrize("name", ["resnet18", "resnet50"])
def test_names_initial_weights_and_values_are_those_of_torchvision(name):
    import torchvision.models

    networks = []
    for build in (getattr(torchvision.models, name), lambda: ResNet(name)):
        torch.manual_seed(3)
        networks.append(build().eval())
        networks[-1].drawn = torch.rand(2)
    theirs, ours = networks
    state = theirs.state_dict()
    assert list(state) == list(ours.state_dict())
    assert all(torch.equal(value, state[key]) for key, value in ours.state_dict().items())
    assert torch.equal(theirs.drawn, ours.drawn), "as many random numbers are drawn"
    images = torch.randn(2, 3, 64, 64)
    with torch.no_grad():
        layers = [Backbone(network, (0, 0))(images) for network in networks]
    assert all(torch.equal(a, b) for a, b in zip(*layers))
    unused = {key: v.shape for key, v in state.items() if key.startswith(("layer4.", "fc."))}
    assert unused_shapes(name) == unused


def test_calibrated_features_are_normalised():
    """In eval every BatchNorm then sees inputs of mean 0, variance 1 on the images it was calibrated with."""
    backbone = build_backbone("resnet18", "random").double()
    batches = [pictures(8, 96, seed=s).double() for s in range(2)]
    calibrate(backbone, batches[:1])
    assert backbone.training and backbone.bn1.momentum == 0.1
    backbone.eval()
    seen = {}
    for name, module in backbone.named_modules():
        if isinstance(module, nn.BatchNorm2d):
            module.register_forward_hook(lambda m, i, out, name=name: seen.update({name: out.clone()}))
    with torch.no_grad():
        backbone(batches[0])
    for name, out in seen.items():
        assert out.mean((0, 2, 3)).abs().max() < CALIBRATION, name
        assert (out.var((0, 2, 3)) - 1).abs().max() < CALIBRATION, name

    calibrate(backbone, batches)
    assert not backbone.training
    first, second = (backbone.conv1(b).mean((0, 2, 3)) for b in batches)
    torch.testing.assert_close(backbone.bn1.running_mean, (first + second) / 2)
    with pytest.raises(ValueError, match="at least one batch"):
        calibrate(backbone, [])


@pytest.mark.parametrize("name", list(CHANNELS))
def test_freeze_keeps_the_features(name):
    backbone = build_backbone(name, "random").double()
    calibrate(backbone, [pictures().double()])
    frozen = freeze(backbone).train()
    assert not any(isinstance(m, nn.BatchNorm2d) for m in frozen.modules())
    assert not any(p.requires_grad for p in frozen.parameters())
    assert all(p.requires_grad for p in backbone.parameters()) and isinstance(backbone.bn1, nn.BatchNorm2d)
    backbone.eval()
    x = pictures(2, 72, seed=5)
    with torch.no_grad():
        expected = backbone(x.double())
        for out, wanted in zip(frozen(x.double()), expected):
            assert_close(out, wanted, KERNEL[torch.float64])
        for out, wanted in zip(freeze(backbone.float())(x), expected):
            assert_close(out, wanted, GOLDEN["float32_forward"])
            assert out.is_contiguous(memory_format=torch.channels_last)


@torch.no_grad()
def folded(backbone):
    """A copy whose BatchNorm is in its convolutions but for the shift, as a file of folded weights has it."""
    backbone = copy.deepcopy(backbone)
    modules = dict(backbone.named_modules())
    for name, norm in modules.items():
        if isinstance(norm, nn.BatchNorm2d):
            before = name.replace("bn", "conv") if "bn" in name else name.removesuffix("1") + "0"
            scale = norm.weight / (norm.running_var + norm.eps).sqrt()
            modules[before].weight.mul_(scale.view(-1, 1, 1, 1))
            norm.bias.sub_(scale * norm.running_mean)
            for tensor, value in (
                (norm.weight, 1.0),
                (norm.running_mean, 0.0),
                (norm.running_var, 1 - norm.eps),
            ):
                tensor.fill_(value)
    return backbone


@pytest.fixture(scope="module")
def trained():
    """BatchNorm constants as after training, one dead channel."""
    backbone = build_backbone("resnet18", "random", seed=3).double()
    calibrate(backbone, [pictures(8, 96).double()])
    rng = torch.Generator().manual_seed(1)
    for norm in backbone.modules():
        if isinstance(norm, nn.BatchNorm2d):
            nn.init.uniform_(norm.weight, 0.3, 1.5, generator=rng)
            nn.init.normal_(norm.bias, std=0.3, generator=rng)
    backbone.conv1.weight.data[5] = 0
    backbone.bn1.running_mean[5] = 0
    return backbone.eval()


def test_folded_weights_are_recognised(resnet18, trained, tmp_path):
    assert not is_folded(resnet18) and not is_folded(trained) and not is_folded(freeze(trained))
    weights = folded(trained).float()
    path = tmp_path / "folded.safetensors"
    save_file(weights.state_dict(), path)
    assert is_folded(weights) and is_folded(weights.state_dict())
    assert is_folded(build_backbone("resnet18", path))
    weights.layer3[1].bn2.running_var[0] += 1e-3
    assert not is_folded(weights)


def test_unfolding_keeps_the_features_and_makes_batch_statistics_right(trained):
    weights, images = folded(trained), pictures(8, 96, seed=7).double()
    with torch.no_grad():
        expected, wrong = trained(images), copy.deepcopy(weights).train()(images)
        for out, wanted in zip(weights.eval()(images), expected):
            assert_close(out, wanted, KERNEL[torch.float64])
        assert all(error(out, wanted) > 0.3 for out, wanted in zip(wrong, expected))

        single = copy.deepcopy(weights).float()
        assert unfold(weights.train(), images.split(3)) == unfold(single, [images.float()]) == 8
        assert weights.training and not is_folded(weights) and "8" in UNFOLDED.format(images=8)
        for out, wanted in zip(weights.eval()(images), expected):
            assert_close(out, wanted, KERNEL[torch.float64], "eval")
        for out, wanted in zip(single.eval()(images.float()), expected):
            assert_close(out, wanted, GOLDEN["float32_forward"], "eval, float32")
        for out, wanted in zip(weights.train()(images), expected):
            assert_close(out, wanted, CALIBRATION, "train")
    for norm in weights.modules():
        if isinstance(norm, nn.BatchNorm2d):
            assert norm.weight.min() > 0 and norm.running_var.min() > 0 and norm.weight.isfinite().all()
    with pytest.raises(ValueError, match="at least one image"):
        unfold(weights, [])
