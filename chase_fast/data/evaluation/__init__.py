"""Benchmarks as they lie on disk, opened to run and score a tracker: `open_evaluation("kind:path:split")`."""

from chase_fast.data.evaluation.sets import KINDS, open_evaluation
from chase_fast.data.evaluation.types import EvaluationSequence, EvaluationSet

__all__ = ["KINDS", "EvaluationSequence", "EvaluationSet", "open_evaluation"]
