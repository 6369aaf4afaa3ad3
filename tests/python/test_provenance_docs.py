"""What docs/provenance.md and docs/selection-dry-run.md show is what is printed."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from modyn import cli

ROOT = Path(__file__).parents[2]
PAGES = [
    (ROOT / "docs" / name).read_text(encoding="utf-8")
    for name in ("provenance.md", "selection-dry-run.md")
]
BLOCK = re.compile(r"^```(python|console)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
COLUMNS = "100"


def run(arguments: list[str], place: Path) -> str:
    done = subprocess.run(
        [sys.executable, "-W", "error", *arguments],
        cwd=place,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def plain(text: str, place: Path) -> list[str]:
    """The lines of an output, without what is different each time."""
    text = text.replace(f"{place}/", "")
    text = re.sub(r"\b[0-9a-f]{12}\b", "KEY", text)
    text = re.sub(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d UTC, by [^:]+:", "WHEN, by WHO:", text)
    return [line.rstrip() for line in text.splitlines() if line.strip()]


def said(code: str) -> list[str]:
    """What the comments of code say that it prints."""
    return re.findall(r"^# (.*)$", code, re.MULTILINE)


@pytest.fixture(scope="module")
def blocks() -> list[tuple[str, str]]:
    return [block for page in PAGES for block in BLOCK.findall(page)]


def test_commands_and_code_print_what_the_pages_say(
    blocks: list[tuple[str, str]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In the order of the pages; code of the first block makes the runs, the rest looks."""
    shown = looked = 0
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", COLUMNS)
    first = next(text for kind, text in blocks if kind == "python")
    run(["-c", first], tmp_path)
    opening = 'import modyn\nvisits = modyn.Dataset.open("datasets/visits")\n'

    for kind, text in blocks:
        if kind == "console":
            command, _, output = text.partition("\n")
            program, *arguments = shlex.split(command.removeprefix("$ "))
            found = CliRunner().invoke(cli.app, arguments)
            assert (program, found.exit_code) == ("modyn", 0), found.output
            assert plain(found.stdout, tmp_path) == plain(output, tmp_path)
            shown += 1
        elif text != first:
            assert run(["-c", opening + text], tmp_path).splitlines() == said(text)
            looked += 1

    assert (shown, looked) == (6, 2)
