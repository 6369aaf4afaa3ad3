"""The code of docs/policies.md and of the notebooks runs from top to bottom."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*policy*.ipynb"))


def run(cells: list[str], name: str) -> dict[str, object]:
    """Execute cells in order in one namespace, as a kernel would."""
    namespace: dict[str, object] = {"__name__": "__main__"}
    for number, cell in enumerate(cells):
        exec(compile(cell, f"{name}, cell {number}", "exec"), namespace)
    return namespace


def test_the_code_of_the_page_runs() -> None:
    text = (ROOT / "docs" / "policies.md").read_text(encoding="utf-8")
    cells = re.findall(r"^```python\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)

    namespace = run(cells, "docs/policies.md")

    assert len(cells) >= 7
    assert "EveryLabelSeen" in namespace


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.name)
def test_a_notebook_runs(path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    cells = json.loads(path.read_text(encoding="utf-8"))["cells"]

    code = ["".join(cell["source"]) for cell in cells if cell["cell_type"] == "code"]

    assert code
    run(code, path.name)


def test_notebooks_are_kept_without_outputs() -> None:
    """Outputs are what a reader makes; in git they only grow old."""
    for path in NOTEBOOKS:
        for cell in json.loads(path.read_text(encoding="utf-8"))["cells"]:
            if cell["cell_type"] == "code":
                assert cell["outputs"] == []
                assert cell["execution_count"] is None
    assert NOTEBOOKS
