"""A controller of a pipeline in a process of its own, for tests that kill, pause and race them.

    python controller.py URL NAME SECONDS [DIRECTORY]

It takes the lease and says `held TOKEN`, or says what it was refused with and ends.  Then it does
what it is told, a line each, and answers with a line:

    begin            the run begins
    advance N        a position is committed
    open             a transaction is begun, and left open behind the fence
    check            the lease is looked at
    release          the lease is given back, and the process ends
"""

from __future__ import annotations

import sys
from pathlib import Path

from modyn.errors import BusyError, DatabaseError
from modyn.metadata.database import Database
from modyn.pipelines.lease import Lease
from modyn.pipelines.ledger import Progress
from modyn.pipelines.ledger_postgres import PostgresLedger


def progress(position: int) -> Progress:
    return Progress(position=position, trigger_state="{}", selection_state="{}")


def obey(command: str, database: Database, ledger: PostgresLedger, lease: Lease) -> None:
    name, _, argument = command.partition(" ")
    if name == "begin":
        ledger.begin({"name": "x"}, progress(0))
    elif name == "advance":
        ledger.advance(progress(int(argument)))
    elif name == "open":
        session = database.connect()
        cursor = session.execute("BEGIN")
        lease.fence.check(cursor)
        kept.append(session)
    elif name == "check":
        lease.check()
    else:
        raise ValueError(command)


kept: list[object] = []  # sessions in the middle of a transaction


def main(url: str, name: str, seconds: str, directory: str = "") -> None:
    database = Database(url, retry_seconds=10)
    where = Path(directory) if directory else None
    lease = Lease(database, database.pipeline_id(name), seconds=float(seconds), directory=where)
    try:
        lease.acquire()
    except (BusyError, DatabaseError) as error:
        print(f"{type(error).__name__}: {error}", flush=True)
        return
    print(f"held {lease.token}", flush=True)
    ledger = PostgresLedger(database, name, lease)
    for line in sys.stdin:
        if line.strip() == "release":
            break
        try:
            obey(line.strip(), database, ledger, lease)
        except DatabaseError as error:
            print(f"{type(error).__name__}: {error}", flush=True)
        else:
            print("done", flush=True)
    lease.release()
    print("released", flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
