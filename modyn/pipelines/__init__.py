"""Pipelines: configuration, the run, training, evaluation, and the ledger of what was done."""
