"""All tolerances of the tests, in one table. Errors are relative RMS: |a - b| / (|b| + tiny), unless said."""

import torch

# kernel against its reference: forward and every gradient
KERNEL = {torch.float64: 1e-10, torch.float32: 2e-5, torch.bfloat16: 2e-2}

# our reference against the golden arrays of the public implementations (float64)
GOLDEN = {
    "forward": 1e-9,
    "gradient": 1e-9,
    "alpha_2nd_order": 1e-7,
    "float32_forward": 1e-4,
    "float32_implicit": 1e-3,
}

# mean and variance behind a calibrated BatchNorm: running variances are unbiased, batch variances are not
CALIBRATION = 2e-2


def error(a: torch.Tensor, b: torch.Tensor) -> float:
    """Relative RMS difference of a to the expected b; NaN anywhere gives inf, shapes must agree."""
    assert a.shape == b.shape, f"shape {tuple(a.shape)} != {tuple(b.shape)}"
    a, b = a.detach().double().cpu(), b.detach().double().cpu()
    if torch.isnan(a).any():
        return float("inf")
    return float((a - b).norm() / (b.norm() + 1e-30)) if b.norm() > 0 else float(a.norm())


def assert_close(a: torch.Tensor, b: torch.Tensor, tolerance: float, what: str = "") -> None:
    e = error(a, b)
    assert e <= tolerance, f"{what}: relative RMS error {e:.3g} > {tolerance:.3g}"
