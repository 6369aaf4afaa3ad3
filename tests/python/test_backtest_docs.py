"""The code of docs/backtest.md and of the notebook about choosing a policy runs as it stands."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from typer.testing import CliRunner

from modyn.backtesting.space import parse
from modyn.cli import app
from modyn.pipelines import config
from tests.python.test_policy_docs import run

ROOT = Path(__file__).parents[2]
NOTEBOOK = ROOT / "notebooks" / "choose_a_policy.ipynb"
PAGE = (ROOT / "docs" / "backtest.md").read_text(encoding="utf-8")


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)


def test_the_code_of_the_page_runs(tmp_path):
    printed = run("".join(blocks("python")), tmp_path)

    assert "at 5,000 samples: below" in printed


def test_the_space_of_the_page_is_that_of_the_example():
    (text,) = blocks("yaml")
    example = (ROOT / "examples/weather/backtest/space.yaml").read_text(encoding="utf-8")

    assert example.split("\n", 1)[1] == text
    assert len(parse(text.encode()).triggers("s")) == 20 + 31 + 31 + 60


def test_every_option_of_the_command_is_on_the_page():
    shown = CliRunner().invoke(app, ["backtest", "--help"], env={"COLUMNS": "200"}).output
    options = set(re.findall(r"--[a-z-]+", shown)) - {"--help", "--debug"}

    assert "--budget" in options
    assert not {option for option in options if f"`{option}" not in PAGE}


def test_the_recording_of_the_page_measures_every_model_on_fixed_windows():
    settings = config.read(ROOT / "examples/weather/backtest/record.yaml")

    assert settings.dataset_id == "weather"
    assert [handler.models for handler in settings.evaluation.handlers] == ["matrix"]


def test_the_cells_of_the_notebook_run(tmp_path):
    pytest.importorskip("plotly")
    cells = json.loads(NOTEBOOK.read_text(encoding="utf-8"))["cells"]
    code = ["".join(cell["source"]) + "\n" for cell in cells if cell["cell_type"] == "code"]

    printed = run("".join(code), tmp_path)

    assert "of 30 are exact" in printed
    assert re.search(r"chosen: (accuracy|drift)", printed)
