"""Precise RoI pooling in a model of your own: python examples/roi_pooling.py

Unlike RoIAlign it has exact gradients to the boxes: below, boxes climb to where a feature map says the
object is.
"""

import torch
from torch import nn

from chase_fast.nn import PrRoIPool


class Head(nn.Module):
    """Scores boxes on a feature map: pooled to 3 x 3, then a linear layer."""

    def __init__(self, channels: int, stride: int):
        super().__init__()
        self.pool = PrRoIPool(3, scale=1 / stride)
        self.score = nn.Linear(channels * 9, 1)

    def forward(self, features: torch.Tensor, boxes: torch.Tensor) -> torch.Tensor:
        """features [N, C, H, W]; boxes [R, 5] = (image index, x0, y0, x1, y1) in pixels -> [R]."""
        return self.score(self.pool(features, boxes).flatten(1)).squeeze(1)


if __name__ == "__main__":
    torch.manual_seed(0)
    stride, target = 8, torch.tensor([96.0, 64.0, 160.0, 144.0])  # x0, y0, x1, y1 in pixels
    features = torch.zeros(1, 4, 32, 32)
    features[:, :, 8:18, 12:20] = 1  # the object, in cells
    head = Head(4, stride)
    nn.init.ones_(head.score.weight)  # the mean over the box ...
    boxes = torch.tensor([[0, 80.0, 48.0, 176.0, 160.0]], requires_grad=True)
    for step in range(200):
        area = (boxes[:, 3] - boxes[:, 1]) * (boxes[:, 4] - boxes[:, 2])
        gain = head(features, boxes).sum() + 8 * area.log().sum()  # ... and a preference for large boxes
        (gradient,) = torch.autograd.grad(gain, boxes)
        with torch.no_grad():
            boxes += 5 * gradient
        if step % 40 == 0:
            print(f"step {step}: box", [round(v, 1) for v in boxes[0, 1:].tolist()])
    print("object:", target.tolist(), "found:", [round(v, 1) for v in boxes[0, 1:].tolist()])
    assert (boxes[0, 1:] - target).abs().max() < 10
