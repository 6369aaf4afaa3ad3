"""A run that follows a stream which grows ends as the replay of the same samples."""

from __future__ import annotations

import contextlib
import fcntl
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

import modyn
from modyn.errors import ConfigError
from modyn.pipelines import (
    BetweenTwoTriggersEvalStrategy,
    EvalHandler,
    OffsetEvalStrategy,
    Run,
    SlicingEvalStrategy,
    Training,
)
from modyn.pipelines.follow import Followed, follow
from modyn.pipelines.progress import Silent
from modyn.pipelines.settings import Evaluation, Metadata
from modyn.policies import NewData, TimeTrigger
from tests.python.cli_bench import CONFIG, Bench
from tests.python.crash_driver import asking
from tests.python.streams import drifting, pipeline, sgd, slices

ROOT = Path(__file__).parents[2]
DEADLINE = 60  # seconds after which a test has failed


class Feed:
    """A dataset that gets the samples of another one, a part at a time."""

    def __init__(self, path: Path, whole: modyn.Dataset) -> None:
        self.whole = whole
        self.dataset = modyn.Dataset.create(path, schema=dict(whole.schema))
        self.reader = modyn.Dataset.open(path)

    def give(self, last: int) -> None:
        keys = np.arange(len(self.dataset), last, dtype=np.uint64)
        part = slice(len(self.dataset), last)
        self.dataset.append(
            self.whole.fetch(keys),
            labels=self.whole.labels[part],
            timestamps=self.whole.timestamps[part],
        )


class Following:
    """A pipeline that follows in a thread."""

    def __init__(self, one: Any, out: Path) -> None:
        self.pipeline, self.out = one, out
        self.stop = threading.Event()
        self._asked, self._waits, self._may_look = (threading.Event() for _ in range(3))
        self.run: Run | None = None
        self.error: BaseException | None = None
        self._thread = threading.Thread(target=self._follow, daemon=True)

    def _follow(self) -> None:
        try:
            self.run = self.pipeline.follow(self.out, stop=self._is_over)
        except BaseException as error:
            self.error = error

    def _is_over(self) -> bool:
        if self._asked.is_set():
            self._waits.set()
            self._may_look.wait(DEADLINE)
        return self.stop.is_set()

    @contextlib.contextmanager
    def held(self) -> Iterator[None]:
        """Hold it before its next look: what is done to the stream meanwhile it sees at once."""
        for event in (self._waits, self._may_look):
            event.clear()
        self._asked.set()
        assert self._waits.wait(DEADLINE)
        try:
            yield
        finally:
            self._asked.clear()
            self._may_look.set()

    def __enter__(self) -> Following:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop.set()
        self._thread.join(DEADLINE)
        assert not self._thread.is_alive()

    def until(self, wanted: Callable[[Run], bool]) -> Run:
        def well(run: Run) -> bool:
            assert self._thread.is_alive() or self.error is None, self.error
            return wanted(run)

        return wait_for(self.out, well)

    def ends(self) -> BaseException | None:
        self._thread.join(DEADLINE)
        assert not self._thread.is_alive()
        return self.error


def position(run: Run) -> int:
    return run.totals["position"]


def several(when: str = "after_training") -> Evaluation:
    """Handlers of all kinds, over the stream that grows."""
    one = slices(execution_time=when)
    handlers = [
        EvalHandler(strategy=strategy, models=models, execution_time=when)
        for strategy, models in (
            (SlicingEvalStrategy(eval_every="70s"), "matrix"),
            (SlicingEvalStrategy(eval_every="90s"), "active"),
            (BetweenTwoTriggersEvalStrategy(), "matrix"),
            (OffsetEvalStrategy(offsets=("-inf", "-50s", "0s", "60s", "inf")), "matrix"),
        )
        if when == "after_pipeline"
        or (models == "matrix" and not isinstance(strategy, BetweenTwoTriggersEvalStrategy))
    ]
    return Evaluation(handlers=tuple(handlers), datasets=one.datasets)


VARIANTS: dict[str, dict[str, Any]] = {
    "after_training": {"evaluation": several()},
    "after_pipeline": {"evaluation": several("after_pipeline")},
    "time": {"trigger": TimeTrigger(every="110s"), "selection": NewData(tail_triggers=1)},
    "previous": {
        "training": Training(
            batch_size=32, epochs_per_trigger=2, optimizers=sgd(), use_previous_model=True
        )
    },
    "arrival": {"order": "arrival", "evaluation": several()},
    "asks": {"trigger": asking(), "evaluation": several()},
    "delay": {"trigger": asking(), "label_delay": "50s", "order": "arrival"},
    "bounds": {"start_replay_at": -50, "stop_replay_at": 300, "evaluation": several()},
    "three": {"maximum_triggers": 3},
}


NIGHTLY = ("after_pipeline", "time", "previous", "delay")


@pytest.mark.parametrize(
    "variant", [pytest.param(v, marks=[pytest.mark.long] * (v in NIGHTLY)) for v in VARIANTS]
)
def test_it_ends_as_the_replay_of_the_same_samples(tmp_path, rand, variant):
    changes = VARIANTS[variant]
    order = "late" if changes.get("order") == "arrival" else "time"
    feed = Feed(tmp_path / "stream", drifting(tmp_path / "whole", order=order))
    cuts = sorted({*rand.integers(1, 600, 5).tolist()})

    with Following(pipeline(feed.reader, **changes), tmp_path / "run") as following:
        for cut in [*cuts, 600]:
            feed.give(cut)
            if variant not in ("bounds", "three"):  # which end before the samples do
                following.until(lambda run, cut=cut: position(run) == cut)
        if variant in ("bounds", "three"):
            following.ends()
    assert following.error is None
    part = Run.open(tmp_path / "run")
    assert not part.finished
    finished = pipeline(feed.reader, **changes).replay(tmp_path / "run")
    again = pipeline(feed.reader, **changes).replay(tmp_path / "again")

    assert finished.finished
    assert position(finished) == position(again) > 0
    assert finished.evaluations.rows() == again.evaluations.rows()
    assert finished.windows.rows() == again.windows.rows()
    assert finished.decisions.rows() == again.decisions.rows()
    assert finished.digest() == again.digest()


def test_a_stopped_run_goes_on_where_it_was(tmp_path, rand):
    feed = Feed(tmp_path / "stream", drifting(tmp_path / "whole"))

    for cut in [*sorted({*rand.integers(1, 600, 3).tolist()}), 600]:
        with Following(pipeline(feed.reader), tmp_path / "run") as following:
            feed.give(cut)
            following.until(lambda run, cut=cut: position(run) == cut)
        assert following.error is None
    pipeline(feed.reader).replay(tmp_path / "run")

    again = pipeline(feed.reader).replay(tmp_path / "again")
    assert Run.open(tmp_path / "run").digest() == again.digest()


def test_a_training_is_given_up_at_the_next_batch(tmp_path):
    feed = Feed(tmp_path / "stream", drifting(tmp_path / "whole"))
    feed.give(300)
    asked = []

    def stop() -> bool:
        asked.append(None)
        return len(asked) > 20

    training = Training(batch_size=32, epochs_per_trigger=100_000, optimizers=sgd())
    run = pipeline(feed.reader, training=training).follow(tmp_path / "run", stop=stop)

    assert (run.totals["triggers"], run.totals["trainings"]) == (1, 0)
    assert len(asked) == 21


def test_it_stops_while_another_process_trains_the_same_model(tmp_path):
    feed = Feed(tmp_path / "stream", drifting(tmp_path / "whole"))
    feed.give(150)
    feed.reader.refresh()
    one, shared = pipeline(feed.reader), tmp_path / "models"
    first = one.replay(tmp_path / "first", models=shared)
    key = first.triggers["model"][0]
    shutil.rmtree(shared / key)

    with (shared / ".locks" / key).open() as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        run = one.follow(tmp_path / "run", stop=Countdown(20), models=shared)

    assert (run.totals["triggers"], run.totals["trainings"]) == (1, 0)


def test_windows_are_measured_once_they_are_over(tmp_path):
    feed = Feed(tmp_path / "stream", drifting(tmp_path / "whole"))
    feed.give(290)  # from -100 to 189; slices end at 0, 100, 200, ...

    measured = slices(execution_time="after_training")
    one = pipeline(feed.reader, evaluation=measured)

    with Following(one, tmp_path / "run") as following:
        run = following.until(lambda run: len(run.windows) == 2)
        assert run.windows["end"] == [0, 100]
        feed.give(300)
        run = following.until(lambda run: position(run) == 300)
        assert len(run.windows) == 2  # more samples may have the timestamp 199
        feed.give(301)
        run = following.until(lambda run: len(run.evaluations) == 3 * 2 * 2)

    assert following.error is None
    assert run.windows["count"] == [100, 100, 100]
    assert set(run.evaluations["trigger"]) == {0, 1}


def test_it_waits_for_the_first_sample(tmp_path):
    feed = Feed(tmp_path / "stream", drifting(tmp_path / "whole"))

    with Following(pipeline(feed.reader, start_replay_at=-60), tmp_path / "run") as following:
        feed.give(20)  # all of them before the start
        feed.give(200)
        run = following.until(lambda run: position(run) == 160)

    assert run.totals["triggers"] == 1


def test_the_beginning_may_come_in_any_order(tmp_path):
    feed = Feed(tmp_path / "stream", drifting(tmp_path / "whole", order="late"))
    feed.give(600)
    times = np.arange(600, 1000)
    later = {"dense": np.zeros((400, 4), np.float32)}

    with Following(pipeline(feed.reader), tmp_path / "run") as following:
        following.until(lambda run: position(run) == 600)
        feed.dataset.append(later, labels=np.zeros(400, np.int64), timestamps=times)
        following.until(lambda run: position(run) == 1000)
    with Following(pipeline(feed.reader), tmp_path / "run") as following:
        feed.dataset.append(later, labels=np.zeros(400, np.int64), timestamps=times + 400)
        following.until(lambda run: position(run) == 1400)
    assert following.error is None
    finished = pipeline(feed.reader).replay(tmp_path / "run")

    assert finished.digest() == pipeline(feed.reader).replay(tmp_path / "again").digest()


@pytest.mark.parametrize("running", [True, False])
def test_a_late_sample_is_named(tmp_path, running):
    feed = Feed(tmp_path / "stream", drifting(tmp_path / "whole"))
    feed.give(200)
    one = {"dense": np.zeros((3, 4), np.float32)}

    with Following(pipeline(feed.reader), tmp_path / "run") as following:
        following.until(lambda run: position(run) == 200)
        if running:
            feed.dataset.append(one, labels=[0, 0, 0], timestamps=[99, 100, 98])
            following.ends()
    if not running:  # it comes while nobody looks, and is late none the less
        feed.dataset.append(one, labels=[0, 0, 0], timestamps=[99, 100, 98])
        with Following(pipeline(feed.reader), tmp_path / "run") as following:
            following.ends()

    assert isinstance(following.error, ConfigError)
    assert "sample 202 is late: its timestamp is 98, and there was one of 100" in str(
        following.error
    )
    with pytest.raises(ConfigError, match="sample 202 is late"):
        pipeline(feed.reader).replay(tmp_path / "run")

    feed.dataset.erase([202], reason="late")  # which is one way out
    feed.reader.refresh()
    finished = pipeline(feed.reader).replay(tmp_path / "run")
    assert (finished.finished, position(finished)) == (True, 202)


def test_a_label_that_does_not_fit_is_named_when_it_comes(tmp_path):
    feed = Feed(tmp_path / "stream", drifting(tmp_path / "whole"))
    feed.give(200)

    with Following(pipeline(feed.reader), tmp_path / "run") as following:
        following.until(lambda run: position(run) == 200)
        feed.dataset.append(
            {"dense": np.zeros((2, 4), np.float32)}, labels=[1, 2], timestamps=[100, 100]
        )
        error = following.ends()

    assert "sample 201 has the label 2; model.config.num_classes is 2" in str(error)


def test_a_run_that_does_not_follow_stays_one(tmp_path):
    feed = Feed(tmp_path / "stream", drifting(tmp_path / "whole"))
    feed.give(200)
    feed.reader.refresh()
    pipeline(feed.reader).replay(tmp_path / "run")

    with pytest.raises(ConfigError, match="does not follow: go on without --follow"):
        pipeline(feed.reader).follow(tmp_path / "run")


def test_another_pipeline_cannot_go_on_with_it(tmp_path):
    feed = Feed(tmp_path / "stream", drifting(tmp_path / "whole"))
    feed.give(200)
    pipeline(feed.reader).follow(tmp_path / "run", stop=Countdown(5))
    other = pipeline(feed.reader, seed=4)

    with pytest.raises(ConfigError, match="seed is 3 there and 4 here"):
        other.follow(tmp_path / "run")
    with pytest.raises(ConfigError, match="seed is 3 there and 4 here"):
        other.replay(tmp_path / "run")


def test_a_handle_that_writes_is_refused(tmp_path):
    feed = Feed(tmp_path / "stream", drifting(tmp_path / "whole"))
    feed.give(10)

    with pytest.raises(ValueError, match="open for writing"):
        pipeline(feed.dataset).follow(tmp_path / "run")


def test_samples_that_are_erased_are_passed_over(tmp_path):
    feed = Feed(tmp_path / "stream", drifting(tmp_path / "whole"))
    feed.give(300)

    with Following(pipeline(feed.reader), tmp_path / "run") as following:
        following.until(lambda run: position(run) == 300)
        feed.dataset.erase(range(290, 300), reason="gone")
        with following.held():
            feed.give(330)
            feed.dataset.erase(range(310, 330), reason="gone")
            feed.dataset.compact()
        feed.give(480)
        following.until(lambda run: position(run) == 480)
    assert following.error is None
    finished = pipeline(feed.reader).replay(tmp_path / "run")

    assert finished.finished
    assert finished.triggers["samples"][2] == 150
    assert finished.triggers["position"] == [150, 300, 470]


@pytest.mark.parametrize(
    ("order", "changes"),
    [
        ("late", {}),
        ("time", {"start_replay_at": -60}),
        ("time", {"start_replay_at": -60, "order": "arrival"}),
    ],
)
def test_what_is_erased_between_two_starts_moves_no_position(tmp_path, order, changes):
    feed = Feed(tmp_path / "stream", drifting(tmp_path / "whole", order=order))
    feed.give(300)
    later = {"dense": np.zeros((100, 4), np.float32)}

    for begin in (500, 600):
        with Following(pipeline(feed.reader, **changes), tmp_path / "run") as following:
            feed.dataset.append(
                later, labels=np.zeros(100, np.int64), timestamps=np.arange(begin, begin + 100)
            )
            end = len(feed.dataset) - 40 * bool(changes)
            following.until(lambda run, end=end: position(run) == end)
        assert following.error is None
        feed.dataset.erase(range(len(feed.dataset) - 60, len(feed.dataset) - 50), reason="gone")
        feed.reader.refresh()

    assert position(pipeline(feed.reader, **changes).replay(tmp_path / "run")) == end


LONG_TRAINING = {"epochs": 1_000_000}


def command(bench: Bench, file: Path, *more: str) -> list[str]:
    words = ["run", file, "--out", bench.out, "--datasets", bench.datasets, *more]
    return [sys.executable, "-m", "modyn.cli", *map(str, words)]


@pytest.mark.parametrize(
    "number", [pytest.param(signal.SIGINT, marks=pytest.mark.long), signal.SIGTERM]
)
def test_a_signal_ends_it_and_its_training_stops_no_ingest(tmp_path, number):
    bench = Bench(tmp_path)
    words = command(bench, bench.file(**LONG_TRAINING), "--follow")
    child = subprocess.Popen(words, cwd=ROOT, stdout=subprocess.PIPE, text=True)
    out = bench.out / "small"
    wait_for(out, lambda run: len(run.triggers) == 1)

    with modyn.Dataset.open(bench.datasets / "stream", mode="w") as dataset:
        for i in range(50):
            one = {"dense": np.zeros((1, 4), np.float32)}
            dataset.append(one, labels=[0], timestamps=[1000 + i])
        assert len(dataset) == 650
    run = Run.open(out)
    assert (len(run.triggers), run.totals["trainings"]) == (1, 0)  # it was training all the time
    child.send_signal(number)
    said, _ = child.communicate(timeout=DEADLINE)

    assert child.returncode == 0
    assert "small: stopped after 150 samples and 1 triggers\nto go on: modyn run" in said
    assert "Traceback" not in said


def test_one_command_follows_several_pipelines(tmp_path):
    bench = Bench(tmp_path)
    twice = CONFIG.replace("seed: 3", "seed: 3, maximum_triggers: 2")
    for name, epochs in (("one", 1), ("two", 1), ("three", 2)):
        text = twice.format(name=name, model="MLP", config="hidden: [8]", epochs=epochs)
        (tmp_path / f"{name}.yaml").write_text(text)
    files = [tmp_path / f"{name}.yaml" for name in ("one", "two", "three")]

    result = bench.run(*files, more=("--follow",))

    assert result.exit_code == 0, result.output
    assert "two: nothing more can come after 300 samples and 2 triggers" in result.stdout
    found = [Run.open(bench.out / name).totals["found"] for name in ("one", "two", "three")]
    assert found == [0, 2, 0]


def test_several_that_follow_end_as_their_replays(tmp_path, rand):
    feed = Feed(tmp_path / "stream", drifting(tmp_path / "whole"))
    twice = Training(batch_size=32, epochs_per_trigger=2, optimizers=sgd(), use_previous_model=True)
    variants = {
        "one": {"evaluation": several()},
        "two": {"training": twice},
        "three": {"order": "arrival"},
    }

    def make(name: str) -> Any:
        return pipeline(modyn.Dataset.open(feed.reader.path), **variants[name])

    def all_of_them(**more: Any) -> None:
        members = [
            Followed(pipeline=make(name), directory=tmp_path / name, progress=Silent())
            for name in variants
        ]
        follow(members, more["stop"], tmp_path / "models")

    with Following(
        SimpleNamespace(follow=lambda out, stop: all_of_them(stop=stop)), tmp_path
    ) as one:
        for cut in (*sorted(rand.integers(1, 600, 2).tolist()), 600):
            feed.give(max(cut, len(feed.dataset)))
            for name in variants:
                wait_for(tmp_path / name, lambda run, cut=cut: position(run) >= cut)

    assert one.error is None
    for name in variants:
        finished = make(name).replay(tmp_path / name)
        assert finished.digest() == make(name).replay(tmp_path / f"{name}-again").digest()


def test_a_late_sample_waits_for_the_end_to_be_measured_in_arrival_order(tmp_path):
    feed = Feed(tmp_path / "stream", drifting(tmp_path / "whole"))
    feed.give(500)
    feed.reader.refresh()
    beside = replace(
        slices().datasets[0], dataset=modyn.Dataset.open(tmp_path / "whole"), dataset_id="beside"
    )
    measured = replace(several(), datasets=(*several().datasets, beside))
    measured = replace(
        measured, handlers=tuple(replace(h, datasets=()) for h in measured.handlers[:1])
    )
    one = pipeline(feed.reader, order="arrival", evaluation=measured)

    with Following(one, tmp_path / "run") as following:
        run = following.until(lambda run: len(run.evaluations) > 0)
        feed.dataset.append(
            {"dense": np.zeros((7, 4), np.float32)}, labels=[0] * 7, timestamps=[-90] * 7
        )
        run = following.until(lambda run: position(run) == 507)

    assert set(run.windows["dataset"]) == {"beside"}
    finished = one.replay(tmp_path / "run")
    first = next(row for row in finished.windows.rows() if row["dataset"] == "stream")
    assert (first["start"], first["count"]) == (-100, 77)


@pytest.mark.parametrize("publish", [True, pytest.param(False, marks=pytest.mark.long)])
def test_it_follows_what_is_published(tmp_path, database_url, publish):
    feed = Feed(tmp_path / "stream", drifting(tmp_path / "whole"))
    feed.give(100)
    feed.dataset.publish(database_url)
    feed.reader.refresh()
    metadata = Metadata(url=database_url, publish=publish)
    one = pipeline(feed.reader, metadata=metadata, evaluation=several())

    with Following(one, tmp_path / "run") as following:
        for cut in (170, 460, 600):
            feed.give(cut)
            if not publish:
                feed.dataset.publish(database_url)
            following.until(lambda run, cut=cut: position(run) == cut)
    assert following.error is None
    finished = one.replay(tmp_path / "run")
    feed.reader.refresh()
    again = pipeline(feed.reader, evaluation=several()).replay(tmp_path / "again")

    assert finished.finished
    assert finished.digest() == again.digest()


def test_what_a_database_cannot_follow_is_said(tmp_path, database_url):
    feed = Feed(tmp_path / "stream", drifting(tmp_path / "whole", order="late"))
    feed.give(100)
    feed.reader.refresh()
    metadata = Metadata(url=database_url, publish=True)

    with pytest.raises(ConfigError, match="in arrival order"):
        pipeline(feed.reader, metadata=metadata).follow(tmp_path / "run")
    with pytest.raises(ConfigError, match="takes all samples"):
        pipeline(feed.reader, metadata=metadata, start_replay_at=0).follow(tmp_path / "run")


def wait_for(out: Path, wanted: Callable[[Run], bool]) -> Run:
    end = time.monotonic() + DEADLINE
    while time.monotonic() < end:
        with contextlib.suppress(FileNotFoundError):
            run = Run.open(out)
            if wanted(run):
                return run
        time.sleep(0.02)
    raise AssertionError("it was never seen")


class Countdown:
    """Asks to stop at the n-th question."""

    def __init__(self, count: int) -> None:
        self.left = count

    def __call__(self) -> bool:
        self.left -= 1
        return self.left < 0
