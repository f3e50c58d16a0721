"""Image files that no library at hand writes, made by hand from the formats' definitions."""

import base64
import struct
import zlib

import numpy as np

# 24 x 16 pixels of 100 x + 90 y, 12 bits (libjpeg 12-bit, quality 95)
JPEG_12 = base64.b64decode(
    "/9j/4AAQSkZJRgABAQAAAQABAAD/2wBDAAIBAQEBAQIBAQECAgICAgQDAgICAgUEBAMEBgUGBgYFBgYGBwkIBgcJBwYGCAsI"
    "CQoKCgoKBggLDAsKDAkKCgr/wQALDAAQABgBAREA/8QAFQABAQAAAAAAAAAAAAAAAAAADA3/xAAbEAABBAMAAAAAAAAAAAAA"
    "AAALACg3RVRicv/aAAgBAQAAPwCUxg4Qy8QNTwaXnVMgAcIZeIGp4NLzqmQAOEMvEDU8Gl51Qj8HCGXiBqeDS86pkADhDLxA"
    "1PBpedUyABwhl4gang0vOq//2Q=="
)


def tiff(
    pixels: np.ndarray,
    order: str = "<",
    planar: bool = False,
    tile: int | None = None,
    predictor: int = 1,
    orientation: int | None = None,
    big: bool = False,
    white_is_zero: bool = False,
    rows: int = 5,
    pages: int = 1,
) -> bytes:
    """[H, W] or [H, W, C] -> a TIFF (6.0; predictor 3: technical note 3), deflated, in strips of `rows` or in
    square tiles of side `tile`."""
    values = pixels if pixels.ndim == 3 else pixels[..., None]
    height, width, count = values.shape
    kind = {"u": 1, "i": 2, "f": 3}[pixels.dtype.kind]
    planes = [values[..., k : k + 1] for k in range(count)] if planar else [values]
    down, across = (tile, tile) if tile else (rows, width)
    pieces = []
    for plane in planes:
        for y in range(0, height, down):
            for x in range(0, width, across):
                part = plane[y : y + down, x : x + across]
                if tile:
                    part = np.pad(part, ((0, down - part.shape[0]), (0, across - part.shape[1]), (0, 0)))
                pieces.append(zlib.compress(_differences(part, predictor, order)))
    body, offsets = b"", []
    start = 16 if big else 8
    for piece in pieces:
        offsets.append(start + len(body))
        body += piece
    colours = 2 if count >= 3 else 0 if white_is_zero else 1
    tags = {
        256: ("H", [width]), 257: ("H", [height]), 258: ("H", [8 * pixels.itemsize] * count), 259: ("H", [8]),
        262: ("H", [colours]), 277: ("H", [count]), 284: ("H", [2 if planar else 1]), 317: ("H", [predictor]),
        339: ("H", [kind] * count),
    }  # fmt: skip
    if tile:
        tags |= {322: ("H", [tile]), 323: ("H", [tile]), 324: ("I", offsets)}
        tags[325] = ("I", [len(p) for p in pieces])
    else:
        tags |= {273: ("I", offsets), 278: ("H", [rows]), 279: ("I", [len(p) for p in pieces])}
    if orientation:
        tags[274] = ("H", [orientation])
    mark = b"II" if order == "<" else b"MM"
    at = start + len(body)
    head = mark + struct.pack(order + ("HHHQ" if big else "HI"), *((43, 8, 0, at) if big else (42, at)))
    return head + body + _directories(tags, order, big, at, pages)


def _differences(part: np.ndarray, predictor: int, order: str) -> bytes:
    """The bytes of a strip or tile [h, w, c] before compression."""
    if predictor == 2:
        part = np.diff(part, axis=1, prepend=np.zeros_like(part[:, :1]))
    if predictor != 3:
        return part.astype(part.dtype.newbyteorder(order)).tobytes()
    rows = b""
    for row in part:
        planes = np.frombuffer(row.astype(row.dtype.newbyteorder(">")).tobytes(), np.uint8)
        planes = planes.reshape(-1, row.itemsize).T.reshape(-1, row.shape[-1])  # the highest bytes first
        rows += np.diff(planes, axis=0, prepend=np.zeros_like(planes[:1])).tobytes()
    return rows


def _directories(tags: dict, order: str, big: bool, at: int, pages: int) -> bytes:
    """`pages` times the same directory."""
    long = "Q" if big else "I"
    data = b""
    for page in range(pages):
        here = at + len(data)
        extra_at = here + struct.calcsize(f"={'Q' if big else 'H'}") + len(tags) * (20 if big else 12)
        extra_at += 8 if big else 4
        entries, extra = b"", b""
        for tag, (form, numbers) in sorted(tags.items()):
            packed = struct.pack(f"{order}{len(numbers)}{form}", *numbers)
            if len(packed) > (8 if big else 4):
                extra, packed = extra + packed, struct.pack(order + long, extra_at + len(extra))
            entries += struct.pack(f"{order}HH{long}", tag, {"H": 3, "I": 4}[form], len(numbers))
            entries += packed.ljust(8 if big else 4, b"\0")
        following = extra_at + len(extra) if page + 1 < pages else 0
        data += struct.pack(order + ("Q" if big else "H"), len(tags)) + entries
        data += struct.pack(order + long, following) + extra
    return data


def exr(pixels: np.ndarray) -> bytes:
    """[H, W] or RGB [H, W, 3] of float16 or float32 -> an uncompressed OpenEXR file."""
    height, width = pixels.shape[:2]
    planes = {"Y": pixels} if pixels.ndim == 2 else dict(zip("BGR", np.moveaxis(pixels, 2, 0)[::-1]))
    kind = {2: 1, 4: 2}[pixels.itemsize]
    channels = b"".join(n.encode() + b"\0" + struct.pack("<iiii", kind, 0, 1, 1) for n in planes) + b"\0"
    window = struct.pack("<iiii", 0, 0, width - 1, height - 1)
    attributes = {
        "channels": ("chlist", channels), "compression": ("compression", b"\0"),
        "dataWindow": ("box2i", window), "displayWindow": ("box2i", window),
        "lineOrder": ("lineOrder", b"\0"),
        "pixelAspectRatio": ("float", struct.pack("<f", 1)),
        "screenWindowCenter": ("v2f", bytes(8)), "screenWindowWidth": ("float", struct.pack("<f", 1)),
    }  # fmt: skip
    head = struct.pack("<II", 20000630, 2)
    for name, (form, value) in attributes.items():
        head += name.encode() + b"\0" + form.encode() + b"\0" + struct.pack("<I", len(value)) + value
    head += b"\0"
    lines = []
    for y in range(height):
        row = b"".join(p[y].astype(p.dtype.newbyteorder("<")).tobytes() for p in planes.values())
        lines.append(struct.pack("<iI", y, len(row)) + row)
    first = len(head) + 8 * height
    offsets = [first + sum(map(len, lines[:y])) for y in range(height)]
    return head + struct.pack(f"<{height}Q", *offsets) + b"".join(lines)
