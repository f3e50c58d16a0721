"""Definition of `keep_mask` in plain torch."""

import torch
from torch import Tensor

_LOW = 0xFFFFFFFF


def philox(counter: tuple[Tensor, ...], key: tuple[Tensor, Tensor]) -> tuple[Tensor, ...]:
    """Philox4x32-10: four words of a counter, two of a key -> four words. int64 tensors in [0, 2^32)."""
    c0, c1, c2, c3 = counter
    k0, k1 = key
    for _ in range(10):
        # 64-bit products may wrap into the sign: their bits are right all the same
        a, b = 0xD2511F53 * c0, 0xCD9E8D57 * c2
        c0, c1 = (b >> 32 & _LOW) ^ c1 ^ k0, b & _LOW
        c2, c3 = (a >> 32 & _LOW) ^ c3 ^ k1, a & _LOW
        k0, k1 = k0 + 0x9E3779B9 & _LOW, k1 + 0xBB67AE85 & _LOW
    return c0, c1, c2, c3


def keep_mask(
    seeds: Tensor, rate: Tensor, edges: int, frames: int, size: list[int], groups: int = 1
) -> Tensor:
    """Shapes and meaning: `chase_fast.kernels.keep_mask`."""
    h, w, c = size
    quads = -(-h * w * c // 4)

    def count(n: int) -> Tensor:
        return torch.arange(n, device=seeds.device)

    # [G, S / G, E, F, quads]: the sequences in their groups, then what a sequence has
    key = seeds.view(groups, -1, 1, 1, 1)
    frame = count(edges * frames).view(edges, frames, 1)
    zero = torch.zeros_like(frame)
    words = philox((count(quads), frame, zero, zero), (key & _LOW, key >> 32 & _LOW))
    bits = torch.stack(torch.broadcast_tensors(*words), -1).flatten(-2)[..., : h * w * c]
    keep = bits.double() >= rate * 2.0**32
    return keep.permute(2, 0, 3, 1, 4).reshape(edges, -1, h, w, c)  # [E, G, F, S / G, ...]
