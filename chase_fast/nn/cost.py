"""What a tracker network costs: parameters, and multiply-accumulates for one frame, part by part."""

import copy

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from chase_fast.errors import ChaseError
from chase_fast.kernels import target_filter
from chase_fast.nn.box_regressor import AtomIoUNet
from chase_fast.nn.tracker_net import TrackerNet

BOXES = 10  # that the published trackers refine in a frame
_STRIDE = 16


def cost(net: TrackerNet, image_size: int = 288) -> dict[str, dict[str, int]]:
    """Size and work of a network; the network itself is left as it is.

    Counted are the convolutions and matrix products for one search region [1, 3, image_size, image_size] in
    tracking: backbone; neck; the learned filter on its features (classifier); box features, and the head
    once on BOXES boxes (box). Not counted: norms, activations, pooling, and what does not run in every frame
    (learning the filter, the reference branch of the box regressor).

    Args:
        image_size: side of the search region, px, a multiple of 16.

    Returns:
        {"parameters": {part: number}, "macs": {part: number}}; parts are backbone, neck, classifier, box and
        total. A part that the network lacks costs 0.

    Raises:
        ChaseError: the image size is no multiple of 16.
    """
    if image_size < _STRIDE or image_size % _STRIDE:
        raise ChaseError(f"image size {image_size} must be a multiple of {_STRIDE}, e.g. 288")
    parts = (net.feature_extractor, net.neck, net.classifier, net.bb_regressor)
    names = ("backbone", "neck", "classifier", "box")
    parameters = [0 if part is None else sum(p.numel() for p in part.parameters()) for part in parts]
    tables = {"parameters": parameters, "macs": _macs(_skeleton(net), image_size)}
    return {key: dict(zip(names, values)) | {"total": sum(values)} for key, values in tables.items()}


def _skeleton(net: TrackerNet) -> TrackerNet:
    """The network in eval mode with shapes for weights: on the device `meta` every op runs its reference
    without computing, and the counter sees what is inside."""
    memo: dict[int, Tensor] = {}
    for tensor in (*net.parameters(), *net.buffers()):
        dtype = torch.float32 if tensor.is_floating_point() else tensor.dtype
        empty = torch.empty_like(tensor, device="meta", dtype=dtype)
        memo[id(tensor)] = nn.Parameter(empty) if isinstance(tensor, nn.Parameter) else empty
    return copy.deepcopy(net, memo).eval()


@torch.no_grad()
def _macs(net: TrackerNet, image_size: int) -> list[int]:
    """Of backbone, neck, classifier and box regressor of a skeleton."""
    image = torch.empty(1, 3, image_size, image_size, device="meta")
    with _Macs() as backbone:
        layer2, layer3 = net.feature_extractor(image)
    with _Macs() as neck:
        features = net.neck(layer2, layer3)
    size = net.classifier.filter_initializer.filter_size
    with _Macs() as classifier:
        target_filter.apply(features.unsqueeze(1), features.new_empty(1, features.shape[1], size, size))
    with _Macs() as box:
        if net.bb_regressor is not None:
            net.bb_regressor.features(layer2, layer3)
            _run_head(net.bb_regressor)
    return [part.total for part in (backbone, neck, classifier, box)]


def _run_head(regressor: AtomIoUNet) -> None:
    """The linear layers on values as they come from the pooling."""
    branches = (regressor.fc3_rt, regressor.fc4_rt)
    pooled = (torch.empty(BOXES, branch.linear.in_features, device="meta") for branch in branches)
    regressor.iou_predictor(torch.cat([branch(x) for branch, x in zip(branches, pooled)], 1))


class _Macs(FlopCounterMode):
    """Counts inside a `with` block; torch counts two operations per multiply-accumulate."""

    def __init__(self):
        super().__init__(display=False)

    @property
    def total(self) -> int:
        return self.get_total_flops() // 2
