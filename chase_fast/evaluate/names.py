"""What metrics and benchmarks are called on the page; scores.json and scores.csv keep the short names."""

from pathlib import Path

from chase_fast.data.evaluation import EvaluationSet
from chase_fast.datasets import KINDS

METRICS = {
    "AO": "Average overlap",
    "SR50": "Success rate at 0.5",
    "SR75": "Success rate at 0.75",
    "AUC101": "Area under success",
    "frames_scored": "Frames scored",
    "AO_seqmean": "Average overlap, mean of sequences",
    "SR50_seqmean": "Success rate at 0.5, mean of sequences",
    "AUC": "Area under success",
    "OP50": "Overlap precision at 0.5",
    "OP75": "Overlap precision at 0.75",
    "P": "Precision",
    "P20": "Precision at 20 px",
    "NP": "Normalised precision",
    "NP_mean": "Normalised precision, mean",
    "NP_at_0p2": "Normalised precision at 0.2",
    "NP_at_0p5": "Normalised precision at 0.5",
    "mean_iou_valid": "Mean overlap, valid frames",
    "coverage": "Coverage",
}
PLAIN = "_without_drop"


def metric(name: str) -> str:
    """`P20` -> `Precision at 20 px`."""
    plain = name.endswith(PLAIN)
    title = METRICS.get(name.removesuffix(PLAIN), name)
    return f"{title}, failures in the mean" if plain else title


def data_set(data: EvaluationSet) -> str:
    """A data set's name: its folder's, the split's, and the benchmark's if the folder does not say it."""
    _, path, *split = data.spec.split(":")
    folder = Path(path).resolve().name or path
    parts = [folder, *(Path(s).stem for s in split if s)]
    benchmark = KINDS[data.kind].title
    known = benchmark.lower().replace("-", "") in folder.lower().replace("-", "").replace("_", "")
    return " ".join(parts) + ("" if known or not benchmark else f" ({benchmark} layout)")
