"""Loaders and processes: forks, children, and ends that nobody announced."""

from __future__ import annotations

import signal

import numpy as np

import modyn
from modyn.loader import Loader
from tests.python.loading import (
    COUNT,
    assert_right,
    contents,
    dataset,
    end_of,
    path,
    run,
    start,
)

__all__ = ["dataset", "path"]  # fixtures


def test_tensors_may_live_until_the_interpreter_ends(path):
    out = run(
        """
        dataset = modyn.Dataset.open(sys.argv[1])
        loader = modyn.Loader(dataset, np.arange(1000), batch_size=10)
        iterator = iter(loader)
        batch = next(iterator)
        x, n = batch["x"], batch.numpy("n")
        threading.Thread(target=lambda _: time.sleep(99), args=(batch["n"],), daemon=True).start()
        sys.modules["kept"] = [x, n, iterator, loader, dataset]
        print(float(x.sum()))
        """,
        path,
    )

    assert float(out) == contents(range(10))["x"].sum()


def test_ctrl_c_ends_a_wait(tmp_path):
    """The worker is starved, so that without an answer the wait would go on for long."""
    path = tmp_path / "data"
    writer = modyn.Dataset.create(path, schema={"n": "uint8"}, labels=False)
    writer.append({"n": np.zeros(10, np.uint8)}, timestamps=np.zeros(10, np.int64))
    writer.close()
    script = """
    dataset = modyn.Dataset.open(sys.argv[1])
    cpu = min(os.sched_getaffinity(0))
    os.sched_setaffinity(0, {cpu})
    keys = np.zeros(20_000_000, np.uint64)
    loader = modyn.Loader(dataset, keys, batch_size=len(keys), shuffle="global", threads=1)
    parent = os.getpid()
    hog = os.fork()
    if hog == 0:
        while os.getppid() == parent:
            pass
        os._exit(0)
    before = set(os.listdir("/proc/self/task"))
    iterator = iter(loader)
    for worker in set(os.listdir("/proc/self/task")) - before:
        os.sched_setscheduler(int(worker), os.SCHED_IDLE, os.sched_param(0))
    print("waiting", flush=True)
    started = time.monotonic()
    try:
        next(iterator)
        print("no interrupt")
    except KeyboardInterrupt:
        print("interrupted", time.monotonic() - started)
    finally:
        os.kill(hog, signal.SIGKILL)
        os.waitpid(hog, 0)
    """
    with start(script, path) as process:
        assert process.stdout.readline() == "waiting\n"
        process.send_signal(signal.SIGINT)
        out, err = end_of(process)

    assert out.startswith("interrupted"), (out, err)
    assert float(out.split()[1]) < 2
    assert process.returncode == 0, err


def test_a_forked_child_begins_anew_and_ends(path):
    out = run(
        """
        dataset = modyn.Dataset.open(sys.argv[1])
        loader = modyn.Loader(dataset, np.arange(1000), batch_size=10)
        iterator = iter(loader)
        batch = next(iterator)
        sum_before = int(batch.numpy("n").sum())

        child = os.fork()
        if child == 0:
            is_refused_in_a_fork(iterator)
            if [len(batch) for batch in loader] != [10] * 100:
                os._exit(5)
            iterator.close()
            if int(batch.numpy("n").sum()) != sum_before:
                os._exit(3)
            own = modyn.Loader(modyn.Dataset.open(sys.argv[1]), [1, 2, 3], batch_size=2)
            if [b.numpy("keys").tolist() for b in own] != [[1, 2], [3]]:
                os._exit(4)
            del iterator, loader, batch
            sys.exit(0)  # the interpreter ends as always
        print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), len(list(iterator)))
        """,
        path,
    )

    assert out == "0 99\n"


def test_a_killed_consumer_leaves_nothing_behind(path, dataset):
    script = """
    loader = modyn.Loader(modyn.Dataset.open(sys.argv[1]), np.arange(1000), batch_size=10)
    while True:
        for number, batch in enumerate(loader):
            if number == 3:
                print("running", flush=True)
    """
    for _ in range(3):
        with start(script, path) as process:
            assert process.stdout.readline() == "running\n"
            process.kill()

    for batch in Loader(dataset, np.arange(COUNT), batch_size=100):
        assert_right(batch)


def test_arrays_need_no_torch(path):
    out = run(
        """
        sys.modules["torch"] = None
        dataset = modyn.Dataset.open(sys.argv[1])
        (batch,) = modyn.Loader(dataset, [7, 3], batch_size=2)
        print(batch.numpy("n").tolist(), batch.numpy("labels").tolist(), list(batch.numpy("text")))
        try:
            batch["x"]
        except ModuleNotFoundError as error:
            print(error)
        """,
        path,
    )

    assert out.splitlines()[0] == "[-451, -491] [0, 3] [b'77', b'333']"
    assert "pip install 'modyn[torch]'" in out
