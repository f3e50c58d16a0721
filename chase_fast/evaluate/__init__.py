"""Evaluation of trackers: scores by named protocol, result files of any tracker, submissions to servers."""
