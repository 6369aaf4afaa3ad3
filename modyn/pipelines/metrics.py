"""The metrics of `modyn.metrics`, where those who evaluate look for them."""

from modyn.metrics import Accuracy, Counts, F1Score, Labels, Metric, Part, RocAuc, Scores

__all__ = ["Accuracy", "Counts", "F1Score", "Labels", "Metric", "Part", "RocAuc", "Scores"]
