"""Bars on terminals, lines elsewhere: what the command line shows while a pipeline runs."""

from __future__ import annotations

import os
import pty
import re
import subprocess
import sys

import pytest
from rich.console import Console

from modyn.progress import BarProgress, LineProgress, shown
from tests.python.cli_bench import ROOT, Bench


@pytest.fixture
def bench(tmp_path):
    return Bench(tmp_path)


def tell(progress: BarProgress | LineProgress) -> None:
    """Tell it of a small run."""
    progress.pipeline("[red]small[/red]", 200)
    progress.position(0)
    for trigger in range(2):
        progress.position(100 * (trigger + 1))
        progress.trigger(trigger, 100)
        for epoch in range(2):
            progress.epoch(epoch, 2)
            for batch in range(5):
                progress.batch(5 * epoch + batch + 1, 10)
    progress.evaluate(200, 200)
    progress.done()


def test_a_terminal_shows_nested_bars():
    console = Console(force_terminal=True, width=100, record=True, file=open(os.devnull, "w"))  # noqa: SIM115
    with console.file, shown(console, 1) as progress:
        progress.pipeline("[red]small[/red]", 200)
        progress.position(100)
        progress.trigger(3, 80)
        progress.epoch(1, 2)
        progress.batch(10, 10)
        lines = [line for line in bars_of(progress) if line]
        assert "[red]small[/red] (1 of 1), samples" in lines[0]
        assert "100/200" in lines[0]
        assert "trigger 3 on 80 samples, batches" in lines[1]
        assert "epoch 2 of 2, batches" in lines[2]
        assert "5/5" in lines[2]

        progress.done()
        assert ["small" in line for line in bars_of(progress) if line] == [True]


def bars_of(progress: BarProgress) -> list[str]:
    console = Console(width=120, record=True, file=open(os.devnull, "w"))  # noqa: SIM115
    with console.file:
        console.print(progress._bars.get_renderable())
        return console.export_text().splitlines()


def test_a_pipe_shows_few_plain_lines(tmp_path):
    with open(tmp_path / "log", "w+") as file:
        console = Console(file=file)
        with shown(console, 1) as progress:
            tell(progress)
        file.seek(0)
        lines = file.read().splitlines()

    assert lines[0] == "[red]small[/red]: 200 samples"
    assert re.fullmatch(r"\[red\]small\[/red\]: done after 2 trainings, [0-9.]+ s", lines[1])
    assert len(lines) == 2


def test_a_long_run_shows_a_line_now_and_then(tmp_path, monkeypatch):
    monkeypatch.setattr("modyn.progress.LINES_EVERY_SECONDS", 0.0)
    with open(tmp_path / "log", "w+") as file:
        with shown(Console(file=file), 1) as progress:
            tell(progress)
        file.seek(0)
        text = file.read()

    assert "100 of 200 samples followed; trigger 0 on 100 samples" in text
    assert "batch 10 of 10" in text
    assert "evaluation, 200 of 200 samples" in text


def test_run_draws_bars_on_a_real_terminal(bench):
    ours, theirs = pty.openpty()
    words = ["run", bench.file(), "--out", bench.out, "--datasets", bench.datasets]
    with subprocess.Popen(
        [sys.executable, "-m", "modyn.cli", *map(str, words)],
        stdout=theirs,
        stderr=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": str(ROOT), "TERM": "xterm", "COLUMNS": "100"},
    ) as child:
        os.close(theirs)
        seen = b""
        while True:
            try:
                part = os.read(ours, 65_536)
            except OSError:  # the other end is closed
                break
            if not part:
                break
            seen += part
        stderr = child.stderr.read()
    os.close(ours)

    assert child.returncode == 0, stderr
    plain = re.sub(rb"\x1b\[[0-9;?]*[A-Za-z]", b"", seen).decode()
    assert "small (1 of 1), samples" in plain
    assert "report: " in plain
