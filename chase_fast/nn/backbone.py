"""ResNet-18 / ResNet-50 up to layer3: two feature maps of strides 8 and 16.

Input: RGB / 255, minus MEAN, divided by STD. Feature cell j of a stride-S map is centred at pixel S * j.
torchvision is imported only for its ImageNet weights.
"""

import copy
import importlib
from collections.abc import Iterable, Mapping
from pathlib import Path

import torch
from torch import nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from chase_fast.errors import ChaseError
from chase_fast.files import user_path
from chase_fast.nn.resnet import ResNet
from chase_fast.nn.seeded import seeded
from chase_fast.nn.spec import CHANNELS
from chase_fast.weights import check_types, find, open_weights, tensors_of

MEAN = (0.485, 0.456, 0.406)
STD = (0.229, 0.224, 0.225)
UNFOLDED = (
    "backbone: its BatchNorm was folded into the convolutions; un-folded with the statistics of {images} "
    "training images, so that it can be trained (--freeze-backbone-bn keeps it folded)"
)
_EPS = 1e-5  # of BatchNorm
_UNUSED = ("layer4.", "fc.")
MARK = "layer1.0.conv1.weight"  # a key of every ResNet


class Backbone(nn.Module):
    """conv1 to layer3 of a ResNet, with torchvision's parameter names.

    Attributes:
        channels: channels of (layer2, layer3).
    """

    conv1: nn.Conv2d
    bn1: nn.Module
    relu: nn.Module
    maxpool: nn.Module
    layer1: nn.Module
    layer2: nn.Module
    layer3: nn.Module

    def __init__(self, resnet: nn.Module, channels: tuple[int, int]):
        super().__init__()
        self.channels = channels
        for name in ("conv1", "bn1", "relu", "maxpool", "layer1", "layer2", "layer3"):
            setattr(self, name, getattr(resnet, name))

    def forward(self, images: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Normalised images [B, 3, H, W] -> layer2 [B, c2, H/8, W/8], layer3 [B, c3, H/16, W/16]."""
        x = self.maxpool(self.relu(self.bn1(self.conv1(images))))
        layer2 = self.layer2(self.layer1(x))
        return layer2, self.layer3(layer2)


def build_backbone(name: str, weights: str | Path = "imagenet", seed: int = 0) -> Backbone:
    """A ResNet up to layer3.

    Args:
        name: resnet18 or resnet50.
        weights: imagenet (torchvision's V1 weights, downloaded once), random (He initialisation from `seed`;
            call `calibrate` before using it frozen) or a file of torch.save or safetensors with a state dict
            in torchvision's key names, under any name and prefix; layer4 and fc may be missing.

    Raises:
        ChaseError: unknown name, no torchvision that matches torch or no download for imagenet, unusable
            weight file.
    """
    if name not in CHANNELS:
        raise ChaseError(f"unknown backbone {name!r}, choose from {', '.join(CHANNELS)}")
    with seeded(seed):
        backbone = Backbone(ResNet(name), CHANNELS[name])
    if str(weights) == "imagenet":
        _load(backbone, _download(name), name, "torchvision's ImageNet weights")
    elif str(weights) != "random":
        _load(backbone, _read(user_path(weights)), name, str(weights))
    return backbone


@torch.no_grad()
def calibrate(backbone: Backbone, batches: Iterable[torch.Tensor]) -> None:
    """Sets the BatchNorm running statistics to the average over `batches` of images [B, 3, H, W], in place.

    Every layer is measured on inputs normalised with batch statistics, so one pass is exact layer by layer.

    Raises:
        ValueError: no batch was given.
    """
    norms = [m for m in backbone.modules() if isinstance(m, nn.BatchNorm2d)]
    training, momenta = backbone.training, [m.momentum for m in norms]
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None  # cumulative average
    backbone.train()
    count = 0
    for count, images in enumerate(batches, 1):  # noqa: B007
        backbone(images)
    backbone.train(training)
    for norm, momentum in zip(norms, momenta):
        norm.momentum = momentum
    if count == 0:
        raise ValueError("calibrate needs at least one batch of images")


def is_folded(backbone: nn.Module | Mapping[str, torch.Tensor]) -> bool:
    """Whether every BatchNorm of a backbone (or of its state dict) has been folded into its convolution.

    That is: weight 1, running_mean 0, running_var 1 - eps or 1 throughout, and a bias, the shift, somewhere.
    Such a backbone is right in eval mode only: with batch statistics its layers lose their scales. A network
    that has never been trained has the same constants, but no shift.
    """
    state = backbone.state_dict() if isinstance(backbone, nn.Module) else backbone
    norms = [key.removesuffix("running_mean") for key in state if key.endswith("running_mean")]
    constants = (("weight", 1.0), ("running_mean", 0.0), ("running_var", 1.0))
    return any(bool(state[norm + "bias"].any()) for norm in norms) and all(
        bool(((state[norm + name] - value).abs() <= 1.1 * _EPS).all())
        for norm in norms
        for name, value in constants
    )


@torch.no_grad()
def unfold(backbone: Backbone, batches: Iterable[torch.Tensor]) -> int:
    """Gives a folded backbone BatchNorm layers of its own again, in place.

    With mean m and standard deviation s of what the convolution in front of a layer puts out for the images:
    running_mean = m, running_var = s^2 - eps, weight = s, bias = shift + m. The output in eval mode stays as
    it was, and on such images batch statistics change it little.
    A channel that hardly varies takes s^2 = 2 eps, which keeps its output too.

    Args:
        batches: a few hundred images of training, normalised, in batches [B, 3, H, W].

    Returns:
        The number of images.

    Raises:
        ValueError: no image was given.
    """
    sums = {
        norm: torch.zeros(2, norm.num_features, dtype=torch.float64, device=norm.weight.device)
        for norm in backbone.modules()
        if isinstance(norm, nn.BatchNorm2d)
    }
    counts = dict.fromkeys(sums, 0)

    def measure(norm: nn.BatchNorm2d, inputs: tuple[torch.Tensor]) -> None:
        values = inputs[0].double()
        sums[norm] += torch.stack([values.sum((0, 2, 3)), values.square().sum((0, 2, 3))])
        counts[norm] += values.numel() // values.shape[1]

    hooks = [norm.register_forward_pre_hook(measure) for norm in sums]
    training, images = backbone.training, 0
    backbone.eval()
    try:
        for batch in batches:
            backbone.forward(batch)  # not a compiled call: it would not see the hooks
            images += len(batch)
    finally:
        backbone.train(training)
        for hook in hooks:
            hook.remove()
    if not images:
        raise ValueError("unfold needs at least one image")
    for norm, (total, squares) in sums.items():
        mean = total / counts[norm]
        variance = (squares / counts[norm] - mean.square()).clamp(min=2 * norm.eps)
        assert norm.running_mean is not None and norm.running_var is not None
        scale = norm.weight / (norm.running_var + norm.eps).sqrt()
        norm.bias.add_(scale * (mean - norm.running_mean))
        norm.weight.copy_(scale * variance.sqrt())
        norm.running_mean.copy_(mean)
        norm.running_var.copy_(variance - norm.eps)
    return images


def freeze(backbone: Backbone) -> Backbone:
    """A copy for inference: eval statistics folded into the convolutions, channels_last, no gradients.

    Without BatchNorm layers left, train() and eval() make no difference to it.
    """
    frozen = copy.deepcopy(backbone).eval()
    for module in frozen.modules():
        children = list(module.named_children())
        for name, norm in children:
            if isinstance(norm, nn.BatchNorm2d):
                before = _conv_before(name)
                setattr(module, before, fuse_conv_bn_eval(getattr(module, before), norm))
                setattr(module, name, nn.Identity())
    return frozen.requires_grad_(False).to(memory_format=torch.channels_last)


def _conv_before(norm_name: str) -> str:
    """Name of the convolution in front of a BatchNorm: bn2 -> conv2, and 1 -> 0 inside a downsample pair."""
    return norm_name.replace("bn", "conv") if norm_name.startswith("bn") else "0"


def _torchvision_models():
    try:
        return importlib.import_module("torchvision.models")
    except ModuleNotFoundError as e:
        raise ChaseError(
            f"{e}: its ImageNet weights need torchvision, run `pip install torchvision`"
        ) from None
    except (ImportError, RuntimeError, OSError, AttributeError) as e:
        raise ChaseError(
            f"the installed torchvision does not match torch {torch.__version__} ({_first_line(e)}): run "
            "`pip install --force-reinstall torch torchvision` with both from the same index"
        ) from None


def _download(name: str) -> dict[str, torch.Tensor]:
    weights = getattr(_torchvision_models(), name.replace("resnet", "ResNet") + "_Weights").IMAGENET1K_V1
    try:
        return weights.get_state_dict(progress=False, check_hash=True)
    except (OSError, RuntimeError) as e:  # urllib's errors are OSErrors; a wrong hash is a RuntimeError
        raise ChaseError(
            f"cannot download the ImageNet weights of {name} ({_first_line(e)}): give a file with "
            "--backbone-weights FILE, a .safetensors or .pth state dict with torchvision's key names "
            "(conv1.weight, bn1.weight, layer1.0.conv1.weight, ...)"
        ) from None


def _read(path: Path) -> dict[str, torch.Tensor]:
    """The weights of a ResNet in a file of any training code (see `weights`); nothing of it is executed."""
    what = "backbone weights"
    with open_weights(path, what) as content:
        if (found := find(content, (MARK,), f"{what} {path}")) is None:
            raise ChaseError(
                f"{what} {path}: cannot be read as a ResNet: no state dict of tensors with torchvision's key "
                f"names ({MARK}, ...)"
            )
        return tensors_of(found.state)


def _load(backbone: Backbone, state: dict[str, torch.Tensor], name: str, origin: str) -> None:
    """Copies a torchvision state dict into the backbone, strictly but for layer4, fc and batch counters."""
    state = {k: v for k, v in state.items() if not k.startswith(_UNUSED)}
    own = backbone.state_dict()
    other = "resnet50" if name == "resnet18" else "resnet18"
    is_bottleneck = any(".conv3." in k for k in state)
    if any(k.startswith("layer1.") for k in state) and is_bottleneck != (name == "resnet50"):
        raise ChaseError(
            f"backbone weights {origin}: have the blocks of {other}, not of {name}; choose the other backbone"
        )
    missing = [k for k in own if k not in state and not k.endswith("num_batches_tracked")]
    unexpected = [k for k in state if k not in own]
    wrong = [k for k in own if k in state and state[k].shape != own[k].shape]
    for problem, keys in (("missing", missing), ("unexpected", unexpected), ("wrong shape of", wrong)):
        if keys:
            more = f" and {len(keys) - 1} more" if len(keys) > 1 else ""
            raise ChaseError(
                f"backbone weights {origin}: {problem} {keys[0]}{more}; "
                f"{name} needs torchvision's key names and shapes"
            )
    check_types(own, state, f"backbone weights {origin}")
    backbone.load_state_dict(state, strict=False)


def _first_line(error: BaseException) -> str:
    text = str(error).strip()
    return text.splitlines()[0] if text else type(error).__name__
