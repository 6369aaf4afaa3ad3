"""The workloads of benchmarks/metadata.py."""
