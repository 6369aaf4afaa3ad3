"""Commands that pages show can be given as they stand: options exist, and so do files."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest
from typer.main import get_command

from modyn.cli import app

ROOT = Path(__file__).parents[2]
PAGES = ("docs/following.md", "docs/backtest.md", "examples/weather/README.md")


def commands(page: str) -> list[list[str]]:
    """The words of each command in a block of a page that names no language."""
    text = (ROOT / page).read_text(encoding="utf-8")
    blocks = re.findall(r"^```(\w*)\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
    lines = "".join(block for language, block in blocks if not language)
    lines = lines.replace("\\\n", " ")
    return [shlex.split(line, comments=True) for line in lines.splitlines()]


@pytest.mark.parametrize("page", PAGES)
def test_the_commands_of_a_page_name_options_and_files_that_there_are(page):
    found = [words for words in commands(page) if words[:1] in (["modyn"], ["python"])]

    assert found
    for words in found:
        files = [word for word in words if word.startswith("examples/")]
        assert all(sorted(ROOT.glob(file)) for file in files), words
        if words[0] == "modyn":
            command = get_command(app)
            for name in words[1:3] if words[1] == "dataset" else words[1:2]:
                command = command.commands[name]
            known = {option for parameter in command.params for option in parameter.opts}
            assert {word for word in words if word.startswith("-")} <= known, words
