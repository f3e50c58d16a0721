"""ResNet-18 and -50 up to layer3, with torchvision's parameter names and, by seed, its initial weights.

Building them here saves every tracker the import of torchvision.models (and of torch._dynamo behind it).
Source: He et al., Deep Residual Learning for Image Recognition (2016); the stride of a bottleneck is in its
3x3 convolution.
"""

import torch
from torch import Tensor, nn

from chase_fast.nn.shapes import shapes_only

BLOCKS = {"resnet18": (2, 2, 2, 2), "resnet50": (3, 4, 6, 3)}
WIDTHS = (64, 128, 256, 512)  # of layer1 to layer4
CLASSES = 1000


def _conv(inputs: int, outputs: int, kernel: int, stride: int = 1) -> nn.Conv2d:
    return nn.Conv2d(inputs, outputs, kernel, stride, padding=kernel // 2, bias=False)


class BasicBlock(nn.Module):
    """Two 3x3 convolutions and a shortcut: [N, inputs, h, w] -> [N, width, h / stride, w / stride]."""

    expansion = 1

    def __init__(self, inputs: int, width: int, stride: int, downsample: nn.Module | None):
        super().__init__()
        self.conv1, self.bn1 = _conv(inputs, width, 3, stride), nn.BatchNorm2d(width)
        self.relu = nn.ReLU(inplace=True)
        self.conv2, self.bn2 = _conv(width, width, 3), nn.BatchNorm2d(width)
        self.downsample = downsample

    def forward(self, x: Tensor) -> Tensor:
        y = self.relu(self.bn1(self.conv1(x)))
        y = self.bn2(self.conv2(y))
        y += x if self.downsample is None else self.downsample(x)
        return self.relu(y)


class Bottleneck(nn.Module):
    """1x1, 3x3 and 1x1 convolutions and a shortcut: -> [N, 4 width, h / stride, w / stride]."""

    expansion = 4

    def __init__(self, inputs: int, width: int, stride: int, downsample: nn.Module | None):
        super().__init__()
        outputs = width * self.expansion
        self.conv1, self.bn1 = _conv(inputs, width, 1), nn.BatchNorm2d(width)
        self.conv2, self.bn2 = _conv(width, width, 3, stride), nn.BatchNorm2d(width)
        self.conv3, self.bn3 = _conv(width, outputs, 1), nn.BatchNorm2d(outputs)
        self.relu = nn.ReLU(inplace=True)
        self.downsample = downsample

    def forward(self, x: Tensor) -> Tensor:
        y = self.relu(self.bn1(self.conv1(x)))
        y = self.relu(self.bn2(self.conv2(y)))
        y = self.bn3(self.conv3(y))
        y += x if self.downsample is None else self.downsample(x)
        return self.relu(y)


class ResNet(nn.Module):
    """The parts of a ResNet; a classifier's layer4 and fc are made, too: they take random numbers.

    Args:
        name: resnet18 or resnet50.
    """

    def __init__(self, name: str):
        super().__init__()
        block = Bottleneck if name == "resnet50" else BasicBlock
        inputs = WIDTHS[0]
        self.conv1 = nn.Conv2d(3, inputs, 7, stride=2, padding=3, bias=False)
        self.bn1 = nn.BatchNorm2d(inputs)
        self.relu = nn.ReLU(inplace=True)
        self.maxpool = nn.MaxPool2d(3, stride=2, padding=1)
        for number, (count, width) in enumerate(zip(BLOCKS[name], WIDTHS), 1):
            blocks = []
            for k in range(count):
                stride, outputs = 2 if k == 0 and number > 1 else 1, width * block.expansion
                shortcut = None
                if stride > 1 or inputs != outputs:
                    shortcut = nn.Sequential(_conv(inputs, outputs, 1, stride), nn.BatchNorm2d(outputs))
                blocks.append(block(inputs, width, stride, shortcut))
                inputs = outputs
            setattr(self, f"layer{number}", nn.Sequential(*blocks))
        self.fc = nn.Linear(inputs, CLASSES)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")


def unused_shapes(name: str) -> dict[str, torch.Size]:
    """Keys and shapes of what no tracker runs: layer4 and fc."""
    with shapes_only():
        state = ResNet(name).state_dict()
    return {key: tensor.shape for key, tensor in state.items() if key.startswith(("layer4.", "fc."))}
