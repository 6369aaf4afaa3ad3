"""The code of docs/ingest.md runs, and prints what it says."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml

from modyn import formats
from modyn.commands.ingest_config import FORMATS, IngestConfig

PAGE = (Path(__file__).parents[2] / "docs" / "ingest.md").read_text()


def test_the_code_runs_and_prints_what_it_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    code = "\n".join(re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL))

    exec(compile(code, "docs/ingest.md", "exec"), {})

    said = re.findall(r"print\(.*?\)+  # (.*)", code)
    assert len(said) == 4
    assert capsys.readouterr().out.splitlines() == said


def test_the_configuration_is_one() -> None:
    (text,) = re.findall(r"```yaml\n(.*?)```", PAGE, re.DOTALL)

    assert IngestConfig(**yaml.safe_load(text)).make_format() == formats.CSV(
        timestamp="day", label="rain", separator=";"
    )


def test_every_format_is_in_the_table() -> None:
    for kind in FORMATS.values():
        assert f"`{kind.__name__}`" in PAGE
