"""How far two windows of samples are apart, and when a series of numbers has changed."""

from modyn.drift.base import Distance, DriftMetric

__all__ = ["Distance", "DriftMetric"]
