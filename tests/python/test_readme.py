"""The Python code of README.md runs, block after block, in an empty directory."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


def blocks(text: str) -> list[tuple[int, str]]:
    """First line and code of every block marked as Python."""
    found = re.finditer(r"^```python\n(.*?)^```$", text, flags=re.DOTALL | re.MULTILINE)
    return [(text.count("\n", 0, m.start(1)), m.group(1)) for m in found]


def run(text: str, file: str) -> dict[str, object]:
    """All blocks in one namespace; a traceback names the line of the file."""
    names: dict[str, object] = {"__name__": "readme"}
    for line, code in blocks(text):
        exec(compile("\n" * line + code, file, "exec"), names)
    return names


def test_the_code_of_the_readme_runs(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    text = (ROOT / "README.md").read_text()

    run(text, "README.md")

    assert blocks(text), "README.md has no Python code"


def test_blocks_share_names_and_errors_name_the_line():
    text = "a\n\n```python\nx = 1\n```\n\n```sh\nfalse\n```\n\n```python\n\ny = x + z\n```\n"

    with pytest.raises(NameError, match="'z'") as caught:
        run(text, "README.md")

    assert caught.traceback[-1].lineno + 1 == 13


def test_the_set_up_commands_exist():
    text = (ROOT / "README.md").read_text()
    commands = re.findall(r"^make ([a-z-]+)", text, flags=re.MULTILINE)

    assert {"run", "test"} <= set(commands)
    for target in sorted(set(commands)):
        subprocess.run(
            ["make", "--dry-run", target], cwd=ROOT, check=True, capture_output=True, timeout=60
        )


@pytest.mark.parametrize("name", ["README.md", "CONTRIBUTING.md", "docs/*.md"])
def test_the_files_that_a_page_names_exist(name):
    missing = []
    for page in ROOT.glob(name):
        text = page.read_text()
        links = [page.parent / link for link in re.findall(r"\]\(([^)#:]+)\)", text)]
        paths = re.findall(
            r"\b((?:csrc|modyn|tests|docs|scripts|examples)/[\w./-]*\w)(?!\w*\*)", text
        )
        named = [*links, *(ROOT / path for path in paths)]
        missing += [f"{page.name}: {path}" for path in named if not path.exists()]

    assert missing == []
