"""The code of the pages and of the notebook about policies runs as it stands."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*own_policy*.ipynb"))


def run(code: str, directory: Path) -> str:
    """Run code as a script, with warnings as errors, and return what it prints."""
    script = directory / "script.py"
    script.write_text(code, encoding="utf-8")
    done = subprocess.run(
        [sys.executable, "-W", "error", script.name],
        cwd=directory,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize(
    ("page", "count", "line"),
    [
        ("policies.md", 12, "check_downsampler(HighLosses"),
        ("selection.md", 2, "downsampling="),
        ("signals.md", 5, "check_selection(Hardest"),
        ("triggers/detectors.md", 1, "ADWIN()"),
        ("triggers/ensembles.md", 1, "AtLeastN(n=1)"),
    ],
)
def test_the_code_of_the_page_runs(page: str, count: int, line: str, tmp_path: Path) -> None:
    text = (ROOT / "docs" / page).read_text(encoding="utf-8")
    blocks = re.findall(r"^```python\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)

    run("".join(blocks), tmp_path)

    assert len(blocks) >= count
    assert line in "".join(blocks)


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.name)
def test_the_cells_of_a_notebook_run(path: Path, tmp_path: Path) -> None:
    cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
    code = ["".join(cell["source"]) + "\n" for cell in cells if cell["cell_type"] == "code"]

    printed = run("".join(code), tmp_path)

    assert "trigger 2: " in printed
    assert "Careless: how the stream is cut into blocks changes what fires" in printed


def test_notebooks_are_kept_without_outputs() -> None:
    """Outputs are what a reader makes; in git they only grow old."""
    for path in NOTEBOOKS:
        for cell in json.loads(path.read_text(encoding="utf-8"))["cells"]:
            if cell["cell_type"] == "code":
                assert cell["outputs"] == []
                assert cell["execution_count"] is None
    assert NOTEBOOKS
