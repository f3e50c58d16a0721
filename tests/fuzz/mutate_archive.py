"""Damage that knows zip archives (npz, torch.save) and safetensors."""

import io
import json
import struct
import warnings
import zipfile

import numpy as np

from tests.fuzz import mutate_bytes, mutate_json

# field of a header: offset behind the signature's first byte, bytes
_CENTRAL = {
    "flags": (8, 2), "method": (10, 2), "crc": (16, 4), "compressed size": (20, 4), "size": (24, 4),
    "name length": (28, 2), "extra length": (30, 2), "comment length": (32, 2), "offset": (42, 4),
    "name": (46, 1),
}  # fmt: skip
_LOCAL = {
    "flags": (6, 2), "method": (8, 2), "crc": (14, 4), "compressed size": (18, 4), "size": (22, 4),
    "name length": (26, 2), "extra length": (28, 2), "name": (30, 1),
}  # fmt: skip
_END = {"entries": (10, 2), "directory size": (12, 4), "directory offset": (16, 4), "comment length": (20, 2)}
_HEADERS = {
    b"PK\x01\x02": ("directory", _CENTRAL),
    b"PK\x03\x04": ("local", _LOCAL),
    b"PK\x05\x06": ("end", _END),
}
_VALUES = (0, 1, 2, 8, 0x7F, 0xFF, 0x7FFF, 0xFFFF, 0x7FFFFFFF, 0xFFFFFFFF)


def change_zip(rng: np.random.Generator, data: bytes) -> tuple[bytes, str]:
    """A header that contradicts the others, or other members with right checksums."""
    return _field(rng, data) if rng.random() < 0.5 else _members(rng, data)


def _field(rng, data):
    signature = list(_HEADERS)[int(rng.integers(3))]
    kind, fields = _HEADERS[signature]
    starts, at = [], data.find(signature)
    while at >= 0:
        starts.append(at)
        at = data.find(signature, at + 4)
    start = starts[int(rng.integers(len(starts)))]
    name = list(fields)[int(rng.integers(len(fields)))]
    offset, width = fields[name]
    value = int(rng.choice(_VALUES)) % 256**width
    at = start + offset
    changed = data[:at] + value.to_bytes(width, "little") + data[at + width :]
    return changed, f"zip {kind} header at {start}: {name} is {value}"


def _members(rng, data):
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        members = [(entry.filename, archive.read(entry)) for entry in archive.infolist()]
    k = int(rng.integers(len(members)))
    name, content = members[k]
    choice = int(rng.integers(6))
    if choice <= 2:
        content, what = mutate_bytes.change(rng, content, content)
        members[k] = name, content
        what = f"{what}, with a right checksum"
    elif choice == 3:
        del members[k]
        what = "missing"
    elif choice == 4:
        members[k] = f"{name}x", content
        what = "renamed"
    else:
        members.append((name, content[: len(content) // 2]))
        what = "there twice, once by half"
    packed = zipfile.ZIP_DEFLATED if rng.random() < 0.15 else zipfile.ZIP_STORED
    out = io.BytesIO()
    with warnings.catch_warnings(action="ignore"), zipfile.ZipFile(out, "w", packed) as archive:
        for member, content in members:
            with archive.open(zipfile.ZipInfo(member), "w") as f:
                f.write(content)
    return out.getvalue(), f"member {name}: {what}"


def change_safetensors(rng: np.random.Generator, data: bytes) -> tuple[bytes, str]:
    """The JSON header in front, its length, or one number behind it.

    Raises:
        ValueError: it is no safetensors file any more.
    """
    (length,) = struct.unpack("<Q", data[:8])
    header, body = data[8 : 8 + length], data[8 + length :]
    choice = rng.random()
    if choice < 0.2:
        value = int(
            rng.choice(np.array((0, 1, length - 1, length + 1, len(data), 2**32, 2**63, 2**64 - 1), object))
        )
        return struct.pack("<Q", value) + header + body, f"its header says to be {value} bytes long"
    if choice < 0.5:
        at = int(rng.integers(len(body)))
        bit = 1 << int(rng.integers(8))
        return data[: 8 + length + at] + bytes([body[at] ^ bit]) + body[
            at + 1 :
        ], f"bit {bit} of weight byte {at}"
    if choice < 0.7:
        about = json.loads(header)
        names = [n for n in about if n != "__metadata__"]
        a, b = (names[int(rng.integers(len(names)))] for _ in range(2))
        about[a], about[b] = about[b], about[a]
        header, what = json.dumps(about).encode(), f"{a} and {b} changed places"
    elif choice < 0.85:
        about = json.loads(header)
        key = next(iter(about["__metadata__"]))
        inner, what = mutate_json.change(rng, about["__metadata__"][key].encode())
        about["__metadata__"][key] = inner.decode("utf-8", "replace")
        header, what = json.dumps(about).encode(), f"metadata {key}: {what}"
    else:
        header, what = mutate_json.change(rng, header)
    return struct.pack("<Q", len(header)) + header + body, f"header: {what}"
