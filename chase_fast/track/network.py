"""A network made ready for tracking: batch norms folded, channels_last, no gradients, on one device.

With precision bf16 the convolutions of backbone, neck and box maps have weights and maps of 16 bits;
classification features are normalised, correlated and learned from in float32, boxes are pooled and refined
in float32.
"""

import contextlib
import copy
from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor

from chase_fast.device import resolve_device
from chase_fast.errors import ChaseError
from chase_fast.kernels import target_filter
from chase_fast.nn.box_regressor import Pair
from chase_fast.nn.inference import fold
from chase_fast.nn.tracker_net import TrackerNet
from chase_fast.track.layers import Layers
from chase_fast.track.native import on_cpu
from chase_fast.track.refine import BoxHead

PRECISIONS = ("fp32", "bf16")


class Network:
    """The parts of a `TrackerNet` as the tracker calls them; the net itself is left as it is.

    Args:
        precision: fp32 or bf16, see the module text.

    Raises:
        ChaseError: the net has no box regressor, there is no such device or precision, or the device cannot
            compute with it.
    """

    def __init__(
        self,
        net: TrackerNet,
        device: str | torch.device = "auto",
        precision: str = "fp32",
    ):
        if net.bb_regressor is None:
            raise ChaseError("this network has no box regressor: a tracker needs one, train it with boxes")
        self.device, self.precision = resolve_device(device), precision
        check_precision(precision, self.device)
        self._boxes = fold(net.bb_regressor).to(self.device)
        self.classifier = copy.deepcopy(net.classifier).eval().requires_grad_(False).to(self.device)
        self.head = BoxHead(self._boxes)
        self.dtype = self.classifier.filter_initializer.filter_conv.weight.dtype
        self.filter_size = self.classifier.filter_initializer.filter_size
        self.extra_logit: float | None = getattr(self.classifier.filter_optimizer, "softmax_reg", None)
        self.layers = Layers(net, self._boxes, self.device, self.dtype, precision)

    def upload(self, values: np.ndarray) -> Tensor:
        """An array as a tensor of the network's type on its device."""
        return torch.from_numpy(values).to(self.device, self.dtype, non_blocking=True)

    @contextlib.contextmanager
    def arithmetic(self) -> Iterator[None]:
        """On a GPU: its kernels are launched on this one, and float32 convolutions are float32 (TF32, torch's
        default there, keeps 10 bits)."""
        if self.device.type != "cuda":
            yield
            return
        exact = {"benchmark": False, "deterministic": True, "allow_tf32": False}
        with torch.cuda.device(self.device), torch.backends.cudnn.flags(enabled=True, **exact):
            yield

    def scores(self, features: Tensor, filters: Tensor) -> Tensor:
        """Features [K, C, h, w] and filters [K, C, k, k] of K targets -> score maps [K, S, S]."""
        return target_filter.apply(features.contiguous()[None], filters)[0]

    def modulation(self, layers: Pair, boxes: Tensor) -> Pair:
        """Target vectors of the box regressor, two [K, C, 1, 1]; layers: layer2, layer3 of K patches."""
        layer2, layer3 = (m.to(self.dtype) for m in layers)
        return self._boxes.modulation(layer2, layer3, boxes)

    def reference_maps(self, layers: Pair) -> Pair:
        """What the modulation is pooled from, of patches of the first frame."""
        layer2, layer3 = (m.to(self.dtype) for m in layers)
        return self._boxes.conv3_1r(layer2), self._boxes.conv4_1r(layer3)

    def about(self, graphs: bool) -> str:
        """Device, precision and whether frames are CUDA graphs, in one line."""
        return describe(self.device, self.precision, graphs)


def describe(
    device: torch.device,
    precision: str,
    graphs: bool,
    threads: int | None = None,
    engine: str = "",
    stored: str = "fp32",
) -> str:
    """What a tracker runs on; threads: of the CPU, torch's setting if None; engine: other than torch;
    stored: precision of an exported model."""
    if device.type == "cpu":
        return on_cpu(engine, threads or torch.get_num_threads(), precision, stored)
    convolutions = "bf16 convolutions" if precision == "bf16" else precision
    name = f" {torch.cuda.get_device_name(device)}" if device.type == "cuda" else ""
    how = "one CUDA graph per frame" if graphs else "no CUDA graphs"
    return f"{device}{name}, {convolutions}, {how}"


def check_precision(precision: str, device: torch.device) -> None:
    """Raises ChaseError if there is no such precision or the device has none."""
    if precision not in PRECISIONS:
        raise ChaseError(f"--precision {precision} is unknown, choose from {', '.join(PRECISIONS)}")
    if precision == "bf16" and device.type == "cuda" and not torch.cuda.is_bf16_supported(False):
        name = torch.cuda.get_device_name(device)
        raise ChaseError(f"--precision bf16: {name} does not compute with bfloat16, use fp32")
