"""All of a loader but its tensors works where torch is not installed."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import modyn

ROOT = Path(__file__).parents[2]

# As if torch were not there: `import torch` is an ImportError.
HEADER = """
import sys
sys.modules["torch"] = None
import json, os, pickle, multiprocessing
import numpy as np, modyn
from modyn.trainset import TrainingSet
data = modyn.Dataset.open(sys.argv[1])
loader = modyn.Loader(data, np.arange(50), batch_size=8, shuffle="global", seed=2,
                      weights=np.arange(50) / 2)
def all_keys(batches):
    return [key for batch in batches for key in batch.numpy("keys").tolist()]
"""

SCRIPTS = {
    "arrays": """
for batch in loader:
    keys = batch.numpy("keys")
    assert batch.numpy("x").tolist() == [[key, -key] for key in keys.astype(int).tolist()]
    assert batch.numpy("labels").tolist() == (keys % 3).tolist()
    assert batch.numpy("weights").tolist() == (keys / 2).tolist()
    assert list(batch.numpy("text")) == [b"t" * (int(key) % 4) for key in keys]
""",
    "memory of others": """
batch = next(iter(loader))
x = batch.numpy("x")
same, view = np.from_dlpack(x), memoryview(x)
assert (view.format, view.shape, view.readonly) == ("q", (8, 2), False)
assert x.__dlpack_device__() == (1, 0)
x[3, 1] = 77
assert same[3, 1] == view[3, 1] == 77 == batch.numpy("x")[3, 1]
part = batch._core.part(0)
assert np.from_dlpack(part).tolist() == memoryview(part).tolist() == batch.numpy("keys").tolist()
del batch, x, part
assert same[3, 1] == view[3, 1] == 77
""",
    "states": """
whole = all_keys(loader)
iterator = iter(loader)
for _ in range(3):
    next(iterator)
state = json.loads(json.dumps(loader.state_dict()))
loader.load_state_dict(state)
assert all_keys(loader) == whole[24:]
assert all_keys(pickle.loads(pickle.dumps(loader))) == whole
""",
    "forks": """
expected = sum(all_keys(loader))
next(iterator := iter(loader))
child = os.fork()
if child == 0:
    os._exit(sum(all_keys(loader)) != expected)
assert os.waitpid(child, 0)[1] == 0
""",
    "decode and collate": """
made = modyn.Loader(data, np.arange(50), batch_size=8, decode={"text": len},
                    collate=lambda batch: np.asarray(batch.numpy("text")).sum())
assert [int(total) for total in made] == [12, 12, 12, 12, 12, 12, 1]
""",
    "an error that says what is missing": """
batch = next(iter(loader))
for act in (lambda: batch["x"], lambda: batch.keys, batch.tensors, loader.torch_dataset):
    try:
        act()
        raise SystemExit("no error")
    except ImportError as error:
        assert "pip install 'modyn[torch]'" in str(error), error
""",
}


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("numpy") / "data"
    with modyn.Dataset.create(path, schema={"x": "int64[2]", "text": "bytes"}) as writer:
        keys = np.arange(50)
        texts = [b"t" * (int(key) % 4) for key in keys]
        x = np.stack([keys, -keys], axis=1)
        writer.append({"x": x, "text": texts}, labels=keys % 3, timestamps=keys)
    return path


@pytest.mark.parametrize("name", SCRIPTS)
def test_without_torch_there_are(path, name):
    command = [sys.executable, "-W", "error", "-c", HEADER + SCRIPTS[name], str(path)]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}

    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120)

    assert (done.returncode, done.stderr) == (0, "")
