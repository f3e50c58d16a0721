"""Parts of JPEGs: the pixels of a whole decoding by libjpeg-turbo, and no crash on damaged files."""

import cv2
import numpy as np
import pytest

from chase_fast.data.decode import BrokenImage, Picture, decode
from chase_fast.data.sequences import BrokenFrame, FileSequence
from chase_fast.kernels._jpeg import jpeg_part, jpeg_size
from chase_fast.kernels.crop import Window

SAMPLING = {
    "444": cv2.IMWRITE_JPEG_SAMPLING_FACTOR_444,
    "422": cv2.IMWRITE_JPEG_SAMPLING_FACTOR_422,
    "420": cv2.IMWRITE_JPEG_SAMPLING_FACTOR_420,
}


def picture(rng, height: int, width: int, sigma: float) -> np.ndarray:
    image = rng.integers(0, 256, (height, width, 3)).astype(np.float32)
    if sigma:
        image = cv2.GaussianBlur(image, (0, 0), sigma)
        image = (image - image.min()) / np.ptp(image) * 255
    return image.astype(np.uint8)


def encode(image: np.ndarray, *options: int) -> bytes:
    return cv2.imencode(".jpg", image, options)[1].tobytes()


def whole(data: bytes) -> np.ndarray:
    """OpenCV's pixels: libjpeg-turbo too, and another build than simplejpeg's."""
    return cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR_RGB | cv2.IMREAD_IGNORE_ORIENTATION)


@pytest.mark.parametrize("sampling", [*SAMPLING, "grey"])
def test_parts_have_the_pixels_of_the_whole(sampling):
    rng = np.random.default_rng(3)
    for case in range(40):
        height, width = (int(n) for n in rng.integers(16, 80, 2))
        image = picture(rng, height, width, (0, 1, 4)[case % 3])
        options = [cv2.IMWRITE_JPEG_QUALITY, (3, 30, 90, 100)[case % 4]]
        options += [cv2.IMWRITE_JPEG_OPTIMIZE, case % 2]
        if case % 5 == 0:
            options += [cv2.IMWRITE_JPEG_RST_INTERVAL, 1 + case % 7]
        if sampling == "grey":
            data = encode(image[..., 0], *options)
        else:
            data = encode(image, *options, cv2.IMWRITE_JPEG_SAMPLING_FACTOR, SAMPLING[sampling])
        expected = whole(data)
        assert jpeg_size(data) == (height, width)
        for rectangle in range(8):
            x0, y0 = int(rng.integers(width)), int(rng.integers(height))
            x1, y1 = int(rng.integers(x0, width)) + 1, int(rng.integers(y0, height)) + 1
            if rectangle == 0:
                x0, y0, x1, y1 = 0, 0, width, height
            assert np.array_equal(jpeg_part(data, x0, y0, x1, y1), expected[y0:y1, x0:x1]), (case, x0, y0)


def test_other_files_are_decoded_whole():
    image = picture(np.random.default_rng(0), 40, 56, 2)
    progressive = encode(image, cv2.IMWRITE_JPEG_PROGRESSIVE, 1)
    png = cv2.imencode(".png", image)[1].tobytes()
    for data in (progressive, png, encode(image[:12])):
        assert jpeg_size(data) is None
        pixels, part = Picture(data).part(Window(3, -4, 9))
        assert part == (0, -4, 9, 9) and np.array_equal(pixels, decode(data)[:5, 3:12])


@pytest.mark.parametrize("window", [(5, 6, 20), (-9, 30, 25), (40, -50, 120), (-60, 5, 12), (70, 90, 8)])
@pytest.mark.parametrize("trim", [0, 1])
def test_a_window_of_a_picture(window, trim):
    """The part and its edge repeated show what the frame and its edge show."""
    data = encode(picture(np.random.default_rng(0), 48, 64, 2))
    full = decode(data)[: 48 - trim, : 64 - trim]
    x0, y0, side = window
    for frame in (Picture(data), Picture(decode(data))):
        assert frame.shape == (48, 64, 3)
        pixels, part = frame.part(Window(*window, trim, trim))

        def taken(image, x, y):
            rows, columns = (np.arange(a, a + side).clip(0, n - 1) for a, n in zip((y, x), image.shape))
            return image[rows[:, None], columns]

        assert part[2:] == (side, side)
        assert np.array_equal(taken(pixels, *part[:2]), taken(full, x0, y0))


def test_damaged_files(tmp_path):
    rng = np.random.default_rng(1)
    data = encode(picture(rng, 64, 80, 1), cv2.IMWRITE_JPEG_RST_INTERVAL, 3)
    assert jpeg_part(data[:-40], 0, 0, 8, 8) is None, "cut off, though after the part"
    with pytest.raises(BrokenImage):
        Picture(data[:-40]).part(Window(0, 0, 8))
    for _ in range(400):  # whatever comes out, nothing outside the arrays is touched
        bad = bytearray(data)
        for at in rng.integers(2, len(bad), int(rng.integers(1, 6))):
            bad[at] = rng.integers(256)
        size = jpeg_size(bytes(bad))
        if size is not None:
            made = jpeg_part(bytes(bad), 0, 0, min(size[1], 200), min(size[0], 200))
            assert made is None or made.dtype == np.uint8
    (tmp_path / "1.jpg").write_bytes(data[:-40])
    sequence = FileSequence("s", str(tmp_path), ["1.jpg"], np.zeros((1, 4)), np.ones(1, bool))
    with pytest.raises(BrokenFrame, match=r"sequence s, frame 1 \(.*1.jpg\): cannot be decoded"):
        sequence.picture(0).part(Window(0, 0, 8))


def test_bad_rectangle():
    data = encode(picture(np.random.default_rng(0), 32, 32, 1))
    for rectangle in ((0, 0, 33, 8), (-1, 0, 8, 8), (0, 25, 8, 40)):
        with pytest.raises(ValueError, match="leaves the image"):
            jpeg_part(data, *rectangle)
