"""Models that come with modyn, by the id that configurations use."""

BUILT_IN = {"MLP": "modyn.models.mlp"}
