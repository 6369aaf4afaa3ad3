"""The workloads of `python -m benchmarks.loader`: a file each, and what they share."""
