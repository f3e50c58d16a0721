"""A JPEG is whole if its pixels are: one definition for opening, decoding, doctor, track and evaluate."""

import io
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from chase_fast.data import open_sources, sources
from chase_fast.data.decode import BrokenImage, Picture, decode, probe
from chase_fast.data.doctor import check
from chase_fast.data.evaluation import open_evaluation
from chase_fast.data.jpeg_file import mend
from chase_fast.errors import ChaseError
from chase_fast.kernels._jpeg import jpeg_part
from chase_fast.kernels.crop import Window
from chase_fast.track.sources.folder import Folder

RNG = np.random.default_rng(0)
NOISE = cv2.GaussianBlur(RNG.integers(0, 256, (96, 128, 3)).astype(np.float32), (0, 0), 2)
IMAGE = np.uint8((NOISE - NOISE.min()) / np.ptp(NOISE) * 255)


def encoded(**options) -> bytes:
    file = io.BytesIO()
    Image.fromarray(IMAGE).save(file, "JPEG", quality=90, **options)
    return file.getvalue()


def opencv(data: bytes) -> np.ndarray:
    return cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR_RGB | cv2.IMREAD_IGNORE_ORIENTATION)


BASE, PROGRESSIVE = encoded(), encoded(progressive=True)
RESTARTS = cv2.imencode(".jpg", IMAGE[..., ::-1], [cv2.IMWRITE_JPEG_RST_INTERVAL, 3])[1].tobytes()
END = b"\xff\xd9"


def before(data: bytes, marker: bytes, junk: bytes) -> bytes:
    """Bytes that belong nowhere, before the first such marker."""
    at = data.index(marker)
    return data[:at] + junk + data[at:]


def scan(data: bytes) -> int:
    """Where the entropy-coded data of the first scan begin."""
    at = data.index(b"\xff\xda")
    return at + 2 + int.from_bytes(data[at + 2 : at + 4], "big")


SOS = BASE[BASE.index(b"\xff\xda") : scan(BASE)]
RST2, RST3 = RESTARTS.index(b"\xff\xd2"), RESTARTS.index(b"\xff\xd3")
LAST_SCAN = PROGRESSIVE.rindex(b"\xff\xda")
VIDEO = b"\0\0\0\x18ftypmp42" + bytes(range(256)) * 300  # of a motion photo
WHOLE = {
    "as it is": (BASE, BASE),
    "2 bytes before a quantiser": (before(BASE, b"\xff\xdb", b"\0\0"), BASE),
    "bytes before the frame": (before(BASE, b"\xff\xc0", b"\x12\x34\x56"), BASE),
    "bytes before a Huffman table": (before(BASE, b"\xff\xc4", bytes(500)), BASE),
    "stuffing before the scan": (before(BASE, b"\xff\xda", b"\xff\x00\x01"), BASE),
    "bytes before JFIF": (before(BASE, b"\xff\xe0", b"abc"), BASE),
    "bytes before the end": (BASE[:-2] + b"\x01\x02\x03\x04" + END, BASE),
    "zeros before the end": (BASE[:-2] + bytes(300) + END, BASE),
    "fill bytes before a marker": (before(BASE, b"\xff\xdb", b"\xff\xff\xff"), BASE),
    "a short trailer": (BASE + b"phone", BASE),
    "a long trailer": (BASE + b"x" * 100_000, BASE),
    "a video behind it": (BASE + VIDEO, BASE),
    "another JPEG behind it": (BASE + PROGRESSIVE, BASE),
    "no end": (BASE[:-2], BASE),
    "no end, bytes before a quantiser": (before(BASE, b"\xff\xdb", b"\0\0")[:-2], BASE),
    "another revision of JFIF": (BASE.replace(b"JFIF\0\x01", b"JFIF\0\x07"), BASE),
    "a header of the scan in zeros": (BASE.replace(SOS, SOS[:-3] + bytes(3)), BASE),
    "restarts": (RESTARTS, RESTARTS),
    "a byte before a restart": (RESTARTS[:RST2] + b"\0" + RESTARTS[RST2:], RESTARTS),
    "progressive without an end": (PROGRESSIVE[:-2], PROGRESSIVE),
    "progressive, bytes before a table": (before(PROGRESSIVE, b"\xff\xc4", b"zz"), PROGRESSIVE),
}
HALF = len(BASE) // 2
BROKEN = {
    "half": BASE[:HALF],
    "half and an end": BASE[:HALF] + END,
    "half and a trailer": BASE[:HALF] + END + VIDEO,
    "half, the rest zeros": BASE[:HALF] + bytes(len(BASE) - HALF),
    "the last bytes zeros": BASE[:-30] + bytes(30),
    "40 bytes too few": BASE[:-40],
    "40 bytes too few and an end": BASE[:-40] + END,
    "junk in the header and half": before(BASE, b"\xff\xdb", b"\0\0")[:HALF] + END,
    "cut in a header": BASE[: scan(BASE) - 20],
    "only an end": b"\xff\xd8" + END,
    "progressive, half": PROGRESSIVE[: len(PROGRESSIVE) // 2],
    "progressive, half and an end": PROGRESSIVE[: len(PROGRESSIVE) // 2] + END,
    "progressive without its last scan": PROGRESSIVE[:LAST_SCAN],
    "an interval too few": RESTARTS[:RST2] + RESTARTS[RST3:],
    "a restart too few": RESTARTS[:RST2] + RESTARTS[RST2 + 2 :],
    "junk before a restart and half": RESTARTS[:RST2] + b"\0" + RESTARTS[RST2 : len(RESTARTS) // 2] + END,
}


@pytest.mark.parametrize("what", WHOLE)
def test_whole(what, tmp_path):
    data, plain = WHOLE[what]
    expected = opencv(plain)
    assert np.array_equal(decode(data), expected)
    part = jpeg_part(data, 20, 30, 90, 80)  # None: it is decoded as a whole instead
    assert part is None or np.array_equal(part, expected[30:80, 20:90])
    pixels, _ = Picture(data).part(Window(20, 30, 40))
    assert np.array_equal(pixels, expected[30:70, 20:60])
    (tmp_path / "1.jpg").write_bytes(data)
    assert probe(tmp_path / "1.jpg") is None
    assert mend(data).whole


@pytest.mark.parametrize("what", BROKEN)
def test_broken(what, tmp_path):
    data = BROKEN[what]
    with pytest.raises(BrokenImage) as e:
        decode(data)
    assert "\n" not in str(e.value)
    with pytest.raises(BrokenImage):
        Picture(data).part(Window(0, 0, 400))
    (tmp_path / "1.jpg").write_bytes(data)
    why = probe(tmp_path / "1.jpg")  # may not see it, but then says nothing
    assert why is None or why == str(e.value)


def frames(folder: Path, odd: bytes) -> Path:
    folder.mkdir(parents=True)
    for i in range(1, 25):
        (folder / f"{i:08d}.jpg").write_bytes(odd if i == 7 else BASE)
    (folder / "groundtruth.txt").write_text("30,40,30,20\n" * 24)
    return folder


@pytest.mark.parametrize("limit", [sources.PROBE_LIMIT, 0])
def test_everybody_has_the_same_definition(tmp_path, monkeypatch, limit):
    """Sets with so many frames that opening does not look at each, and smaller ones."""
    monkeypatch.setattr(sources, "PROBE_LIMIT", limit)
    for k, (data, _) in enumerate(WHOLE.values()):
        folder = frames(tmp_path / f"w{k}" / "s", data)
        spec = f"folder:{folder.parent}"
        pixels = open_sources(spec)[0].sequences[0].frame(6)
        assert np.array_equal(open_evaluation(spec).sequences[0].frame(6), pixels)
        assert np.array_equal(next(Folder(folder, 6, 1).frames()).image, pixels)
        if k % 4 == 0:
            assert check(spec, progress=False).ok
    for k, data in enumerate(BROKEN.values()):
        folder = frames(tmp_path / f"b{k}" / "s", data)
        spec = f"folder:{folder.parent}"
        named = r"frame 7 .*00000007.jpg"
        with pytest.raises(ChaseError, match=named):
            open_sources(spec)[0].sequences[0].frame(6)
        with pytest.raises(ChaseError, match=named):
            open_evaluation(spec).sequences[0].frame(6)
        with pytest.raises(ChaseError, match=r"00000007.jpg cannot be read"):
            list(Folder(folder, 6, 1).frames())
        if k % 4 == 0:
            report = check(spec, progress=False)
            assert [p.frame for p in report.problems] == [7]
