"""The machine under a benchmark: what it is, what it can do, how it maps files.

On shared machines figures mean little without these three: the machine line,
the ALU control (how much two threads do compared with one, measured beside
every repetition, since a second core may be there for some seconds only), and
the mapping state (a gather runs up to twice as fast on huge pages).
"""

from __future__ import annotations

import ctypes
import functools
import os
import platform
import re
import subprocess
import tempfile
import threading
import time
from collections.abc import Sequence
from pathlib import Path

ALU_ROUNDS = 40_000_000


def compile_source(
    name: str, directory: str | None = None, flags: Sequence[str] = ()
) -> ctypes.CDLL:
    """Compile a file of benchmarks/ with the system's compiler and load it."""
    source = Path(__file__).with_name(name)
    with tempfile.TemporaryDirectory(dir=directory) as folder:
        library = Path(folder) / "floor.so"
        compiler = os.environ.get("CC", "cc")
        command = [compiler, "-std=c11", "-O3", "-shared", "-fPIC", "-o", str(library), str(source)]
        subprocess.run([*command, *flags], check=True)
        return ctypes.CDLL(str(library))  # stays loaded when the file is gone


@functools.cache
def compile_floor(directory: str | None = None) -> ctypes.CDLL:
    """Compile benchmarks/floor.c and load it."""
    floor = compile_source("floor.c", directory)
    size, pointer = ctypes.c_size_t, ctypes.c_void_p
    floor.floor_reserve.argtypes = [size, ctypes.c_int]
    floor.floor_reserve.restype = pointer
    floor.floor_release.argtypes = [pointer, size]
    floor.floor_release.restype = None
    floor.floor_map.argtypes = [pointer, ctypes.c_char_p, size]
    for gather in (floor.floor_gather, floor.floor_gather_plain):
        gather.argtypes = [pointer, pointer, size, pointer, pointer, pointer]
        gather.restype = None
    floor.floor_gather_rows.argtypes = [pointer, pointer, size, pointer]
    floor.floor_gather_rows.restype = None
    floor.floor_read_small.argtypes = [ctypes.c_char_p, size, size, size]
    floor.floor_index_build.argtypes = [pointer, size, pointer, size]
    floor.floor_index_build.restype = None
    floor.floor_index_gather.argtypes = [pointer, size, pointer, pointer, size, *[pointer] * 3]
    floor.floor_index_gather.restype = None
    floor.floor_alu.argtypes = [ctypes.c_uint64]
    floor.floor_alu.restype = ctypes.c_uint64
    return floor


def alu_control(floor: ctypes.CDLL) -> float:
    """Return how much more two threads compute than one: 2.0 is two cores."""

    def seconds(count: int) -> float:
        threads = [
            threading.Thread(target=floor.floor_alu, args=(ALU_ROUNDS,)) for _ in range(count)
        ]
        started = time.perf_counter()
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        return time.perf_counter() - started

    return 2 * seconds(1) / seconds(2)


def _first(path: str, pattern: str) -> str:
    try:
        found = re.search(pattern, Path(path).read_text(), re.MULTILINE)
    except OSError:
        found = None
    return found.group(1).strip() if found else "unknown"


def file_system(path: Path) -> str:
    """Return the type of the file system that holds path."""
    best, kind = "", "unknown"
    for line in Path("/proc/self/mounts").read_text().splitlines():
        _, point, name, *_ = line.split()
        inside = f"{path.resolve()}/".startswith(point.rstrip("/") + "/")
        if inside and len(point) >= len(best):
            best, kind = point, name
    return kind


def machine_line(path: Path) -> str:
    """Return processor, cores, memory, kernel, file system and versions."""
    import numpy

    versions = [f"Python {platform.python_version()}", f"NumPy {numpy.__version__}"]
    try:
        import torch

        versions.append(f"torch {torch.__version__}")
    except ModuleNotFoundError:
        pass
    memory = _first("/proc/meminfo", r"MemTotal:\s+(\d+)")
    gigabytes = f"{int(memory) / 2**20:.0f} GiB" if memory.isdigit() else "unknown memory"
    return ", ".join(
        [
            _first("/proc/cpuinfo", r"model name\s*:\s*(.*)"),
            f"{len(os.sched_getaffinity(0))} cores",
            gigabytes,
            f"Linux {platform.release()}",
            file_system(path),
            *versions,
        ]
    )


def mapping_state(directory: Path, suffix: str) -> dict[str, float]:
    """Return, in MiB, how this process maps the files of a directory.

    Rss is what is mapped and in memory; FilePmdMapped is the part of it that
    is mapped by huge pages.
    """
    total = {"Size": 0.0, "Rss": 0.0, "FilePmdMapped": 0.0}
    wanted = False
    for line in Path("/proc/self/smaps").read_text().splitlines():
        head = re.match(r"[0-9a-f]+-[0-9a-f]+ \S+ \S+ \S+ \S+ *(.*)", line)
        if head:
            name = head.group(1)
            wanted = name.startswith(f"{directory.resolve()}/") and name.endswith(suffix)
        elif wanted:
            key, _, value = line.partition(":")
            if key in total:
                total[key] += int(value.split()[0]) / 1024
    return {key: round(value, 1) for key, value in total.items()}
