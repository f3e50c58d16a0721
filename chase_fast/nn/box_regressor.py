"""AtomIoUNet: scores boxes in a test frame, given one reference box of the target.

The raw output is 2 IoU - 1 in DiMP and an unnormalised log-density of the box in PrDiMP.
"""

import torch
from torch import nn

from chase_fast.kernels.prroi_pool import prroi_pool

STRIDES = (8, 16)  # of layer2, layer3, px
Pair = tuple[torch.Tensor, torch.Tensor]


def _conv(inputs: int, outputs: int, kernel: int, padding: int) -> nn.Sequential:
    conv = nn.Conv2d(inputs, outputs, kernel, padding=padding)
    return nn.Sequential(conv, nn.BatchNorm2d(outputs), nn.ReLU(inplace=True))


class LinearNorm(nn.Module):
    """Linear - BatchNorm - ReLU on a flattened map [B, C, h, w] (channel, row, column) -> [B, outputs]."""

    def __init__(self, inputs: int, outputs: int):
        super().__init__()
        self.linear = nn.Linear(inputs, outputs)
        self.bn: nn.Module = nn.BatchNorm2d(outputs)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.bn(self.linear(x.flatten(1))[..., None, None]).relu().flatten(1)


def rois(boxes: torch.Tensor) -> torch.Tensor:
    """Boxes [B, P, 4] as x, y, w, h (px) -> [B * P, 5] as image index, x0, y0, x1, y1."""
    b, p = boxes.shape[:2]
    index = torch.arange(b, dtype=boxes.dtype, device=boxes.device).view(b, 1, 1).expand(b, p, 1)
    return torch.cat((index, boxes[..., :2], boxes[..., :2] + boxes[..., 2:]), -1).flatten(0, 1)


def _pool(maps: torch.Tensor, roi: torch.Tensor, size: int, stride: int) -> torch.Tensor:
    """PrRoIPool size x size on maps of a stride; 16-bit maps (autocast) are pooled in float32."""
    return prroi_pool(maps.float() if maps.element_size() == 2 else maps, roi, (size, size), 1 / stride)


class AtomIoUNet(nn.Module):
    """Box regressor on layer2 (stride 8) and layer3 (stride 16).

    Args:
        in_channels: channels of (layer2, layer3).
        pool_channels: channels of the maps that are pooled.
        hidden: units of each of the two branches of the head.
    """

    def __init__(
        self, in_channels: tuple[int, int] = (512, 1024), pool_channels: int = 256, hidden: int = 256
    ):
        super().__init__()
        c2, c3 = in_channels
        self.conv3_1r = _conv(c2, 128, 3, 1)
        self.conv3_1t = _conv(c2, 256, 3, 1)
        self.conv3_2t = _conv(256, pool_channels, 3, 1)
        self.fc3_1r = _conv(128, 256, 3, 0)
        self.conv4_1r = _conv(c3, 256, 3, 1)
        self.conv4_1t = _conv(c3, 256, 3, 1)
        self.conv4_2t = _conv(256, pool_channels, 3, 1)
        self.fc34_3r = _conv(512, pool_channels, 1, 0)
        self.fc34_4r = _conv(512, pool_channels, 1, 0)
        self.fc3_rt = LinearNorm(pool_channels * 5 * 5, hidden)
        self.fc4_rt = LinearNorm(pool_channels * 3 * 3, hidden)
        self.iou_predictor = nn.Linear(2 * hidden, 1)
        for module in self.modules():
            if isinstance(module, nn.Conv2d | nn.Linear):
                nn.init.kaiming_normal_(module.weight, mode="fan_in")
                if module.bias is not None:
                    nn.init.zeros_(module.bias)
            elif isinstance(module, nn.BatchNorm2d):
                nn.init.uniform_(module.weight)

    def modulation(self, layer2: torch.Tensor, layer3: torch.Tensor, boxes: torch.Tensor) -> Pair:
        """Target vectors of reference frames: layer2, layer3 [s, ...], boxes [s, 4] -> two [s, C, 1, 1]."""
        roi = rois(boxes.unsqueeze(1))
        low = self.fc3_1r(_pool(self.conv3_1r(layer2), roi, 3, STRIDES[0]))
        high = _pool(self.conv4_1r(layer3), roi, 1, STRIDES[1])
        both = torch.cat((low, high), 1)  # [s, 512, 1, 1]
        return self.fc34_3r(both), self.fc34_4r(both)

    def features(self, layer2: torch.Tensor, layer3: torch.Tensor) -> Pair:
        """Test-frame maps that boxes are pooled from: [B, C, h, w] of strides 8 and 16."""
        return self.conv3_2t(self.conv3_1t(layer2)), self.conv4_2t(self.conv4_1t(layer3))

    def predict(self, modulation: Pair, features: Pair, boxes: torch.Tensor) -> torch.Tensor:
        """Score of every box.

        The maps are pooled unmodulated and the pooled values scaled (both linear, per channel): same result,
        and the maps are pooled once whatever the target.

        Args:
            modulation: two [s, C, 1, 1].
            features: two [B, C, h, w], B = n * s, frame-major (n, s).
            boxes: [B, P, 4] px.

        Returns: [B, P].
        """
        b, p = boxes.shape[:2]
        roi = rois(boxes)
        hidden = []
        for target, maps, size, stride, head in zip(
            modulation, features, (5, 3), STRIDES, (self.fc3_rt, self.fc4_rt), strict=True
        ):
            pooled = _pool(maps, roi, size, stride)  # [B P, C, size, size]
            per_box = target.repeat(b // target.shape[0], 1, 1, 1).repeat_interleave(p, 0)  # [B P, C, 1, 1]
            hidden.append(head(pooled * per_box))
        return self.iou_predictor(torch.cat(hidden, 1)).view(b, p)

    def forward(
        self, reference: Pair, test: Pair, reference_boxes: torch.Tensor, boxes: torch.Tensor
    ) -> torch.Tensor:
        """Training pass.

        Args:
            reference: layer2, layer3 of one reference frame per sequence, [s, ...].
            test: layer2, layer3 of the test frames, [n * s, ...].
            reference_boxes: [s, 4] px.
            boxes: [n, s, P, 4] px.

        Returns: [n, s, P].
        """
        modulation = self.modulation(*reference, reference_boxes)
        return self.predict(modulation, self.features(*test), boxes.flatten(0, 1)).view(boxes.shape[:3])
