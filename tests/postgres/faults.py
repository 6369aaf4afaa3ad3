"""Break the connection or the server at every stage of a batch, and look at what is there.

    python -m tests.postgres.faults --trials 1000 [--seed N] [--cells reset,reply-lost,...]

One trial writes a few batches (tests/postgres/story.py) while one thing goes wrong.  The writer
must come through by itself; then no row may be missing, doubled, or part of half a batch, and while
it writes no reader may see a part of a batch.

    of the connection   reset, close (after a random number of bytes), chunk, commit-lost,
                        reply-lost, commit-late, stall (nothing moves for ever)
    of the server       terminate (pg_terminate_backend), pause (SIGSTOP for a while), timeout (a
                        table is locked for longer than a statement may take), kill-backend
                        (SIGKILL: the server restarts itself), restart (immediate),
                        kill-server (SIGKILL of all)

A fault may come too late to be met; what was met is counted, and is what --trials asks for.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import random
import secrets
import signal
import sys
import threading
import time
from collections import Counter
from dataclasses import dataclass, field

import psycopg
from psycopg.conninfo import make_conninfo

from tests.postgres.cluster import Cluster, patiently
from tests.postgres.proxy import Fault, Proxy
from tests.postgres.story import Story, Writing

CONNECTION = ("reset", "close", "chunk", "commit-lost", "reply-lost", "commit-late", "stall")
SERVER = ("terminate", "pause", "timeout", "kill-backend", "restart", "kill-server")
# Of so many trials each; some take long, and a stall lasts until a statement's time is over.
WEIGHTS = {"reset": 30, "close": 8, "chunk": 4, "commit-lost": 10, "reply-lost": 12}
WEIGHTS |= {"commit-late": 8, "stall": 1, "terminate": 20, "pause": 4, "timeout": 3}
WEIGHTS |= {"kill-backend": 6, "restart": 3, "kill-server": 6}
BATCHES = 4
ROWS = 3000
HANG_SECONDS = 120.0
OTHERS = (
    "FROM pg_stat_activity WHERE backend_type = 'client backend' AND application_name = 'modyn'"
)


@dataclass
class Campaign:
    """Counts by cell: trials in which the fault was met, and those in which it came too late."""

    seed: int
    met: Counter[str] = field(default_factory=Counter)
    late: Counter[str] = field(default_factory=Counter)
    problems: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        lines = [
            f"{cell:13} {self.met[cell]:5} met, {self.late[cell]} too late"
            for cell in (*CONNECTION, *SERVER)
            if self.met[cell] or self.late[cell]
        ]
        end = f"{self.met.total()} interruptions, {len(self.problems)} problems"
        return "\n".join([*lines, f"{end} (seed {self.seed})"])


class Watcher(threading.Thread):
    """A reader who looks all the time whether there is a part of a batch."""

    def __init__(self, story: Story) -> None:
        super().__init__(daemon=True)
        self._story = story
        self._over = threading.Event()
        self.seen: list[str] = []
        self.start()

    def run(self) -> None:
        while not self._over.wait(0.02):
            with contextlib.suppress(psycopg.OperationalError):  # it is down at the moment
                self.seen += [f"a reader saw {n} rows of batch {b}" for b, n in self._story.parts()]

    def end(self) -> list[str]:
        self._over.set()
        self.join(HANG_SECONDS)
        return self.seen


def through_proxy(cell: str, cluster: Cluster, story: Story, rand: random.Random) -> bool:
    """Write through a proxy that breaks the first connection, or the first two."""
    size = 46 * ROWS * BATCHES
    fault = Fault(cell, rand.randrange(60, size // 20 if cell == "chunk" else size))
    broken = rand.choice((1, 1, 2))
    with Proxy(cluster.socket, lambda i: fault if i < broken else None) as proxy:
        writing = Writing(story, cluster.tcp_conninfo(proxy.port), BATCHES)
        writing.end(HANG_SECONDS)
        return proxy.hits > 0


def with_server(cell: str, cluster: Cluster, story: Story, rand: random.Random) -> bool:
    """Write while the server suffers; True where a connection of ours was there to suffer."""
    lock = cluster.lock("faults", rand.uniform(0.2, 0.8)) if cell == "timeout" else None
    options = {"options": "-c statement_timeout=100"} if cell == "timeout" else {}
    writing = Writing(story, make_conninfo(cluster.conninfo, **options), BATCHES)
    time.sleep(rand.random() * 0.1)
    met = SUFFER[cell](cluster, rand)
    writing.end(HANG_SECONDS)
    if lock is not None:
        lock.join()
    return met


def terminate(cluster: Cluster, rand: random.Random) -> bool:
    hit = 0
    for _ in range(3):
        hit += len(cluster.sql(f"SELECT pg_terminate_backend(pid) {OTHERS}"))
        time.sleep(rand.random() * 0.02)
    return hit > 0


def send(pid: int, number: signal.Signals) -> bool:
    """Send a signal; False to a process that has ended meanwhile."""
    try:
        os.kill(pid, number)
    except ProcessLookupError:
        return False
    return True


def pause(cluster: Cluster, rand: random.Random) -> bool:
    pids = cluster.backends()
    stopped = sum(send(pid, signal.SIGSTOP) for pid in pids)
    time.sleep(rand.uniform(0.1, 0.6))
    for pid in pids:
        send(pid, signal.SIGCONT)
    return stopped > 0


def kill_backend(cluster: Cluster, rand: random.Random) -> bool:
    pids = cluster.backends()
    met = len(pids) > 0 and send(rand.choice(pids), signal.SIGKILL)
    if met:
        cluster.wait_until_ready()
    return met


def restart(cluster: Cluster, rand: random.Random) -> bool:
    met = len(cluster.backends()) > 0
    cluster.stop_immediately()
    time.sleep(rand.random() * 0.3)
    cluster.start()
    return met


def kill_server(cluster: Cluster, rand: random.Random) -> bool:
    met = len(cluster.backends()) > 0
    cluster.kill()
    time.sleep(rand.random() * 0.3)
    cluster.start()
    return met


def timeout(cluster: Cluster, rand: random.Random) -> bool:
    return True  # the lock is held already


SUFFER = {
    "terminate": terminate,
    "pause": pause,
    "timeout": timeout,
    "kill-backend": kill_backend,
    "restart": restart,
    "kill-server": kill_server,
}


def one_trial(cell: str, cluster: Cluster, story: Story, rand: random.Random) -> bool:
    return (through_proxy if cell in CONNECTION else with_server)(cell, cluster, story, rand)


def run(
    cluster: Cluster, trials: int, seed: int, cells: list[str], tell: type[Story] = Story
) -> Campaign:
    """Do trials until so many faults were met, or one trial shows a problem."""
    rand = random.Random(seed)
    campaign = Campaign(seed)
    story = tell(cluster.conninfo, ROWS)
    story.create()
    weights = [WEIGHTS[cell] for cell in cells]
    while campaign.met.total() < trials and not campaign.problems:
        # Each kind comes once, then by weight.
        fresh = [cell for cell in cells if not campaign.met[cell] and not campaign.late[cell]]
        cell = fresh[0] if fresh else rand.choices(cells, weights)[0]
        if story.begun >= 60:  # looking at all of it takes longer and longer
            story = tell(cluster.conninfo, ROWS)
            story.create()
            cluster.sql("DELETE FROM modyn.batches")
        watcher = Watcher(story)
        try:
            met = one_trial(cell, cluster, story, rand)
        except Exception as error:
            campaign.problems.append(f"{cell}: the writer did not come through: {error!r}")
            met = True
        cluster.wait_until_quiet()
        found = watcher.end() + patiently(story.problems)
        campaign.problems += [f"{cell}: {problem}" for problem in found]
        (campaign.met if met else campaign.late)[cell] += 1
    return campaign


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--trials", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=secrets.randbits(32))
    parser.add_argument("--cells", default=",".join((*CONNECTION, *SERVER)))
    options = parser.parse_args()
    began = time.monotonic()
    with Cluster() as cluster:
        campaign = run(cluster, options.trials, options.seed, options.cells.split(","))
    print(campaign, f"in {time.monotonic() - began:.0f} s", sep=", ")
    for problem in campaign.problems:
        print("PROBLEM", problem)
    return 1 if campaign.problems else 0


if __name__ == "__main__":
    sys.exit(main())
