"""A place to run `modyn` in: a dataset, a pipeline file, and the command as users call it."""

from __future__ import annotations

from pathlib import Path

from typer.testing import CliRunner

from modyn import cli
from tests.python.streams import drifting

ROOT = Path(__file__).parents[2]
CONFIG = """\
pipeline: {{name: {name}, seed: 3}}
data: {{dataset_id: stream}}
model: {{id: {model}, config: {{num_classes: 2, {config}}}}}
trigger: {{id: DataAmountTrigger, num_samples: 150}}
selection_strategy: {{name: NewDataStrategy, tail_triggers: null}}
training:
  batch_size: 32
  epochs_per_trigger: {epochs}
  use_previous_model: false
  shuffle: true
  optimizers:
    - {{name: default, algorithm: SGD, source: PyTorch, param_groups: [{{module: model}}]}}
  optimization_criterion: {{name: CrossEntropyLoss}}
evaluation:
  device: cpu
  handlers:
    - name: slices
      execution_time: after_pipeline
      models: matrix
      strategy: {{type: SlicingEvalStrategy, eval_every: 100s}}
      datasets: [stream]
  datasets:
    - {{dataset_id: stream, batch_size: 128, metrics: [{{name: Accuracy}}, {{name: RocAuc}}]}}
"""


class Bench:
    """A folder with a dataset and pipeline files, and the command line in it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.datasets = folder / "datasets"
        self.out = folder / "runs"
        drifting(self.datasets / "stream").close()

    def file(self, name: str = "small", **changes: object) -> Path:
        values = {"name": name, "model": "MLP", "config": "hidden: [8]", "epochs": 1} | changes
        path = self.folder / f"{Path(str(name)).name}.yaml"
        path.write_text(CONFIG.format(**values))
        return path

    def modyn(self, *words: object):
        return CliRunner().invoke(cli.app, [str(word) for word in words], prog_name="modyn")

    def run(self, *files: Path, more: tuple[object, ...] = ()):
        return self.modyn("run", *files, "--out", self.out, "--datasets", self.datasets, *more)
