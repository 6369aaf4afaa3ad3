"""Benchmarks: each says what it measures, against what, and on which machine."""
