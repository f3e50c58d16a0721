"""Pixels of every kind become RGB uint8 by one rule: in files, datasets, tracking and adapters alike."""

import contextlib
import io
import os
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from chase_fast.data import SampleRecipe, SampleSet, decode, loader, open_sources, pillow
from chase_fast.data.decode import BrokenImage, samples
from chase_fast.data.doctor import check
from chase_fast.data.evaluation import open_evaluation
from chase_fast.data.first_look import first_levels, look, oddities
from chase_fast.data.pixels import Levels, to_rgb8
from chase_fast.errors import ChaseError
from chase_fast.kernels.crop import Window
from chase_fast.track.adapters.got10k import GOT10kTracker
from chase_fast.track.adapters.opencv import TrackerChase
from chase_fast.track.sources.folder import Folder
from tests.odd_images import JPEG_12, exr, tiff

H, W = 24, 32
ROWS, COLUMNS = np.mgrid[:H, :W]
RGB = np.stack([COLUMNS * 8, ROWS * 10, (COLUMNS * 3 + ROWS * 5) % 256], -1).astype(np.uint8)
GREY = RGB[..., 2]
ALPHA = np.where(COLUMNS < 16, 0, 255).astype(np.uint8)  # half of it transparent
DEEP = (RGB.astype(np.uint16) * 257).clip(0, 65500)
TWELVE = DEEP[..., 0] >> 4
RATIO = (RGB / 255).astype(np.float32)
COUNTS = np.linspace(7300, 8300, H * W).reshape(H, W).round().astype(np.uint16)  # a thermal camera


def png(pixels: np.ndarray) -> bytes:
    order = pixels if pixels.ndim == 2 else pixels[..., [2, 1, 0, *range(3, pixels.shape[2])]]
    return cv2.imencode(".png", order)[1].tobytes()


def saved(pixels: np.ndarray | Image.Image, form: str, **options) -> bytes:
    file = io.BytesIO()
    (pixels if isinstance(pixels, Image.Image) else Image.fromarray(pixels)).save(file, form, **options)
    return file.getvalue()


PALETTE = Image.fromarray(RGB).quantize(32)
OF_PALETTE = np.array(PALETTE.getpalette(), np.uint8).reshape(-1, 3)[np.asarray(PALETTE)]
INK = np.dstack([255 - RGB, np.full((H, W), 40, np.uint8)])
# a file -> its pixels by definition, and how far off a lossy format may be
FILES = {
    "PNG": (png(RGB), RGB, 0),
    "grey PNG": (png(GREY), GREY, 0),
    "PNG with alpha": (png(np.dstack([RGB, ALPHA])), RGB, 0),
    "grey PNG with alpha": (saved(np.dstack([GREY, ALPHA]), "PNG"), GREY, 0),
    "PNG of 16 bits": (png(DEEP), DEEP, 0),
    "PNG of 16 bits with alpha": (png(np.dstack([DEEP, ALPHA.astype(np.uint16) * 257])), DEEP, 0),
    "PNG of counts": (png(COUNTS), COUNTS, 0),
    "PNG of one bit": (saved(GREY > 99, "PNG"), np.where(GREY > 99, 255, 0), 0),
    "PNG with a palette": (saved(PALETTE, "PNG"), OF_PALETTE, 0),
    "PNG with a transparent colour": (saved(PALETTE, "PNG", transparency=3), OF_PALETTE, 0),
    "GIF": (saved(PALETTE, "GIF"), OF_PALETTE, 0),
    "GIF with a transparent colour": (saved(PALETTE, "GIF", transparency=3), OF_PALETTE, 0),
    "BMP": (saved(RGB, "BMP"), RGB, 0),
    "BMP with a palette": (saved(PALETTE, "BMP"), OF_PALETTE, 0),
    "WebP": (saved(RGB, "WEBP", lossless=True), RGB, 0),
    "WebP with alpha": (saved(np.dstack([RGB, ALPHA]), "WEBP", lossless=True, exact=True), RGB, 0),
    "PPM": (b"P6 32 24 255\n" + RGB.tobytes(), RGB, 0),
    "PGM as text": (f"P2\n32 24\n255\n{' '.join(map(str, GREY.ravel()))}".encode(), GREY, 0),
    "PGM of 16 bits": (b"P5 32 24 65535\n" + COUNTS.astype(">u2").tobytes(), COUNTS, 0),
    "PGM of 12 bits": (b"P5 32 24 4095\n" + TWELVE.astype(">u2").tobytes(), TWELVE, 0),
    "PPM of 16 bits": (b"P6 32 24 65535\n" + DEEP.astype(">u2").tobytes(), DEEP, 0),
    "JPEG 2000 of 16 bits": (saved(COUNTS, "JPEG2000", num_resolutions=2), COUNTS, 0),
    "JPEG": (saved(RGB, "JPEG", quality=98, subsampling=0), RGB, 12),
    "grey JPEG": (saved(GREY, "JPEG", quality=98), GREY, 12),
    "progressive JPEG": (saved(RGB, "JPEG", quality=98, subsampling=0, progressive=True), RGB, 12),
    "JPEG of inks": (saved(Image.fromarray(INK, "CMYK"), "JPEG", quality=98), np.rint(RGB * (215 / 255)), 12),
    "JPEG of 12 bits": (
        JPEG_12, np.add.outer(90 * np.arange(16), 100 * np.arange(24)).astype(np.uint16) * 16, 96
    ),
    "Radiance": (cv2.imencode(".hdr", RATIO[..., ::-1])[1].tobytes(), RATIO, 0.01),
    "EXR": (exr(RATIO), RATIO, 0),
    "EXR of half floats": (exr(RATIO.astype(np.float16)), RATIO.astype(np.float16), 0),
    "grey EXR": (exr(RATIO[..., 2]), RATIO[..., 2], 0),
    "AVIF with alpha": (
        saved(np.dstack([RGB, ALPHA]), "AVIF", quality=100, subsampling="4:4:4"), RGB, 4
    ),
    "TIFF": (saved(RGB, "TIFF"), RGB, 0),
    "LZW TIFF": (saved(RGB, "TIFF", compression="tiff_lzw"), RGB, 0),
    "TIFF with alpha": (saved(np.dstack([RGB, ALPHA]), "TIFF"), RGB, 0),
    "TIFF with a palette": (saved(PALETTE, "TIFF"), OF_PALETTE, 0),
    "TIFF of inks": (saved(Image.fromarray(INK, "CMYK"), "TIFF"), np.rint(RGB * (215 / 255)), 1),
    "TIFF of one bit": (saved(GREY > 99, "TIFF"), np.where(GREY > 99, 255, 0), 0),
    "LZW TIFF of 16 bits": (cv2.imencode(".tiff", DEEP[..., ::-1])[1].tobytes(), DEEP, 0),
    "LZW TIFF of floats": (cv2.imencode(".tiff", RATIO[..., ::-1])[1].tobytes(), RATIO, 0),
    "TIFF of counts": (saved(COUNTS, "TIFF", compression="tiff_lzw"), COUNTS, 0),
}  # fmt: skip


def three(pixels: np.ndarray) -> np.ndarray:
    return np.broadcast_to(pixels if pixels.ndim == 3 else pixels[..., None], (*pixels.shape[:2], 3)) * 1.0


@pytest.mark.parametrize("what", FILES)
def test_files(what, tmp_path):
    data, expected, tolerance = FILES[what]
    found = samples(data)
    if found.dtype == np.bool_:
        found = found * np.uint8(255)
    assert found.shape[:2] == expected.shape[:2]
    assert np.abs(three(found) - three(expected)).max() <= tolerance
    rgb = decode.decode(data)
    assert rgb.dtype == np.uint8 and rgb.shape == (*expected.shape[:2], 3)
    misnamed = tmp_path / "frame.bmp"  # what a file holds decides, not its ending
    misnamed.write_bytes(data)
    assert np.array_equal(decode.read_frame(misnamed), rgb)
    seen = look(str(misnamed))
    assert (seen.height, seen.width) == expected.shape[:2]
    assert seen.deep == (expected.dtype in (np.uint16, np.float16, np.float32))


TIFFS = [
    (DEEP, {}),
    (DEEP, {"order": ">"}),
    (DEEP, {"planar": True}),
    (DEEP, {"planar": True, "tile": 16, "order": ">", "predictor": 2}),
    (DEEP, {"tile": 16}),
    (DEEP, {"predictor": 2}),
    (DEEP, {"big": True}),
    (DEEP, {"orientation": 6}),
    (RGB, {"orientation": 3}),
    (RGB, {"planar": True, "tile": 16, "order": ">"}),
    (RGB, {"big": True, "orientation": 8}),
    (np.dstack([DEEP, DEEP[..., 0]]), {"planar": True}),
    (COUNTS, {"order": ">", "orientation": 5}),
    (COUNTS.astype(np.int32) - 9000, {}),
    (COUNTS.astype(np.int16) - 9000, {"predictor": 2, "order": ">"}),
    (RATIO, {"planar": True}),
    (RATIO, {"predictor": 3}),
    (RATIO[..., 0], {"predictor": 3, "order": ">", "tile": 16}),
    (RATIO[..., 0].astype(np.float64), {"order": ">"}),
    (RATIO[..., 0].astype(np.float16), {}),
    (RGB, {"pages": 3}),
]


@pytest.mark.parametrize("case", range(len(TIFFS)))
def test_tiff(case):
    """Numbers as they are stored, whatever order, planes, tiles, differences or orientation they have."""
    pixels, options = TIFFS[case]
    found = samples(tiff(pixels, **options))
    assert found.dtype == pixels.dtype and np.array_equal(
        found, pixels[..., :3] if pixels.ndim == 3 else pixels
    )


def test_tiff_whose_zero_is_white():
    assert np.array_equal(samples(tiff(COUNTS, white_is_zero=True)), 65535 - COUNTS)
    assert np.array_equal(samples(tiff(GREY, white_is_zero=True)), 255 - GREY)


def test_damaged_files_are_refused():
    cut = {what: data[: len(data) * 2 // 3] for what, (data, _, _) in FILES.items()}
    cut |= {f"TIFF {k}": tiff(p, **o)[:-40] for k, (p, o) in enumerate(TIFFS) if "pages" not in o}
    cut["TIFF with data cut out"] = tiff(DEEP)[:900] + tiff(DEEP)[1000:]
    for what, data in cut.items():
        with pytest.raises(BrokenImage) as e:
            print(what, samples(data).shape)
        assert "\n" not in str(e.value), what


def test_damaged_files_print_nothing(capfd):
    """Fault: libjpeg and libpng write what they object to on standard error, beside our line."""
    rng = np.random.default_rng(0)
    tiffs = {f"TIFF {k}": (saved(RGB, "TIFF", compression=k), RGB, 0) for k in ("tiff_lzw", "packbits")}
    for what, (data, _, _) in (FILES | tiffs).items():
        if what.startswith(("PNG", "JPEG", "TIFF")) and "2000" not in what:
            for _ in range(40):
                damaged = bytearray(data)
                first = int(rng.integers(2, len(data)))
                del damaged[first : first + int(rng.integers(1, 4))]
                damaged[int(rng.integers(len(damaged)))] ^= 255
                with contextlib.suppress(BrokenImage):
                    samples(bytes(damaged))
                assert capfd.readouterr() == ("", ""), what


def test_true_sentences_about_what_cannot_be_read():
    heic = b"\0\0\0\x18ftypheic\0\0\0\0mif1heic" + bytes(80)
    for data, words in (
        (b"", "the file is empty"),
        (heic, "a HEIC image.*pip install pillow-heif"),
        (b"\xff\x0a" + bytes(90), "a JPEG XL image.*no decoder here"),
        (b"<!DOCTYPE html><html>", "not an image .it begins with '<!DOCTYPE ht"),
    ):
        with pytest.raises(BrokenImage, match=words):
            samples(data)


def test_pngs_with_harmless_defects_are_whole():
    whole = png(RGB)
    text = b"\0\0\0\x08tEXtkey\0word" + b"\x12\x34\x56\x78"  # a wrong checksum
    for data in (whole + b"trailer" * 99, whole[:33] + text + whole[33:], whole[:-12]):
        assert np.array_equal(samples(data), RGB)
    assert np.array_equal(samples(png(DEEP)[:-12]), DEEP)


@pytest.mark.parametrize(
    ("frame", "low", "high"),
    [
        (COUNTS, 7300, 8300),
        (COUNTS.astype(np.int32), 7300, 8300),
        (COUNTS.astype(np.float32), 7300, 8300),
        (COUNTS.astype(">u2"), 7300, 8300),
        (DEEP, 0, 65535),
        (DEEP >> 4, 0, 4095),
        (DEEP >> 6, 0, 1023),
        (RGB.astype(np.uint16), 0, 255),
        (RATIO, 0, 1),
        (RATIO.astype(np.float64) * 255, 0, 255),
        (RATIO * 2 - 1, -1, 2 * 248 / 255 - 1),
        (20 + 17 * RATIO[..., 0], 20, 20 + 17 * 248 / 255),
        (np.full((9, 9), 8000, np.uint16), 0, 16383),
        (np.zeros((9, 9), np.uint16), 0, 1),
        (np.full((9, 9), np.nan), 0, 1),
    ],
)
def test_levels_of_a_first_frame(frame, low, high):
    found = Levels.of(frame)
    assert (found.low, found.high) == pytest.approx((low, high), abs=1e-6)
    assert Levels.of(np.repeat(frame[..., None], 3, 2) if frame.ndim == 2 else frame[..., ::-1]) == found
    alpha = np.full(frame.shape[:2], 1, frame.dtype)
    assert Levels.of(np.dstack([frame, alpha])) == found, "alpha does not count"


def test_levels_pass_over_dead_pixels_and_highlights():
    counts = np.linspace(7300, 8300, 300 * 300).reshape(300, 300).astype(np.uint16)
    counts[0, :4], counts[9, :4] = 0, 65535
    found = Levels.of(counts)
    assert 7000 < found.low <= 7302 and 8298 <= found.high < 8600
    assert len(np.unique(to_rgb8(counts, found))) > 150
    ratio = np.linspace(0, 1, 90_000).reshape(300, 300)
    ratio[0, :200] = 40
    assert Levels.of(ratio).high < 1.5
    hot = np.full((300, 300), 8000, np.uint16)
    hot[9:12, 9:12] = 9000  # less than a thousandth
    assert to_rgb8(hot, Levels.of(hot))[9, 9, 0] - int(to_rgb8(hot, Levels.of(hot))[0, 0, 0]) > 200


def test_equal_values_look_equal_and_thermal_frames_keep_their_greys():
    found = Levels.of(COUNTS)
    rgb = to_rgb8(COUNTS, found)
    assert len(np.unique(rgb)) == 256 and (np.diff(rgb[..., 0].ravel().astype(int)) >= 0).all()
    assert rgb.min() == 0 and rgb.max() == 255
    colder = COUNTS - 500
    grey_of = dict(zip(COUNTS.ravel().tolist(), rgb[..., 0].ravel().tolist()))
    greys = to_rgb8(colder, found)[..., 0].ravel().tolist()
    assert all(g == grey_of.get(v, 0 if v < 7300 else g) for v, g in zip(colder.ravel().tolist(), greys))
    odd = np.array([[np.nan, np.inf, -np.inf, -3.0, 0.5, 7.0]])
    assert to_rgb8(odd, Levels(0, 1))[0, :, 0].tolist() == [0, 255, 0, 0, 128, 255]
    for values in (RGB.astype(np.uint16), RGB.astype(np.uint16) * 257, RGB.astype(np.float32), RATIO):
        assert np.array_equal(to_rgb8(values, Levels.of(values)), RGB), "8 bits in disguise"
    assert Levels.of(RGB) is None and Levels.of(RGB > 9) is None
    assert (to_rgb8(GREY > 9, found)[..., 0] == np.where(GREY > 9, 255, 0)).all()


@pytest.mark.parametrize("text", ["7300", "a,b", "9,8", "5,5", "0,inf", "nan,1", ""])
def test_levels_of_a_command_line_are_checked(text):
    assert Levels.parse("7300, 8300.5") == Levels(7300.0, 8300.5)
    with pytest.raises(ChaseError, match="grey levels"):
        Levels.parse(text)


MODES = {
    "1": (Image.fromarray(GREY > 99), np.where(GREY > 99, 255, 0)),
    "L": (Image.fromarray(GREY), GREY),
    "LA": (Image.fromarray(np.dstack([GREY, ALPHA])), GREY),
    "P": (PALETTE, OF_PALETTE),
    "RGB": (Image.fromarray(RGB), RGB),
    "RGBA": (Image.fromarray(np.dstack([RGB, ALPHA])), RGB),
    "RGBX": (Image.fromarray(RGB).convert("RGBX"), RGB),
    "PA": (PALETTE.convert("PA"), OF_PALETTE),
    "CMYK": (Image.fromarray(INK, "CMYK"), np.rint(RGB * (215 / 255))),
    "YCbCr": (Image.fromarray(RGB).convert("YCbCr"), RGB),
    "HSV": (Image.fromarray(RGB).convert("HSV"), RGB),
    "LAB": (Image.fromarray(cv2.cvtColor(RGB, cv2.COLOR_RGB2LAB), "LAB"), RGB),
    "I;16": (Image.fromarray(COUNTS), None),
    "I;16B": (Image.frombytes("I;16B", (W, H), COUNTS.astype(">u2").tobytes()), None),
    "I": (Image.fromarray(COUNTS.astype(np.int32)), None),
    "F": (Image.fromarray(COUNTS.astype(np.float32)), None),
}


@pytest.mark.filterwarnings("ignore:.*mode.*:DeprecationWarning")
@pytest.mark.parametrize("mode", MODES)
def test_pictures_of_pillow(mode):
    image, expected = MODES[mode]
    assert image.mode == mode
    found = pillow.samples(image)
    if expected is None:
        assert np.array_equal(to_rgb8(found, Levels.of(found)), to_rgb8(COUNTS, Levels(7300, 8300)))
        return
    expected = expected if expected.ndim == 3 else np.repeat(expected[..., None], 3, 2)
    tolerance = {"YCbCr": 4, "HSV": 9, "LAB": 16}.get(mode, 1 if mode == "CMYK" else 0)
    assert np.abs(to_rgb8(found).astype(int) - expected).max() <= tolerance


class Recorder:
    """Stands for a tracker and keeps the frames that it is given."""

    def __init__(self):
        self.frames = []

    def init(self, frame, box):
        self.frames.append(frame)

    def update(self, frame):
        self.frames.append(frame)
        return type("Result", (), {"box": (1.0, 2.0, 3.0, 4.0), "state": "tracked", "score": 1.0})()


def thermal(folder: Path, length: int = 24, form: str = "png") -> list[np.ndarray]:
    """A sequence of counts that drift away from those of the first frame."""
    folder.mkdir(parents=True)
    frames = [(COUNTS + 15 * i).astype(np.uint16) for i in range(length)]
    for i, frame in enumerate(frames):
        data = {"png": png, "tif": tiff}[form](frame)
        (folder / f"{i:06d}.{form}").write_bytes(data)
    (folder / "groundtruth.txt").write_text("4,3,12,9\n" * length)
    return frames


@pytest.mark.parametrize("form", ["png", "tif"])
def test_every_way_in_gives_the_same_pixels(tmp_path, form):
    folder = tmp_path / "data" / "walk"
    frames = thermal(folder, form=form)
    expected = [to_rgb8(f, Levels(7300, 8300)) for f in frames]
    files = sorted(str(p) for p in folder.glob(f"*.{form}"))
    (source,) = open_sources(f"folder:{tmp_path}/data")
    sequence = source.sequences[0]
    benchmark = open_evaluation(f"folder:{tmp_path}/data").sequences[0]
    for i in (23, 0, 7):  # in any order
        for found in (
            sequence.frame(i),
            sequence.picture(i).part(Window(0, 0, W))[0],
            benchmark.frame(i),
            decode.read_frame(files[i], lambda: first_levels(files)),
        ):
            assert np.array_equal(found, expected[i])
    tracked = Folder(folder, 0, None)
    assert all(np.array_equal(f.image, e) for f, e in zip(tracked.frames(), expected, strict=True))
    assert (tracked.levels.low, tracked.levels.high) == (7300, 8300)
    assert any("7300 to 8300" in n and "--levels" in n for n in tracked.notes)
    later = Folder(folder, 5, 2)  # scaled by the first frame of the folder, not of what is tracked
    assert np.array_equal(next(later.frames()).image, expected[5])
    assert "7300 to 8300" in source.summary()

    def adapter(kind, **chosen):
        made = kind.__new__(kind)
        recorder = Recorder()
        made.__dict__.update({"_tracker": recorder, "_chosen": chosen.get("levels"), "_levels": None})
        return made, recorder

    toolkit, seen = adapter(GOT10kTracker)
    toolkit.track(files, (4, 3, 12, 9))
    assert all(np.array_equal(f, e) for f, e in zip(seen.frames, expected, strict=True))
    pictures, seen = adapter(GOT10kTracker)
    opencv, seen_too = adapter(TrackerChase)
    for i, frame in enumerate(frames):
        image, array = Image.fromarray(frame), np.dstack([frame] * 3)
        (pictures.init(image, (4, 3, 12, 9)) if i == 0 else pictures.update(image))
        (opencv.init(array, (4, 3, 12, 9)) if i == 0 else opencv.update(array))
    for other in (seen, seen_too):
        assert all(np.array_equal(f, e) for f, e in zip(other.frames, expected, strict=True))
    given, seen = adapter(TrackerChase, levels=Levels(0, 65535))
    given.init(frames[0], (4, 3, 12, 9))
    assert np.array_equal(seen.frames[0], to_rgb8(frames[0] >> 8 << 8))


def test_samples_of_deep_frames_do_not_depend_on_workers(tmp_path):
    for name in "ab":
        thermal(tmp_path / name, 40)
    samples_ = SampleSet(
        open_sources(f"folder:{tmp_path}"),
        SampleRecipe(train_frames=2, test_frames=2, max_gap=10, size=32),
        seed=3,
        size=6,
        augment=False,
    )
    here = [b.train_images for b in loader(samples_, 2, 1)]
    there = [b.train_images for b in loader(samples_, 2, 1, workers=2)]
    assert all(a.equal(b) for a, b in zip(here, there, strict=True))
    greys = (here[0] * 0.229 + 0.485).flatten()
    assert greys.max() - greys.min() > 0.5, "the levels are kept"


def test_frames_of_8_bits_take_no_levels(tmp_path):
    folder = tmp_path / "f"
    folder.mkdir()
    for i in range(3):
        (folder / f"{i}.png").write_bytes(png(RGB))
    assert Folder(folder, 0, None).levels is None and Folder(folder, 0, None).notes == []
    with pytest.raises(ChaseError, match=r"--levels: the frames of .* have 8 bits"):
        Folder(folder, 0, None, Levels(0, 99))


def test_turned_and_many_pictures_are_said(tmp_path):
    """Phones mark their pictures as turned; they are read as stored, by all, and once said."""
    folder = tmp_path / "phone" / "walk"
    folder.mkdir(parents=True)
    exif = Image.Exif()
    exif[274] = 6
    for i in range(24):
        Image.fromarray(RGB).save(folder / f"{i}.jpg", exif=exif, quality=95)
    (folder / "groundtruth.txt").write_text("4,3,12,9\n" * 24)
    assert next(iter(Folder(folder, 0, None).frames())).image.shape == (H, W, 3)
    assert open_sources(f"folder:{tmp_path}/phone")[0].sequences[0].frame(0).shape == (H, W, 3)
    (note,) = Folder(folder, 0, None).notes
    assert "turned" in note and "orientation 6" in note
    assert any("orientation 6" in n for n in check(f"folder:{tmp_path}/phone", progress=False).notes)
    for data, words in ((tiff(RGB, orientation=6), "orientation 6"), (tiff(RGB, pages=2), "2 in page")):
        (tmp_path / "page.tif").write_bytes(data)
        (note,) = oddities(str(tmp_path / "page.tif"))
        assert words in str(note)
    (tmp_path / "page.tif").write_bytes(tiff(RGB))
    assert oddities(str(tmp_path / "page.tif")) == [] and oddities(os.devnull) == []
