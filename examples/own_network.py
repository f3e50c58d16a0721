"""The second-order architecture step (DARTS) on a network of your own: python examples/own_network.py

A small classifier chooses between three convolutions by softmax(alpha). Weights step on training batches;
alpha steps on validation batches with the gradient through one unrolled weight step. Nothing of a tracker
is needed: `FlatParameters` and `second_order` take any module and any alpha.
"""

import torch
from torch import nn
from torch.nn import functional as F

from chase_fast.search import FlatParameters, closure, second_order, weight_gradient


class Classifier(nn.Module):
    """[N, 1, 8, 8] -> 2 classes; `mixing` [3] weighs kernels of size 1, 3 and 5."""

    def __init__(self):
        super().__init__()
        self.convolutions = nn.ModuleList([nn.Conv2d(1, 8, k, padding=k // 2) for k in (1, 3, 5)])
        self.out = nn.Linear(8, 2)

    def forward(self, x: torch.Tensor, mixing: torch.Tensor) -> torch.Tensor:
        maps = [conv(x) for conv in self.convolutions]
        mixed = sum(weight * y for weight, y in zip(mixing, maps))
        return self.out(F.relu(mixed).mean((2, 3)))


def batch(n: int = 64) -> tuple[torch.Tensor, torch.Tensor]:
    """Stripes along x or along y: a kernel of size 1 cannot tell them apart."""
    labels = torch.randint(0, 2, (n,))
    stripes = torch.sign(torch.randn(n, 1, 8, 1)).expand(n, 1, 8, 8)
    images = torch.where(labels.view(n, 1, 1, 1) == 0, stripes, stripes.mT)
    return images + 0.3 * torch.randn(n, 1, 8, 8), labels


if __name__ == "__main__":
    torch.manual_seed(0)
    net, alpha, lr = Classifier(), torch.zeros(3), 0.1
    weights = FlatParameters(net.parameters())  # the module's parameters are now views of weights.values
    optimizer = torch.optim.Adam([alpha.requires_grad_()], lr=0.03)
    for step in range(200):
        (x, y), (x_val, y_val) = batch(), batch()

        # passes at the probes see frozen BatchNorm statistics and the same dropout
        loss_train = closure(net, lambda x=x, y=y: F.cross_entropy(net(x, alpha.softmax(0)), y))
        loss_val = closure(net, lambda x=x_val, y=y_val: F.cross_entropy(net(x, alpha.softmax(0)), y))
        found = second_order(loss_train, loss_val, alpha, weights, eta=lr)  # the weights are as before
        alpha.grad = found.galpha
        optimizer.step()

        _, (gradient,) = weight_gradient(loss_train, alpha, weights)
        weights.values -= lr * gradient
        if step % 40 == 39:
            mixing = [round(v, 3) for v in alpha.softmax(0).tolist()]
            print(f"step {step + 1}: validation loss {found.loss_val:.4f}, mixing of 1x1, 3x3, 5x5: {mixing}")
    assert alpha.softmax(0)[0] < 0.1, "the kernel that cannot see stripes should have lost"
