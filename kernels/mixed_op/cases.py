"""Shapes of `mixed_op` for its tests and its bench. CHASE: C = 256, sources with 4, 4, 3, 2, 1 edges."""

from dataclasses import dataclass

import torch

from .._layout import channels_last

POOLS = ("max_pool_3x3", "avg_pool_3x3")
ALL = (*POOLS, "sep_conv_3x3", "sep_conv_5x5", "dil_conv_3x3", "dil_conv_5x5")


@dataclass(frozen=True)
class Case:
    name: str
    n: int
    channels: int
    height: int
    width: int
    edges: int
    ops: tuple[str, ...] = ALL
    flavour: str = "chase"
    groups: int = 1
    training: bool = True


TESTS = (
    Case("tiny", 4, 3, 5, 4, 2, groups=2),
    Case("tiny_darts", 4, 3, 5, 4, 2, (POOLS[1], *ALL[3:5]), flavour="darts", groups=2),
    Case("tiny_eval", 2, 3, 5, 4, 2, (POOLS[0], *ALL[2:4]), training=False, groups=2),
    Case("tiny_mixed_order", 2, 3, 5, 4, 2, ("dil_conv_5x5", "avg_pool_3x3", "sep_conv_3x3")),
    Case("tiny_one_dil", 2, 3, 5, 4, 1, ("dil_conv_3x3",)),
    Case("tiny_pools", 2, 3, 5, 4, 1, POOLS),
    Case("odd", 1, 20, 17, 19, 3),
    Case("odd_eval", 1, 20, 17, 19, 1, flavour="darts", training=False),
)
PAPER = (
    Case("small_source0", 6, 128, 18, 18, 4, groups=2),
    Case("small_source0_darts", 6, 128, 18, 18, 4, flavour="darts", groups=2),
    Case("small_source4", 6, 128, 18, 18, 1, groups=2),
    Case("paper_source0", 60, 256, 18, 18, 4, groups=2),
    Case("paper_source0_darts", 60, 256, 18, 18, 4, flavour="darts", groups=2),
    Case("paper_source4", 60, 256, 18, 18, 1, groups=2),
    Case("demo_source0", 16, 16, 9, 9, 4, groups=2),
)
DIFFERENTIABLE = ("x", "depthwise", "pointwise", "gamma", "beta")


def inputs(case: Case, device="cpu", dtype=torch.float32, seed: int = 0) -> dict:
    """Keyword arguments of the op; x is channels_last. Weights of a bfloat16 x are float32."""
    rng = torch.Generator().manual_seed(seed)

    def randn(*shape):
        return torch.randn(*shape, generator=rng, dtype=torch.float64)

    def tensor(t):
        return t.to(device, torch.float32 if dtype == torch.bfloat16 else dtype)

    c, e = case.channels, case.edges
    seps = [op for op in case.ops if op.startswith("sep_conv")]
    kernels = [int(op[-1]) for op in case.ops if op not in POOLS for _ in range(2 if op in seps else 1)]
    rows = [1 if op in POOLS else e for op in case.ops if op in POOLS or op in seps]
    x = randn(case.n, c, case.height, case.width)
    return {
        "x": channels_last(x.to(device, dtype)),
        "ops": case.ops,
        "depthwise": [tensor(randn(e, c, k, k) / k) for k in kernels],
        "pointwise": [tensor(randn(e, c, c) / c**0.5) for _ in kernels],
        "gamma": [tensor(1 + 0.3 * randn(e, c)) for _ in seps],
        "beta": [tensor(0.3 * randn(e, c)) for _ in seps],
        "mean": [tensor(0.3 * randn(r, c)) for r in rows],
        "var": [tensor(randn(r, c).square() + 0.5) for r in rows],
        "flavour": case.flavour,
        "groups": case.groups,
        "training": case.training,
    }
