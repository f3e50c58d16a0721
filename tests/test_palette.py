"""Colours that stay apart: distances and contrasts computed here, from the definitions of CIELAB and WCAG."""

import itertools

import numpy as np
import pytest

from chase_fast.draw import palette

# viewers without red- and without green-sensitive cones, in linear RGB (Machado, Oliveira and Fernandes 2009)
VISION = {
    "normal": np.eye(3),
    "protanope": [
        [0.152286, 1.052583, -0.204868],
        [0.114503, 0.786281, 0.099216],
        [-0.003882, -0.048116, 1.051998],
    ],
    "deuteranope": [
        [0.367322, 0.860646, -0.227968],
        [0.280085, 0.672501, 0.047413],
        [-0.011820, 0.042940, 0.968881],
    ],
}


def linear(colour: str) -> np.ndarray:
    """#rrggbb -> linear RGB [3]."""
    value = np.array([*bytes.fromhex(colour[1:])]) / 255
    return np.where(value <= 0.04045, value / 12.92, ((value + 0.055) / 1.055) ** 2.4)


def lab(rgb: np.ndarray) -> np.ndarray:
    """Linear RGB -> CIELAB of the D65 white."""
    matrix = np.array([[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]])
    share = matrix @ np.clip(rgb, 0, 1) / matrix.sum(1)
    x, y, z = np.where(share > 0.008856, np.cbrt(share), 7.787 * share + 16 / 116)
    return np.array([116 * y - 16, 500 * (x - y), 200 * (y - z)])


@pytest.mark.parametrize("vision", VISION)
@pytest.mark.parametrize(
    "colours, dashes, distance",
    [
        (palette.OP_LIGHT, palette.OP_DASH, 20),
        (palette.OP_DARK, palette.OP_DASH, 20),
        (palette.SERIES_LIGHT, palette.SERIES_DASH * 2, 30),
        (palette.SERIES_DARK, palette.SERIES_DASH * 2, 30),
    ],
    ids=["op light", "op dark", "series light", "series dark"],
)
def test_lines_of_one_dash_stay_apart_in_every_vision(colours, dashes, distance, vision):
    seen = [lab(VISION[vision] @ linear(c)) for c in colours]
    for i, j in itertools.combinations(range(len(colours)), 2):
        apart = np.linalg.norm(seen[i] - seen[j])
        assert dashes[i] != dashes[j] or apart > distance, (colours[i], colours[j], apart)


@pytest.mark.parametrize("scheme", [0, 1], ids=["light", "dark"])
def test_lines_keep_their_contrast_to_the_page(scheme):
    def luminance(colour):
        return float(linear(colour) @ [0.2126, 0.7152, 0.0722])

    page = luminance(palette.SURFACE[scheme])
    colours = (palette.OP_LIGHT, palette.OP_DARK)[scheme] + (palette.EXTRA_LIGHT, palette.EXTRA_DARK)[scheme]
    for colour in colours + (palette.SERIES_LIGHT, palette.SERIES_DARK)[scheme]:
        low, high = sorted((page, luminance(colour)))
        assert (high + 0.05) / (low + 0.05) >= 3, colour


def test_thirty_two_series_look_different():
    assert len({palette.series_look(n) for n in range(32)}) == 32
    assert palette.series_rgb(1) == (255, 154, 92)
