"""The soak: what it calls flat, and a short run of it."""

import sys

import numpy as np
import pytest

from tests import soak

FRAMES = range(500, 20_001, 500)


def growth(per_frame: float, noise_mb: float = 1.0, early_mb: float = 80.0) -> soak.Growth:
    """Memory that settles in the first frames, then grows; as it looks with noise."""
    rng = np.random.default_rng(0)
    memory = [
        600 + early_mb * (1 - np.exp(-f / 800)) + per_frame * f / 2**20 + noise_mb * rng.uniform(-1, 1)
        for f in FRAMES
    ]
    return soak.Growth("folder", 20_000, tuple(FRAMES), tuple(memory), soak.slope(FRAMES, memory), 100.0, 1.0)


def test_flat_is_told_from_a_leak_of_one_small_object_per_frame():
    assert growth(soak.KEPT).flat and growth(0).flat and growth(soak.KEPT, early_mb=300).flat
    for leak in (3 * 232, 4096, 96 * 64 * 3):  # a dict of every target, a page, a small image
        assert not growth(soak.KEPT + leak).flat
    assert "GROWS" in str(growth(10_000)) and "flat" in str(growth(soak.KEPT))
    assert growth(soak.KEPT, noise_mb=0, early_mb=0).slope == pytest.approx(soak.KEPT)


def test_too_few_samples_are_no_verdict():
    with pytest.raises(ValueError, match="too few"):
        soak.slope([500, 1000], [600.0, 600.0])


@pytest.mark.skipif(sys.platform != "linux", reason="memory is read from /proc (Linux)")
def test_a_short_soak(tmp_path):
    found = soak.soak("folder", 180, 15, tmp_path, soak.network(tmp_path), "balanced")
    assert found.frames[-1] < 180 and len(found.frames) >= 5 and found.tracked > 0.5
    assert max(found.megabytes) - found.megabytes[1] < 20, "MB; a leak of every frame would be 36"
    assert found.count == 180 and found.slope < 20 * 2**20 / 180
