"""A run that follows ends well at a signal, whatever it does just then, and goes on after it."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from modyn.arrivals import Arrivals
from modyn.commands.follow import Signals, follow
from modyn.pipelines import Run
from modyn.policies import DataAmountTrigger, Trigger
from tests.python.streams import drifting, pipeline

ROOT = Path(__file__).parents[2]
DEADLINE = 60  # seconds after which a test has failed


@pytest.mark.parametrize("starts", [20, pytest.param(200, marks=pytest.mark.long)])
def test_a_run_that_is_stopped_at_any_moment_ends_like_one_that_was_not(tmp_path, rand, starts):
    drifting(tmp_path / "stream").close()
    command = [sys.executable, "-m", "tests.python.stop_driver", tmp_path, starts, rand.seed]
    done = subprocess.run(
        [*map(str, command)], check=False, capture_output=True, text=True, timeout=550, cwd=ROOT
    )
    assert done.returncode == 0, done.stderr
    results = json.loads(done.stdout)

    stopped = [one for one in results if one.get("place")][1:]
    assert len(stopped) >= starts // 2  # the first process of a run does not come to its end
    for one in results:
        assert one["status"] == 0, one
        if one.get("asks"):  # the others may say that an interruption was ignored
            assert "Traceback" not in one["said"], one
            assert "rror" not in one["said"], one
    assert len({one["digest"] for one in results if "digest" in one}) == 1
    seconds = sorted(one["seconds"] for one in stopped)
    print(f"{len(stopped)} signals, from one to the end of the process at most {seconds[-1]:.2f} s")


class Deaf(DataAmountTrigger):
    """Gets a signal in the middle of a long computation."""

    def inform(self, arrivals: Arrivals, context: Any) -> int | None:
        signal.raise_signal(signal.SIGINT)
        end = time.monotonic() + DEADLINE
        while time.monotonic() < end:
            sum(range(1000))
        raise AssertionError("nobody interrupted it")


def followed(out: Path, make: Any) -> Signals:
    with Signals() as signals:
        follow(lambda: [make()], out, "again", out / "models", signals)
    return signals


def test_a_policy_that_computes_for_long_is_interrupted(tmp_path, capsys):
    stream = drifting(tmp_path / "stream")
    many = Deaf(num_samples=150)

    signals = followed(tmp_path, lambda: pipeline(stream, trigger=many, name="run"))

    assert signals.interrupted
    said = capsys.readouterr().out
    assert "run: stopped after 0 samples and 0 triggers\nto go on: again" in said
    assert not Run.open(tmp_path / "run").finished


class Surprised(DataAmountTrigger):
    """Says that something else went wrong when it is interrupted."""

    def inform(self, arrivals: Arrivals, context: Any) -> int | None:
        signal.raise_signal(signal.SIGTERM)
        try:
            time.sleep(DEADLINE)
        except BaseException as error:
            raise ImportError("half of a module") from error
        return None


def test_what_goes_wrong_by_an_interruption_is_no_error(tmp_path, capsys):
    stream = drifting(tmp_path / "stream")

    followed(tmp_path, lambda: pipeline(stream, trigger=Surprised(num_samples=9), name="run"))

    assert "run: stopped after 0 samples" in capsys.readouterr().out


class Wrong(Trigger):
    """Goes wrong, without any signal."""

    def inform(self, arrivals: Arrivals, context: Any) -> int | None:
        raise ImportError("half of a module")


def test_what_goes_wrong_without_one_is(tmp_path):
    stream = drifting(tmp_path / "stream")

    with pytest.raises(ImportError, match="half of a module"):
        followed(tmp_path, lambda: pipeline(stream, trigger=Wrong(), name="run"))


def test_handlers_are_as_they_were_afterwards():
    numbers = signal.SIGINT, signal.SIGTERM, signal.SIGALRM
    before = [signal.getsignal(number) for number in numbers]

    with Signals() as signals:
        with signals.interrupting():
            pass
        signal.raise_signal(signal.SIGTERM)

    assert signals.came
    assert [signal.getsignal(number) for number in numbers] == before
    assert signal.getitimer(signal.ITIMER_REAL) == (0.0, 0.0)


def test_the_second_signal_is_handled_as_before():
    with Signals() as signals:
        with signals.interrupting():
            pass
        signal.raise_signal(signal.SIGINT)
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)


def test_before_anything_began_a_signal_just_ends_the_process():
    script = (
        "import signal\n"
        "from modyn.commands.follow import Signals\n"
        "with Signals():\n"
        "    signal.raise_signal(signal.SIGTERM)\n"
        "    assert False\n"
    )

    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, timeout=DEADLINE, cwd=ROOT
    )

    assert (done.returncode, done.stdout) == (0, "")
    assert done.stderr == "modyn: stopped before anything began\n"
