"""A writer that tells on a pipe what it does, and an oracle that believes nothing else.

The writer is a process of its own, forked from one that holds no dataset.  Before each operation it
writes a line that says what it is about to do, and `ack` when the call has returned.  So after its
death at any moment the oracle knows which operations must have had their effect, and which one,
the last, may have had it or not.  A reader, again a process of its own, then compares every
sample, the timestamps and labels, what is erased, and the names of the files.

The content of a sample depends on its key and on the operation that wrote it, its *take*.
"""

from __future__ import annotations

import json
import os
import random
import select
import signal
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

import modyn

MARK = b"MdNcAnArY"  # begins each payload; key and take follow
SCHEMA = {"a": "uint64", "b": "bytes", "c": "float32[3]"}
PLAIN = {"a": "uint64", "c": "float64"}  # what a CSV file can hold
SEGMENT = 8192
DIED = 97  # the writer was refused something that only a fault explains


def mix(keys: npt.NDArray[np.uint64], take: int) -> npt.NDArray[np.uint64]:
    """Numbers that look random and follow from key and take."""
    salt = np.uint64(take * 0xD1B54A32D192ED03 % 2**64)
    x = keys * np.uint64(0x9E3779B97F4A7C15) + salt
    x ^= x >> np.uint64(29)
    x *= np.uint64(0xBF58476D1CE4E5B9)
    return x ^ (x >> np.uint64(32))


def payload(key: int, take: int) -> bytes:
    size = (key * 7 + take * 13) % 60
    if size < 15:
        return b""
    return (MARK + key.to_bytes(6, "little") + take.to_bytes(4, "little") + bytes(60))[: 19 + size]


@dataclass
class State:
    """The samples that are there: the take of each by key, and which are erased."""

    takes: npt.NDArray[np.int64] = field(default_factory=lambda: np.zeros(0, np.int64))
    erased: npt.NDArray[np.bool_] = field(default_factory=lambda: np.zeros(0, bool))
    compacted: bool = False  # nothing was erased since the last compaction

    def after(self, step: dict[str, Any]) -> State:
        match step["op"]:
            case "append" | "ingest":
                takes = np.full(step["count"], step["take"])
                return State(
                    np.concatenate([self.takes, takes]),
                    np.concatenate([self.erased, np.zeros(step["count"], bool)]),
                    self.compacted,
                )
            case "erase":
                erased = self.erased.copy()
                erased[step["keys"]] = True
                return State(self.takes, erased, False)
            case "compact":
                return State(self.takes, self.erased, True)
        raise ValueError(step)


# The writer ------------------------------------------------------------------


class Writer:
    """Does random things to a dataset and tells."""

    def __init__(self, path: Path, plain: bool, rand: random.Random, say: Callable[[str], None]):
        self.path, self.plain, self.rand, self.say = path, plain, rand, say
        self.take = rand.randrange(1 << 30)

    def run(self, state: State) -> None:
        self.say("start")
        with modyn.Dataset.open(self.path, mode="w") as dataset:
            self.say("open")
            while True:
                self.take = (self.take + 1) % (1 << 31)
                self.step(dataset)

    def step(self, dataset: modyn.Dataset) -> None:
        count = len(dataset)
        match self.rand.choices(["append", "erase", "compact", "ingest"], [60, 20, 6, 14])[0]:
            case "erase" if count > 0:
                first = self.rand.randrange(count)
                keys = list(range(first, min(count, first + self.rand.choice([1, 3, 200]))))
                self.tell(
                    {"op": "erase", "keys": keys}, lambda: dataset.erase(keys, reason="a test")
                )
            case "compact":
                self.tell({"op": "compact"}, dataset.compact)
            case "ingest" if self.plain:
                self.ingest(dataset, count)
            case _:
                self.append(dataset, count)

    def tell(self, step: dict[str, Any], act: Callable[[], object]) -> None:
        self.say(json.dumps(step))
        act()
        self.say("ack")

    def append(self, dataset: modyn.Dataset, first: int) -> None:
        count = self.rand.choice([1, 1, 5, 40, 400])
        keys = np.arange(first, first + count, dtype=np.uint64)
        fields, labels, times = content(keys, np.full(count, self.take), self.plain)
        self.tell(
            {"op": "append", "count": count, "take": self.take},
            lambda: dataset.append(fields, labels=labels, timestamps=times),
        )

    def ingest(self, dataset: modyn.Dataset, first: int) -> None:
        count = self.rand.choice([1, 20, 300])
        keys = np.arange(first, first + count, dtype=np.uint64)
        fields, labels, times = content(keys, np.full(count, self.take), self.plain)
        rows = zip(times, labels, fields["a"], fields["c"], strict=True)
        text = "time,label,a,c\n" + "".join(f"{t},{y},{a},{c!r}\n" for t, y, a, c in rows)
        file = self.path.with_name(f"{self.path.name}-{self.take}.csv")
        file.write_text(text.replace("np.float64(", "").replace(")", ""))
        form = modyn.formats.CSV(timestamp="time", label="label")
        self.tell(
            {"op": "ingest", "count": count, "take": self.take},
            lambda: dataset.ingest(file, format=form),
        )
        file.unlink()


def content(
    keys: npt.NDArray[np.uint64], takes: npt.NDArray[np.int64], plain: bool
) -> tuple[dict[str, Any], npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Fields, labels and timestamps of these keys."""
    numbers = np.zeros(len(keys), np.uint64)
    for take in np.unique(takes):
        chosen = takes == take
        numbers[chosen] = mix(keys[chosen], int(take))
    labels = (numbers % np.uint64(10)).astype(np.int64)
    times = (numbers >> np.uint64(20)).astype(np.int64)
    if plain:
        return {"a": numbers, "c": (numbers >> np.uint64(40)) / 8}, labels, times
    fields = {
        "a": numbers,
        "b": [payload(int(key), int(take)) for key, take in zip(keys, takes, strict=True)],
        "c": np.stack([(numbers >> np.uint64(s)).astype(np.uint16) for s in (0, 9, 30)], 1).astype(
            np.float32
        ),
    }
    return fields, labels, times


# The reader ------------------------------------------------------------------


def matches(dataset: modyn.Dataset, state: State, plain: bool) -> str:
    """Say "" if the dataset shows just this state, and otherwise what is wrong."""
    if len(dataset) != len(state.takes):
        return f"{len(dataset)} samples instead of {len(state.takes)}"
    if len(state.takes) == 0:
        return ""
    if not np.array_equal(dataset.erased, state.erased):
        return f"{dataset.erased.sum()} samples are erased instead of {state.erased.sum()}"
    keys = np.flatnonzero(~state.erased).astype(np.uint64)
    fields, labels, times = content(keys, state.takes[keys], plain)
    found = dataset.fetch(keys, threads=2)
    for name in ("a", "c"):
        if not np.array_equal(found[name], fields[name]):
            return f"field {name} is wrong"
    if not plain and list(found["b"]) != fields["b"]:
        return "a payload is wrong"
    all_labels = dataset.labels
    if all_labels is None or not np.array_equal(all_labels[keys], labels):
        return "labels are wrong"
    if not np.array_equal(dataset.timestamps[keys], times):
        return "timestamps are wrong"
    for key in np.flatnonzero(state.erased)[:3]:
        try:
            dataset.fetch([key])
        except KeyError:
            continue
        return f"erased sample {key} is fetched"
    return ""


def bytes_of_erased(path: Path, state: State) -> str:
    """Search all files for payloads of erased samples."""
    for file in sorted(path.iterdir()):
        data, at = file.read_bytes(), -1
        while (at := data.find(MARK, at + 1)) >= 0:
            key = int.from_bytes(data[at + 9 : at + 15], "little")
            take = int.from_bytes(data[at + 15 : at + 19], "little")
            if key < len(state.takes) and state.erased[key] and state.takes[key] == take:
                return f"{file.name} holds bytes of erased sample {key}"
    return ""


def find(path: Path, states: list[State], plain: bool) -> tuple[int, str]:
    """Return which of the states a fresh reader finds, or -1 and what is wrong."""
    wrong = ""
    try:
        with modyn.Dataset.open(path) as dataset:
            dataset.audit()
            for number in reversed(range(len(states))):
                wrong = matches(dataset, states[number], plain)
                if not wrong:
                    if states[number].compacted and number == 0:
                        wrong = bytes_of_erased(path, states[number])
                    return (-1, wrong) if wrong else (number, "")
    except Exception:
        wrong = traceback.format_exc()
    return -1, wrong


# The story -------------------------------------------------------------------


def forked(work: Callable[[Callable[[str], None]], None]) -> tuple[int, int]:
    """Run work(say) in a child; return its pid and the pipe that it says lines on."""
    reader, writer = os.pipe()
    pid = os.fork()
    if pid:
        os.close(writer)
        os.set_blocking(reader, False)
        return pid, reader
    status = 1
    try:
        os.close(reader)
        os.setpgid(0, 0)
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        work(lambda line: os.write(writer, (line + "\n").encode()) and None)
        status = 0
    except OSError as error:
        status = DIED
        os.write(writer, f"error {error!r}\n".encode())
    except BaseException:
        os.write(writer, f"failed {traceback.format_exc()!r}\n".encode())
    finally:
        os._exit(status)


def drain(pipe: int) -> str:
    text = b""
    while True:
        try:
            part = os.read(pipe, 1 << 16)
        except BlockingIOError:
            return text.decode()
        if not part:
            return text.decode()
        text += part


class Story:
    """One dataset from death to death."""

    def __init__(self, path: Path, seed: int) -> None:
        self.rand = random.Random(seed)
        self.path, self.plain = path, self.rand.random() < 0.5
        self.states, self.steps, self.rest, self.said = [State()], 0, "", [""]
        modyn.Dataset.create(
            path, schema=PLAIN if self.plain else SCHEMA, segment_records=SEGMENT
        ).close()

    def start(self) -> tuple[int, int]:
        self.rest = ""
        seed = self.rand.randrange(1 << 60)
        return forked(
            lambda say: Writer(self.path, self.plain, random.Random(seed), say).run(self.states[0])
        )

    def wait_for(self, pipe: int, word: str, times: int = 1) -> None:
        """Wait until the writer has said this so often, for at most ten seconds."""
        text, end = "", time.monotonic() + 10
        while text.count(word) < times and time.monotonic() < end:
            if select.select([pipe], [], [], 0.1)[0]:
                got = drain(pipe)
                if not got:
                    break
                text += got
        self.hear(text)

    def hear(self, text: str, late: bool = False) -> None:
        """Take in what the writer said; late acknowledgements prove nothing."""
        *lines, self.rest = (self.rest + text).split("\n")
        for line in lines:
            self.said = [*self.said[-5:], line]
            if line.startswith("{"):
                self.states.append(self.states[-1].after(json.loads(line)))
            elif line == "ack":
                self.steps += 1
                if not late:
                    del self.states[:-1]
            elif line.startswith("error") and not late:
                raise AssertionError(f"the system refused something: {line}")
            elif line.startswith("failed"):
                raise AssertionError(f"the writer failed: {line}")

    def judge(self) -> None:
        """Compare with a fresh reader, and believe what it finds."""
        pid, pipe = forked(lambda say: say(json.dumps(find(self.path, self.states, self.plain))))
        end, text = time.monotonic() + 60, ""
        while not text.endswith("\n") and time.monotonic() < end:
            if select.select([pipe], [], [], 1)[0] and not (got := drain(pipe)):
                break
            else:
                text += got
        os.close(pipe)
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
        number, wrong = json.loads(text) if text else (-1, "the reader died")
        if number < 0:
            raise AssertionError(f"{self.path}: {wrong}; the writer said {self.said}")
        self.states = [self.states[number]]
        if number:  # a compaction in doubt proves nothing about bytes
            self.states[0].compacted = False

    @property
    def is_large(self) -> bool:
        return len(self.states[0].takes) > 3 * SEGMENT
