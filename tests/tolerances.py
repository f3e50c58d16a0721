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

# (g+ - g-) / 2R of a second-order step in every precision of the search, apart from dalpha: relative error
# to float64, and cosine with it at least
SEARCH_PRECISION = {"implicit": 5e-2, "cosine": 0.998}

# galpha of a second-order step on a smooth network in float64, r = 1e-4, against double backward through the
# unrolled step: the error of a central difference is of the order of r^2 (5e-9 seen)
UNROLL = 1e-7

# centres of targets whose motion is known, absolute px, on average over frames and, where nothing but
# geometry decides, in every frame; and of the first box in its patches, patch px
CENTRE_PX = 0.15

COLOUR_LEVELS = 4  # known colours through an encoder at almost no loss, of 255

# the whole tracker in float32 against float32 goldens, absolute. A second run of the public implementation on
# one thread differs from its own golden by 3e-5 px and 9e-6; a frame's box is the next frame's window.
TRACKER = {"px": 5e-4, "score": 1e-4}

# a target tracked in a batch and alone, absolute px: convolutions sum in another order for other batch sizes
BATCHED_PX = 1e-2

# the tracker in C++ beside the torch form, same features: rounding of filter, crops and box steps;
# measured 4e-5 over 7 frames of video, networks with random weights
NATIVE_PX = 1e-3

# frames on a GPU against the same frames on a CPU, absolute px and score: other convolutions, random weights,
# and the box of a frame is the window of the next
ON_GPU_PX = 1e-1

# mean and variance behind a calibrated BatchNorm: running variances are unbiased, batch variances are not
CALIBRATION = 2e-2

# evaluation numbers (fractions of 1) against the toolkits' own, absolute: sums in another order differ in
# the last digits. pytracking keeps its curves in float32.
METRIC = 1e-12
METRIC_FLOAT32 = 1e-6

# gradients and BatchNorm statistics of a training step in float32, in another memory layout: the batch norms
# over a handful of values amplify rounding (7e-5 seen)
TRAIN_STEP = 1e-3
# convolutions in bfloat16 (8 bits) against float32: relative loss, and cosine of the two gradients
TRAIN_BF16 = {"loss": 5e-2, "cosine": 0.9}

# several ranks against one process with the same BatchNorm groups, relative: gradients are added in another
# order. Training is in float32, and the box regressor normalises over few values.
RANKS = 1e-9
RANKS_FLOAT32 = 1e-3


# samples from packed data against those from frames, in grey levels (of 255): the mean over all frames, the
# mean of the worst frame, and what 99.9 % of the pixels stay below. A reduced level is averaged before it is
# sampled, frames are sampled without that: aliasing differs, nothing else. exact: what is at full resolution
PACKED = {
    "exact": {"mean": 0, "frame": 0, "q999": 0},
    "raw": {"mean": 1.0, "frame": 2.5, "q999": 14},
    "jpeg": {"mean": 1.5, "frame": 3, "q999": 14},
    "synthetic": {
        "mean": 0.6,
        "frame": 3.5,
        "q999": 25,
    },  # rendered with noise: more to alias than JPEG keeps
}


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


# relative difference of whole maps between engines in float32: other orders of sums through 40 layers;
# measured 1e-6 to 3e-6, ResNet-18 and -50, OpenVINO 2026.4 and ONNX Runtime 1.32
ENGINE = 2e-5
