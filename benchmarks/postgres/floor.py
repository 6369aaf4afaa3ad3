"""Bare libpq: benchmarks/postgres_floor.c, compiled in the run."""

from __future__ import annotations

import ctypes
import functools
import subprocess

import numpy as np
import numpy.typing as npt

from benchmarks.machine import compile_source

Column = npt.NDArray[np.int64]


@functools.cache
def library() -> ctypes.CDLL:
    """Compile the floor and load it."""

    def answer(option: str) -> str:
        done = subprocess.run(["pg_config", option], capture_output=True, text=True, check=True)
        return done.stdout.strip()

    flags = [f"-I{answer('--includedir')}", f"-L{answer('--libdir')}", "-lpq"]
    floor = compile_source("postgres_floor.c", flags=flags)
    count, pointer, text = ctypes.c_uint64, ctypes.c_void_p, ctypes.c_char_p
    floor.floor_connect.argtypes = [text]
    floor.floor_connect.restype = pointer
    floor.floor_connected.argtypes = [pointer]
    floor.floor_message.argtypes = [pointer]
    floor.floor_message.restype = text
    floor.floor_close.argtypes = [pointer]
    floor.floor_close.restype = None
    floor.floor_execute.argtypes = [pointer, text]
    floor.floor_copy_rows.argtypes = [pointer, text, pointer, pointer, pointer, count]
    floor.floor_copy_blocks.argtypes = [pointer, text, count, pointer, pointer, count, count]
    floor.floor_drain.argtypes = [pointer, text, ctypes.POINTER(count), ctypes.POINTER(count)]
    return floor


class Floor:
    """A connection of plain libpq."""

    def __init__(self, conninfo: str) -> None:
        self._connection = library().floor_connect(conninfo.encode())
        self._must(library().floor_connected(self._connection))

    def execute(self, sql: str) -> None:
        self._must(library().floor_execute(self._connection, sql.encode()))

    def copy_rows(self, copy: str, keys: Column, timestamps: Column, labels: Column) -> None:
        addresses = (keys.ctypes.data, timestamps.ctypes.data, labels.ctypes.data)
        sent = library().floor_copy_rows(self._connection, copy.encode(), *addresses, len(keys))
        self._must(sent)

    def copy_blocks(
        self, copy: str, first: int, timestamps: Column, labels: Column, block: int
    ) -> None:
        at = (first, timestamps.ctypes.data, labels.ctypes.data, len(timestamps), block)
        self._must(library().floor_copy_blocks(self._connection, copy.encode(), *at))

    def drain(self, copy: str) -> tuple[int, int]:
        """Read a COPY TO STDOUT to its end; return how many messages and bytes came."""
        messages, size = ctypes.c_uint64(), ctypes.c_uint64()
        ends = (ctypes.byref(messages), ctypes.byref(size))
        self._must(library().floor_drain(self._connection, copy.encode(), *ends))
        return messages.value, size.value

    def close(self) -> None:
        library().floor_close(self._connection)
        self._connection = None

    def _must(self, status: int) -> None:
        if status < 0:
            said = library().floor_message(self._connection)
            raise RuntimeError(f"libpq: {said.decode(errors='replace').strip()}")
