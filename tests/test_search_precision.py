"""The implicit term of the alpha gradient in every precision against float64, apart from the rest of it."""

import pytest
import torch

from bench.precision import CONTROL, Setting, measure, within


@pytest.mark.parametrize("flavour", ("chase", "darts"))
def test_implicit_term(flavour):
    """fp32 and bf16, as the search runs them, are within the limits; a difference in bfloat16 is far beyond,
    though hardly a digit of the whole gradient shows it."""
    setting = Setting(channels=32, frames=3, sequences=1, size=10, flavour=flavour)
    rows = measure(setting, ("fp32", "bf16", CONTROL), torch.device("cpu"))
    assert within(rows["fp32"]) and within(rows["bf16"]), rows
    assert not within(rows[CONTROL]) and rows[CONTROL]["implicit"] > 0.5, rows
    assert rows[CONTROL]["implicit"] * rows[CONTROL]["share"] < 0.1 and rows[CONTROL]["dalpha"] < 0.1
