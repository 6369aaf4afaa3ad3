import numpy as np

import modyn.postgres as mp

if not hasattr(mp.Connection, "read"):
    KINDS = {"Q": ("int8", np.uint64), "i": ("int4", np.int32), "f": ("float4", np.float32)}
    _init = mp.Connection.__init__

    def __init__(self, conninfo, **k):
        self._conninfo = conninfo
        _init(self, conninfo, **k)

    def read(self, sql, types, *, block_rows=65536):
        import psycopg

        with psycopg.connect(self._conninfo, autocommit=True) as db:
            with db.cursor().copy(sql) as copy:
                copy.set_types([KINDS[t][0] for t in types])
                rows = list(copy.rows())
        for first in range(0, len(rows), block_rows):
            yield tuple(
                np.asarray(c, dtype=KINDS[t][1])
                for t, c in zip(types, zip(*rows[first : first + block_rows]))
            )

    mp.Connection.__init__ = __init__
    mp.Connection.read = read
