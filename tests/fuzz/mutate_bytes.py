"""Damage without knowledge of the format."""

import numpy as np

HEAD = 512  # bytes, where headers are: half of the places are there
_INTEGERS = {
    1: (0, 1, 0x7F, 0x80, 0xFF),
    2: (0, 1, 0x7FFF, 0x8000, 0xFFFF),
    4: (0, 1, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF, 0x10000, 100_000),
    8: (0, 1, 2**63 - 1, 2**63, 2**64 - 1, 2**32, 2**40),
}


def place(rng: np.random.Generator, size: int) -> int:
    """An offset in `size` bytes."""
    return int(rng.integers(max(1, min(size, HEAD) if rng.random() < 0.5 else size)))


def _extent(rng: np.random.Generator, size: int, start: int) -> int:
    """Where a range of mostly few bytes that begins at `start` ends."""
    return min(size, start + int(2 ** rng.uniform(0, np.log2(max(2, size / 2)))))


def change(rng: np.random.Generator, data: bytes, donor: bytes) -> tuple[bytes, str]:
    """donor: another file, for splices."""
    return _CHANGES[int(rng.integers(len(_CHANGES)))](rng, data, donor)


def _flip(rng, data, donor):
    changed, places = bytearray(data), []
    for _ in range(int(rng.integers(1, 9)) if data else 0):
        at = place(rng, len(data))
        changed[at] ^= 1 << int(rng.integers(8))
        places.append(at)
    return bytes(changed), f"bits flipped in bytes {sorted(places)}"


def _overwrite(rng, data, donor):
    start = place(rng, len(data))
    end = _extent(rng, len(data), start)
    return data[:start] + rng.bytes(end - start) + data[end:], f"bytes {start} to {end} overwritten"


def _zero(rng, data, donor):
    start = place(rng, len(data))
    end = _extent(rng, len(data), start)
    return data[:start] + bytes(end - start) + data[end:], f"bytes {start} to {end} zeroed"


def _insert(rng, data, donor):
    start, count = place(rng, len(data)), int(2 ** rng.uniform(0, 12))
    return data[:start] + rng.bytes(count) + data[start:], f"{count} bytes inserted at {start}"


def _remove(rng, data, donor):
    start = place(rng, len(data))
    end = _extent(rng, len(data), start)
    return data[:start] + data[end:], f"bytes {start} to {end} removed"


def _truncate(rng, data, donor):
    end = place(rng, len(data)) if rng.random() < 0.8 else max(0, len(data) - int(rng.integers(1, 9)))
    return data[:end], f"cut off after {end} of {len(data)} bytes"


def _behead(rng, data, donor):
    start = place(rng, len(data))
    return data[start:], f"the first {start} bytes removed"


def _repeat(rng, data, donor):
    start = place(rng, len(data))
    end = _extent(rng, len(data), start)
    if rng.random() < 0.3:
        start, end = 0, len(data)
    return data[:end] + data[start:end] + data[end:], f"bytes {start} to {end} repeated"


def _splice(rng, data, donor):
    start, there = place(rng, len(data)), place(rng, len(donor))
    return data[:start] + donor[there:], f"from byte {start} on another file from its byte {there}"


def _append(rng, data, donor):
    count = int(2 ** rng.uniform(0, 14))
    return data + (rng.bytes(count) if rng.random() < 0.5 else bytes(count)), f"{count} bytes appended"


def _integer(rng, data, donor):
    width = int(rng.choice((1, 2, 4, 8)))
    value, start = int(rng.choice(np.array(_INTEGERS[width], object))), place(rng, len(data))
    order = "big" if rng.random() < 0.5 else "little"
    changed = data[:start] + value.to_bytes(width, order) + data[start + width :]
    return changed, f"{width} bytes at {start} say {value} ({order} endian)"


_CHANGES = (
    _flip, _flip, _overwrite, _zero, _insert, _remove, _truncate, _truncate, _behead, _repeat, _splice,
    _append, _integer, _integer,
)  # fmt: skip
