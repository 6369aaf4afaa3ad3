"""Decode and collate in processes of their own: the same values, bounds and errors."""

from __future__ import annotations

import gc
import multiprocessing
import os
import signal
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

import pytest

from modyn.errors import BatchError
from tests.python import decoders, loading
from tests.python.decoding import loader, path
from tests.python.loading import dataset, end_of, joined, key_list
from tests.python.waiting import DEADLINE, eventually

__all__ = ["dataset", "path"]  # fixtures

ROOT = Path(__file__).parents[2]


def children_now() -> set[int]:
    """Processes started by this one that decode."""
    found = set()
    for folder in Path("/proc").iterdir():
        if not folder.name.isdigit():
            continue
        try:
            fields = (folder / "stat").read_text().rpartition(")")[2].split()
            command = (folder / "cmdline").read_bytes()
        except OSError:
            continue
        if fields[1] == str(os.getpid()) and fields[0] != "Z" and b"spawn_main" in command:
            found.add(int(folder.name))
    return found


def test_processes_outlast_an_iteration_and_end_with_the_loader(dataset):
    before = children_now()
    some = loader(
        dataset, decode={"n": decoders.process_of}, decode_workers=2, decode_processes=True
    )

    children = [some._process.decoding.children]

    first = {int(pid) for batch in some for pid in batch["n"]}
    assert eventually(lambda: len(children[0].idle()) == len(first))
    second = {int(pid) for batch in some for pid in batch["n"]}

    assert os.getpid() not in first
    assert first & second
    assert first | second <= children_now()
    children.clear()
    del some
    gc.collect()
    assert eventually(lambda: children_now() <= before)


def test_a_killed_process_is_an_error_and_no_hang(dataset):
    iterator = iter(
        loader(
            dataset,
            shuffle=False,
            batch_size=10,
            decode={"n": decoders.die_at_50},
            decode_processes=True,
        )
    )

    good = [next(iterator) for _ in range(5)]

    with pytest.raises(BatchError, match=r"batch 5: decode failed: .*killed by signal 9"):
        next(iterator)
    assert joined(key_list(good)) == list(range(50))


@pytest.mark.parametrize(
    ("function", "cause", "message"),
    [
        (decoders.odd, RuntimeError, "OddError: odd 1 2"),
        (decoders.not_portable, Exception, "batch 0: decode failed"),
    ],
)
def test_what_cannot_cross_to_this_process_is_an_error(dataset, function, cause, message):
    with pytest.raises(BatchError, match=message) as caught:
        list(loader(dataset, decode={"n": function}, decode_processes=True))

    assert isinstance(caught.value.__cause__, cause)
    assert caught.value.__cause__.__notes__


def test_a_daemonic_process_is_told_to_use_threads(dataset, monkeypatch):
    some = loader(dataset, decode={"n": decoders.doubled}, decode_processes=True)
    monkeypatch.setitem(multiprocessing.current_process()._config, "daemon", True)

    with pytest.raises(RuntimeError, match=r"a daemonic process .* decode with threads there"):
        next(iter(some))


def test_a_pickled_loader_decodes_with_processes_of_its_own(dataset):
    some = loader(
        dataset,
        samples=[3, 9],
        shuffle=False,
        decode={"n": decoders.doubled},
        decode_processes=True,
    )
    assert next(iter(some))["n"].tolist() == [6, 18]

    context = multiprocessing.get_context("spawn")
    pipe, theirs = context.Pipe()
    process = context.Process(target=decoders.send_first, args=(some, "n", theirs))
    process.start()
    try:
        assert pipe.poll(DEADLINE)
        assert pipe.recv() == [6, 18]
        process.join(DEADLINE)
        assert process.exitcode == 0
    finally:
        process.kill()


def test_closing_ends_a_process_that_does_not_answer(dataset, capfd):
    before = children_now()
    iterator = iter(
        loader(dataset, decode={"n": decoders.sleep_long}, decode_workers=1, decode_processes=True)
    )
    assert eventually(lambda: "sleeping" in capfd.readouterr().out)

    iterator.close()

    assert eventually(lambda: children_now() <= before)


FIRST = """
from modyn.errors import BatchError
from tests.python import decoders

dataset = modyn.Dataset.open(sys.argv[1])
"""


def start(script: str, *arguments: Any) -> subprocess.Popen[str]:
    return loading.start(script, *arguments, first=FIRST)


def is_gone(pid: int) -> bool:
    try:
        return " Z " in Path(f"/proc/{pid}/stat").read_text().replace(")", " ")
    except OSError:
        return True


def shared_memory() -> set[str]:
    files = [entry.name for entry in os.scandir("/dev/shm") if entry.is_file()]
    return {name for name in files if "modyn" in name or "psm_" in name}


def test_a_killed_parent_leaves_no_process_and_no_shared_memory(path):
    before = shared_memory()
    script = """
    loader = modyn.Loader(
        dataset, range(8), batch_size=4, decode={"n": decoders.sleep_long},
        decode_workers=2, decode_processes=True,
    )
    next(iter(loader))
    """
    with start(script, path) as process:
        assert process.stdout is not None
        try:
            sleeping = [int(process.stdout.readline().split()[1]) for _ in range(2)]
        finally:
            process.kill()
            process.stdout.close()

        assert process.stderr is not None
        process.stderr.close()
    assert len(set(sleeping)) == 2
    for pid in sleeping:
        assert eventually(lambda pid=pid: is_gone(pid)), pid
    assert shared_memory() == before


@pytest.mark.parametrize("processes", [False, True])
def test_ctrl_c_ends_a_wait(path, processes):
    script = """
    loader = modyn.Loader(
        dataset, range(8), batch_size=4, decode={"n": decoders.sleep_long},
        decode_workers=1, decode_processes=sys.argv[2] == "True",
    )
    iterator = None
    try:
        iterator = iter(loader)  # its workers may be asleep before this thread is back
        next(iterator)
    except KeyboardInterrupt:
        print("interrupted", flush=True)
        if sys.argv[2] == "True" and iterator is not None:
            iterator.close()
    """
    with start(script, path, processes) as process:
        assert process.stdout is not None
        assert process.stdout.readline().startswith("sleeping")
        process.send_signal(signal.SIGINT)
        out, err = end_of(process)

    assert out == "interrupted\n"
    assert err == ""
    assert process.returncode == 0


@pytest.mark.parametrize("processes", [False, True])
def test_the_interpreter_ends_with_an_iterator_under_way(path, processes):
    script = """
    loader = modyn.Loader(
        dataset, range(100), batch_size=4, decode={"n": decoders.doubled},
        decode_workers=2, decode_processes=sys.argv[2] == "True",
    )
    iterator = iter(loader)
    print(next(iterator)["n"].tolist())
    sys.modules["kept"] = [iterator, loader]
    """
    with start(script, path, processes) as process:
        out, err = end_of(process)

    assert (out, err, process.returncode) == ("[0, 2, 4, 6]\n", "", 0)


def test_a_forked_child_is_refused_and_ends(path):
    script = """
    loader = modyn.Loader(
        dataset, range(100), batch_size=4, decode={"n": decoders.doubled}, decode_processes=True
    )
    iterator = iter(loader)
    next(iterator)
    child = os.fork()
    if child == 0:
        is_refused_in_a_fork(iterator)
        iterator.close()
        del iterator, loader
        sys.exit(0)
    print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), len(list(iterator)))
    """
    with start(script, path) as process:
        out, err = end_of(process)

    assert (out, err, process.returncode) == ("0 24\n", "", 0)


def test_a_script_without_a_guard_is_told(path, tmp_path):
    (tmp_path / "script.py").write_text(
        textwrap.dedent(
            """
            import sys, modyn
            from tests.python import decoders
            dataset = modyn.Dataset.open(sys.argv[1])
            loader = modyn.Loader(
                dataset, range(8), batch_size=4, decode={"n": decoders.doubled},
                decode_workers=1, decode_processes=True,
            )
            next(iter(loader))
            """
        )
    )

    done = subprocess.run(
        [sys.executable, tmp_path / "script.py", path],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=DEADLINE,
    )

    assert done.returncode == 1
    assert 'if __name__ == "__main__":' in done.stderr


def test_decode_needs_no_torch(path):
    script = """
    sys.modules["torch"] = None
    for processes in (False, True):
        (batch,) = modyn.Loader(
            dataset, [7, 3], batch_size=2, decode={"n": decoders.doubled, "zipped": decoders.unzip},
            decode_processes=processes,
        )
        print(batch.numpy("n").tolist(), batch.numpy("zipped").shape)
    """
    with start(script, path) as process:
        out, err = end_of(process)

    assert (out, err) == ("[14, 6] (2, 40)\n" * 2, "")
