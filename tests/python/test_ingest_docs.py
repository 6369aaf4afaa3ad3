"""The code of docs/ingest.md runs, and prints what it says."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import yaml

from modyn import formats
from modyn.commands.ingest_config import FORMATS, IngestConfig

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "ingest.md").read_text()


def test_the_code_runs_and_prints_what_it_says(tmp_path: Path) -> None:
    code = "\n".join(re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL))
    (tmp_path / "page.py").write_text(code)

    done = subprocess.run(
        [sys.executable, "-W", "error", "page.py"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=120,
    )

    said = re.findall(r"print\(.*?\)+  # (.*)", code)
    assert done.returncode == 0, done.stderr
    assert len(said) == 4
    assert done.stdout.splitlines() == said


def test_the_configuration_is_one() -> None:
    (text,) = re.findall(r"```yaml\n(.*?)```", PAGE, re.DOTALL)

    assert IngestConfig(**yaml.safe_load(text)).make_format() == formats.CSV(
        timestamp="day", label="rain", separator=";"
    )


def test_every_format_is_in_the_table() -> None:
    for kind in FORMATS.values():
        assert f"`{kind.__name__}`" in PAGE
