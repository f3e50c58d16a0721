"""One seed for every purpose."""

import hashlib


def stream(seed: int, *parts: object) -> int:
    """A seed of its own for every purpose, epoch and iteration: nothing random depends on what ran before."""
    text = ":".join(map(str, (seed, *parts))).encode(errors="surrogateescape")
    return int.from_bytes(hashlib.blake2b(text, digest_size=8).digest()) >> 1
