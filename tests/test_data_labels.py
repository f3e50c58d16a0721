"""Box jitter, labels and proposals against the golden arrays, and their own properties."""

import numpy as np
import pytest
import torch

from chase_fast.data.boxes import iou, jitter_box
from chase_fast.data.labels import gaussian_density, gaussian_label, normalise_density
from chase_fast.data.proposals import gmm_proposals, perturb_box
from tests import golden
from tests.tolerances import GOLDEN, assert_close

FILE = "prdimp/labels_proposals"
SIGMA = 0.9


def close(ours, name):
    expected = golden.load(FILE)[name]
    assert_close(torch.from_numpy(ours), torch.from_numpy(expected), GOLDEN["forward"], name)


@pytest.mark.parametrize("filter_size", [4, 3, 1])
def test_gaussian(filter_size):
    boxes = golden.load(FILE)["bb"]
    cells = 19 if filter_size == 4 else 18
    name = f"gauss_k{filter_size}"
    close(gaussian_label(boxes, cells, SIGMA, filter_size=filter_size), name)
    close(gaussian_label(boxes, 18, SIGMA, filter_size=filter_size), f"{name}_nopad")
    close(gaussian_density(boxes, cells, SIGMA, filter_size=filter_size), f"{name}_density")
    if filter_size == 4:
        close(gaussian_density(boxes, cells, SIGMA, uniform=0.1), "gauss_k4_uni")


def test_density():
    boxes = golden.load(FILE)["bb"]
    close(normalise_density(gaussian_density(boxes, 19, SIGMA)), "density_norm")
    mixed = gaussian_density(boxes, 19, SIGMA, uniform=0.05)
    close(normalise_density(mixed, threshold=0.01, shrink=0.1), "density_norm_thr001_shr01_uni005")


def test_gmm_proposals():
    data = golden.load(FILE)
    made = gmm_proposals(data["kl_box"], data["kl_component"], data["kl_z"])
    for ours, name in zip(made, ("kl_proposals", "kl_proposal_density", "kl_gt_density")):
        close(ours, name)


def test_jitter():
    data = golden.load(FILE)
    for name, scale, centre in (("train", 0.25, 3), ("test", 0.5, 4.5)):
        z, u = data[f"jitter_{name}_z"], data[f"jitter_{name}_u"]
        close(jitter_box(data["bb"][0], z, u, scale, centre), f"jitter_{name}_box")


def test_perturbed_boxes():
    data = golden.load(FILE)
    normals = iter(data["dimp_z_flat"])
    made = [
        perturb_box(data["dimp_boxes_in"][i], factor, lambda: next(normals), lambda: 0.5)
        for i, factor in zip(data["dimp_box_index"], data["dimp_sigma_factor"])
    ]
    close(np.array([box for box, _ in made]), "dimp_proposals")
    close(np.array([overlap for _, overlap in made]), "dimp_iou")
    assert next(normals, None) is None, "all draws are used"


def test_perturbed_boxes_of_a_tiny_target():
    rng = np.random.default_rng(0)
    box = np.array([3.3, 4.4, 2.5, 1.5])
    for _ in range(50):
        made, overlap = perturb_box(box, 0.3, rng.standard_normal, rng.random)
        assert (made[2:] > 0).all() and overlap == pytest.approx(float(iou(made, box)))


def test_iou():
    data = golden.load(FILE)
    close(iou(data["iou_ref"], data["iou_boxes"]), "iou_out")
