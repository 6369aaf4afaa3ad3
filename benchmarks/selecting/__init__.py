"""The workloads of benchmarks.selection."""
