"""The code of docs/backtest.md and of the notebook about choosing a policy runs as it stands."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from modyn.backtesting.space import parse
from tests.python.test_policy_docs import run

ROOT = Path(__file__).parents[2]
NOTEBOOK = ROOT / "notebooks" / "choose_a_policy.ipynb"
PAGE = (ROOT / "docs" / "backtest.md").read_text(encoding="utf-8")


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)


def test_the_code_of_the_page_runs(tmp_path):
    printed = run("".join(blocks("python")), tmp_path)

    assert "at 5,000 samples: below" in printed


def test_the_space_of_the_page_is_one():
    (text,) = blocks("yaml")

    assert len(parse(text.encode()).triggers("s")) == 4 + 2 * 31


def test_the_cells_of_the_notebook_run(tmp_path):
    pytest.importorskip("plotly")
    cells = json.loads(NOTEBOOK.read_text(encoding="utf-8"))["cells"]
    code = ["".join(cell["source"]) + "\n" for cell in cells if cell["cell_type"] == "code"]

    printed = run("".join(code), tmp_path)

    assert "of 30 are exact" in printed
    assert re.search(r"chosen: (accuracy|drift)", printed)
