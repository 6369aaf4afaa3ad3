"""What threads and processes make of decode=, and what a stage in Python costs.

    python -m benchmarks.decoding [--quick]

Each contender goes once over the same samples in batches of 256, through a Loader with one thread
that fills.  "Plain loop" calls the function in a Python loop over payloads in memory and stacks
what it returns with np.stack: no loader at all, one core.

zlib      payloads that unpack to 64 KiB: the function releases the interpreter's lock
python    JSON of 100 numbers: the function holds the lock
handing   nothing is decoded: collate= returns batches of 655 KB as they are, against no stage

The figures of several threads and processes mean something beside the ALU control only, which
says how many cores were there.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

import modyn
from benchmarks.machine import alu_control, compile_floor, machine_line
from benchmarks.measure import Outcome, Seconds, Stopwatch, in_turns, print_outcome

BATCH = 256


def unzip(payload: memoryview) -> np.ndarray[Any, Any]:
    return np.frombuffer(zlib.decompress(payload), np.uint8)


def numbers(payload: memoryview) -> np.ndarray[Any, Any]:
    return np.array(json.loads(bytes(payload)), np.float32)


def zipped(key: int) -> bytes:
    random = np.random.default_rng(key)
    return zlib.compress(random.integers(0, 16, 1 << 16, dtype=np.uint8).tobytes(), 1)


def texts(key: int) -> bytes:
    return json.dumps(np.random.default_rng(key).random(100).tolist()).encode()


def write(path: Path, make: Callable[[int], bytes], samples: int) -> list[bytes]:
    payloads = [make(key % 64) for key in range(samples)]
    dataset = modyn.Dataset.create(path, schema={"payload": "bytes"}, labels=False)
    dataset.append({"payload": payloads}, timestamps=np.arange(samples))
    dataset.close()
    return payloads


def race(
    name: str,
    function: Callable[[memoryview], Any],
    make: Callable[[int], bytes],
    path: Path,
    samples: int,
    repetitions: int,
) -> Outcome:
    payloads = [memoryview(bytearray(p)) for p in write(path, make, samples)]
    dataset = modyn.Dataset.open(path)

    def plain(repetition: int) -> Seconds:
        watch = Stopwatch()
        for first in range(0, samples, BATCH):
            np.stack([function(p) for p in payloads[first : first + BATCH]])
        return watch.stop()

    def loader(workers: int, processes: bool) -> Callable[[int], Seconds]:
        some = modyn.Loader(
            dataset,
            range(samples),
            batch_size=BATCH,
            threads=1,
            decode={"payload": function},
            decode_workers=workers,
            decode_processes=processes,
        )

        def run(repetition: int) -> Seconds:
            watch = Stopwatch()
            count = sum(len(batch.numpy("payload")) for batch in some)
            seconds = watch.stop()
            if count != samples:
                raise AssertionError(f"{count} of {samples} samples")
            return seconds

        return run

    outcome = Outcome(name, 0.9, "plain loop", "1 thread", unit="samples")
    outcome.work = samples
    contenders = {"plain loop": plain}
    for workers in (1, 2):
        contenders[f"{workers} thread{'s' * (workers > 1)}"] = loader(workers, False)
        contenders[f"{workers} process{'es' * (workers > 1)}"] = loader(workers, True)
    in_turns(outcome, contenders, repetitions)  # the first, which starts processes, is not counted
    dataset.close()
    return outcome


def handing(path: Path, samples: int, repetitions: int) -> Outcome:
    dataset = modyn.Dataset.create(path, schema={"x": "float32[40]"}, labels=False)
    dataset.append({"x": np.zeros((samples, 40), np.float32)}, timestamps=np.arange(samples))

    def loader(collate: Any) -> Callable[[int], Seconds]:
        some = modyn.Loader(dataset, range(samples), batch_size=4096, threads=1, collate=collate)

        def run(repetition: int) -> Seconds:
            watch = Stopwatch()
            for batch in some:
                batch.numpy("x")
            return watch.stop()

        return run

    outcome = Outcome("handing", 0.5, "no stage", "collate", unit="batches")
    outcome.work = samples / 4096
    contenders = {"no stage": loader(None), "collate": loader(lambda batch: batch)}
    in_turns(outcome, contenders, repetitions)
    dataset.close()
    return outcome


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--quick", action="store_true")
    quick = parser.parse_args().quick
    repetitions, scale = (3, 4) if quick else (9, 1)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder)
        print(machine_line(path))
        print(f"ALU control: {alu_control(compile_floor()):.2f}")
        print_outcome(race("zlib", unzip, zipped, path / "z", 8192 // scale, repetitions))
        print_outcome(race("python", numbers, texts, path / "j", 65_536 // scale, repetitions))
        print_outcome(handing(path / "h", 4_194_304 // scale, repetitions))


if __name__ == "__main__":
    main()
