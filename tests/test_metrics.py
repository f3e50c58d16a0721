"""Every protocol against the numbers of the toolkit it is named after, on awkward boxes."""

import numpy as np
import pytest

from chase_fast.errors import ChaseError
from chase_fast.evaluate.protocols import PROTOCOLS, Truth, score
from tests.metric_goldens import PROTOCOL_OF, assert_numbers, numbers, probe, synthetic
from tests.tolerances import METRIC, METRIC_FLOAT32

HANDLED = {"nan_gt_as_zero": "zero", "nan_rows_removed": "remove"}
PROBES = sorted(numbers().get("probes", {}))  # a full set may have none


def tolerance(toolkit: str) -> float:
    return METRIC_FLOAT32 if toolkit.startswith("pytracking") else METRIC


def compare(toolkit: str, entry: dict, unknown: str = "toolkit") -> None:
    truths, predictions = synthetic()
    scores = score(PROTOCOL_OF[toolkit], truths, predictions, unknown)
    assert scores.protocol == PROTOCOL_OF[toolkit]
    assert_numbers(scores.metrics, entry["aggregate"], tolerance(toolkit), toolkit)
    assert set(scores.per_sequence) == set(entry["per_sequence"]) and len(scores.per_sequence) == 10
    for name, expected in entry["per_sequence"].items():
        assert_numbers(scores.per_sequence[name], expected, tolerance(toolkit), f"{toolkit} {name}")


def test_every_protocol_has_a_toolkit_and_every_toolkit_a_protocol():
    assert set(PROTOCOL_OF) == set(numbers()["synthetic"]["pred"])
    assert set(PROTOCOL_OF.values()) == set(PROTOCOLS)
    for probe_entry in numbers().get("probes", {}).values():
        assert set(probe_entry) == set(PROTOCOL_OF)


@pytest.mark.parametrize("toolkit", PROTOCOL_OF)
def test_synthetic_boxes_get_the_numbers_of_the_toolkit(toolkit):
    entry = numbers()["synthetic"]["pred"][toolkit]
    if entry["status"] == "ran":
        return compare(toolkit, entry)
    truths, predictions = synthetic()
    with pytest.raises(ChaseError, match="NaN, which protocol"):
        score(PROTOCOL_OF[toolkit], truths, predictions)
    for truth in truths:
        expected = entry["per_sequence"][truth.name]
        if expected.get("status") == "raises":
            with pytest.raises(ChaseError, match=f"{truth.name}: annotated box .* is NaN"):
                score(PROTOCOL_OF[toolkit], [truth], predictions)
        else:
            found = score(PROTOCOL_OF[toolkit], [truth], predictions).per_sequence[truth.name]
            assert_numbers(found, expected, tolerance(toolkit), f"{toolkit} {truth.name}")
    for name, unknown in HANDLED.items():
        compare(toolkit, entry["handled"][name], unknown)


@pytest.mark.parametrize("kind", PROBES)
@pytest.mark.parametrize("toolkit", PROTOCOL_OF)
def test_one_awkward_row_is_treated_as_by_the_toolkit(toolkit, kind):
    entry, (truth, boxes) = numbers()["probes"][kind][toolkit], probe(kind)
    if toolkit == "trackingnet_server" and entry["status"] == "not modelled":
        entry = numbers()["probes"][kind]["trackingnet_devkit_executed"]
    if entry["status"] == "ran":
        found = score(PROTOCOL_OF[toolkit], [truth], {"probe": boxes}).metrics
        return assert_numbers(found, entry["aggregate"], tolerance(toolkit), f"{toolkit} {kind}")
    if toolkit == "lasot_official" and kind == "pred_too_long":  # its rule: cut to the annotation
        found = score(PROTOCOL_OF[toolkit], [truth], {"probe": boxes}).metrics
        return assert_numbers(found, numbers()["probes"]["clean"][toolkit]["aggregate"], METRIC, kind)
    with pytest.raises(ChaseError, match="probe"):
        score(PROTOCOL_OF[toolkit], [truth], {"probe": boxes})


def test_scoring_changes_neither_truth_nor_prediction():
    truths, predictions = synthetic()
    for name in PROTOCOLS:
        score(name, truths, predictions, "zero")
    again, same = synthetic()
    for old, new in zip(again, truths, strict=True):
        np.testing.assert_array_equal(old.boxes, new.boxes)
        np.testing.assert_array_equal(same[old.name], predictions[old.name])


def test_the_curves_belong_to_the_numbers():
    truths, predictions = synthetic()
    for name in PROTOCOLS:
        scores = score(name, truths, predictions, "remove")
        thresholds, values = scores.curves["success"]
        assert thresholds.shape == values.shape
        area = np.trapezoid(values, thresholds) if name == "trackingnet" else values.mean()
        assert area == pytest.approx(scores.metrics["AUC101" if name == "got10k" else "AUC"], abs=METRIC)


def test_repetitions_are_put_end_to_end_for_got10k_and_refused_elsewhere():
    truth, boxes = probe("clean")
    shifted = boxes + [30, 0, 0, 0]
    both = score("got10k", [truth], {"probe": np.stack([boxes, shifted])}).metrics
    alone = [score("got10k", [truth], {"probe": b}).metrics for b in (boxes, shifted)]
    assert both["frames_scored"] == 78
    assert both["AO"] == pytest.approx(np.mean([a["AO"] for a in alone]), abs=METRIC)
    with pytest.raises(ChaseError, match=r"probe has 2 repetitions.*choose one"):
        score("otb", [truth], {"probe": np.stack([boxes, shifted])})


def test_what_a_dataset_does_not_say():
    truth, boxes = probe("clean")
    bare = Truth("probe", truth.boxes, size=truth.size)
    alike = [score("got10k", [t], {"probe": boxes}).metrics for t in (bare, truth)]
    assert alike[0] == alike[1]
    for name in ("pysot-absent", "lasot-official", "lasot-pytracking"):
        with pytest.raises(ChaseError, match=f"probe has no absence flags, which protocol {name}"):
            score(name, [bare], {"probe": boxes})
    with pytest.raises(ChaseError, match="probe has no picture size"):
        score("got10k", [Truth("probe", truth.boxes)], {"probe": boxes})


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"protocol": "got"}, "no protocol 'got': choose one of got10k, otb"),
        ({"truths": []}, "no sequences to score"),
        ({"predictions": {}}, "no results for probe"),
        ({"predictions": {"probe": np.zeros((40, 5))}}, r"probe have shape \(40, 5\)"),
        ({"predictions": {"probe": np.zeros((0, 4))}}, r"probe have shape \(0, 4\)"),
        ({"unknown": "drop"}, "unknown boxes as 'drop': choose one of toolkit, zero, remove"),
        (
            {"truths": [Truth("probe", np.ones((40, 4)), np.zeros(39, bool))]},
            "40 annotated boxes but 39 absent",
        ),
        (
            {"truths": [Truth("probe", np.full((40, 4), np.nan))], "unknown": "remove"},
            "probe has no known first box",
        ),
        ({"truths": [Truth("probe", np.ones((39, 4)))], "unknown": "remove"}, "40 predicted boxes for 39"),
    ],
)
def test_wrong_input_is_one_clear_line(change, message):
    truth, boxes = probe("clean")
    arguments = {"protocol": "otb", "truths": [truth], "predictions": {"probe": boxes}} | change
    with pytest.raises(ChaseError, match=message):
        score(**arguments)
