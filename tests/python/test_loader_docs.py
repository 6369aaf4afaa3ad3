"""The code of docs/loader.md runs, and prints what it says."""

from __future__ import annotations

import inspect
import os
import re
import subprocess
import sys
from pathlib import Path

from modyn import Loader

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "loader.md").read_text(encoding="utf-8")


def test_the_code_runs_and_prints_what_it_says(tmp_path: Path) -> None:
    code = "\n".join(re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL))
    (tmp_path / "page.py").write_text(code, encoding="utf-8")

    done = subprocess.run(
        [sys.executable, "-W", "error", "page.py"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=120,
    )

    said = re.findall(r"print\(.*\)  # (.*)", code)
    assert done.returncode == 0, done.stderr
    assert len(said) >= 8
    assert done.stdout.splitlines() == said


def test_the_options_of_the_page_are_those_of_the_loader() -> None:
    parameters = set(inspect.signature(Loader).parameters)

    named = set(re.findall(r"`(\w+)=", PAGE)) - {"close"}
    assert named <= parameters, named - parameters
    assert {"decode", "decode_processes", "collate", "device", "shuffle"} <= named
