"""Search a cell with an operation of your own, train it, track with it: python examples/own_operation.py

An operation is a module per edge, [N, C, h, w] -> [N, C, h, w]. The search multiplies its output by the
mixing weight as it is, so end it in a batch norm if it has weights. On the command line the same file is
given to every command: `python -m chase_fast.search --import examples/own_operation.py --ops skip_connect
sep_conv_3x3 conv_1x1`.
"""

from pathlib import Path

import numpy as np
import torch

import chase_fast

OUT = Path("runs/example_operation")


def conv_1x1(channels: int) -> torch.nn.Module:
    return torch.nn.Sequential(
        torch.nn.Conv2d(channels, channels, 1, bias=False), torch.nn.BatchNorm2d(channels), torch.nn.ReLU()
    )


chase_fast.register_operation("conv_1x1", conv_1x1)

if __name__ == "__main__":
    again = {"resume": OUT.exists()}
    small = {"epochs": 2, "iterations": 5}
    found = chase_fast.search(
        "demo",
        OUT / "search",
        ops=("skip_connect", "sep_conv_3x3", "conv_1x1"),
        warmup_epochs=1,
        **small,
        **again,
    )
    print(found.genotype)
    trained = chase_fast.train("demo", OUT / "tracker", cell=found.cell, **small, **again)
    tracker = chase_fast.Tracker.load(trained.checkpoint, preset="fast")
    frame = np.random.default_rng(0).integers(0, 256, (240, 320, 3), np.uint8)
    tracker.init(frame, (100, 80, 40, 40))
    print("found in the same frame:", *map(round, tracker.update(frame).box))
