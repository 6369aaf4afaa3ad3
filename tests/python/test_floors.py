"""Arrows point down only: every #include of csrc and every import of modyn is read here."""

from __future__ import annotations

import ast
import re
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

# C: what each floor may include besides itself -------------------------------------------------

BELOW = {
    "base": "",
    "storage": "base",
    "ingest": "base storage",
    "metadata": "base storage",
    "selector": "base storage metadata",
    "prefetch": "base storage metadata",
    "orchestrator": "base storage metadata selector prefetch",
    "python": "base storage ingest metadata selector prefetch orchestrator",
}
# Where a foreign header may be included: the beginnings of the files' names.
ONLY_IN = {
    "Python.h": ("python/",),
    "structmember.h": ("python/",),
    "numpy/": ("python/arrays.c",),
    "libpq-fe.h": ("metadata/libpq.h",),
    "omp.h": ("selector/",),
    "dlfcn.h": ("storage/zstd.c",),
}
# All reaches the file system through base/io.h, so that tests can replace it.
SYSTEM_CALLS = """
    open openat creat close read pread preadv write pwrite pwritev lseek fsync fdatasync sync
    sync_file_range truncate ftruncate fallocate posix_fallocate flock lockf fcntl rename renameat
    link symlink unlink unlinkat remove mkdir rmdir stat fstat lstat mmap mremap madvise mincore
    opendir readdir closedir scandir
    fopen fdopen freopen fread fwrite fclose fflush fseek fgets fputs
""".split()
# Signals belong to the process, and to one file that knows how to share them.
SIGNAL_CALLS = "signal sigaction sigsetjmp siglongjmp sigaltstack raise kill".split()
# Never: C says what happened with a status, and leaves printing and ending to the caller.
FORBIDDEN_CALLS = "printf fprintf puts perror exit _exit abort system popen rand srand".split()
ALLOWED_CALLS = (
    {("base/io.c", call): "it is the table of system calls" for call in SYSTEM_CALLS}
    | {
        ("prefetch/pool.c", "mmap"): "memory of its own, at the alignment of huge pages",
        ("prefetch/pool.c", "madvise"): "likewise",
        ("storage/timesort.c", "madvise"): "likewise",
        ("base/keyindex.c", "madvise"): "likewise",
        ("base/huge.c", "madvise"): "likewise",
        ("storage/reserve.c", "mmap"): "reserves addresses; files are mapped into them through io",
        ("storage/reserve.c", "mremap"): "memory of its own takes the place of such a mapping",
        ("storage/reserve.c", "madvise"): "likewise",
    }
    | {("base/guard.c", call): "the guard of mappings that somebody cuts" for call in SIGNAL_CALLS}
)


def without_comments(text: str) -> str:
    """C without comments and the inside of literals; `#include "..."` lines keep theirs."""
    strings = r""""(?:\\.|[^"\\\n])*"|'(?:\\.|[^'\\\n])+'"""
    pattern = r"/\*.*?\*/|//[^\n]*|^[ \t]*#[ \t]*include[^\n]*|" + strings

    def keep(match: re.Match[str]) -> str:
        found = match.group()
        if found.startswith("/"):
            return " "
        return '""' if found[0] in "\"'" else found

    return re.sub(pattern, keep, text, flags=re.DOTALL | re.MULTILINE)


def c_sources(root: Path) -> dict[str, str]:
    """Text by name relative to csrc."""
    files = sorted([*root.rglob("*.c"), *root.rglob("*.h")])
    return {path.relative_to(root).as_posix(): path.read_text() for path in files}


def wrong_includes(sources: dict[str, str]) -> list[str]:
    wrong = []
    for file, text in sources.items():
        floor = file.split("/")[0]
        if floor not in BELOW:
            wrong.append(f"{file}: {floor} is not a floor")
            continue
        for name in re.findall(r'#[ \t]*include[ \t]*["<]([^">]+)[">]', without_comments(text)):
            target = name.split("/")[0] if "/" in name else None
            if target in BELOW and target != floor and target not in BELOW[floor].split():
                wrong.append(f"{file} includes {name}")
            for header, homes in ONLY_IN.items():
                if name.startswith(header) and not file.startswith(homes):
                    wrong.append(f"{file} includes {name}")
    return wrong


def wrong_calls(sources: dict[str, str]) -> list[str]:
    calls = "|".join(map(re.escape, [*SYSTEM_CALLS, *SIGNAL_CALLS, *FORBIDDEN_CALLS]))
    # Not io->open(...) or table.open(...), and not the name of a longer function.
    pattern = re.compile(rf"(?<![\w.>])({calls})[ \t]*\(")
    wrong = []
    for file, text in sources.items():
        for match in pattern.finditer(without_comments(text)):
            if (file, match.group(1)) not in ALLOWED_CALLS:
                wrong.append(f"{file} calls {match.group(1)}")
    return wrong


def wrong_openmp(sources: dict[str, str]) -> list[str]:
    return [
        f"{file} uses OpenMP"
        for file, text in sources.items()
        if re.search(r"#[ \t]*pragma[ \t]+omp\b", text) and not file.startswith("selector/")
    ]


# Python: who may import whom --------------------------------------------------------------------

# A module belongs to the floor with the longest name that it begins with.
FLOORS = {
    "modyn._core": 0,
    "modyn._postgres": 0,
    "modyn.arrivals": 0,
    "modyn.dates": 0,
    "modyn.inputs": 0,
    "modyn.metrics": 0,
    "modyn.signals": 0,
    "modyn.stopping": 0,
    "modyn.errors": 1,
    "modyn.binary": 2,
    "modyn.dataset": 2,
    "modyn.erasure": 2,
    "modyn.formats": 2,
    "modyn.ingest": 2,
    "modyn.export": 2,
    "modyn.coresets": 2,
    "modyn.drift": 2,
    "modyn.keyindex": 2,
    "modyn.keyruns": 2,
    "modyn.loader": 2,
    "modyn.maintenance": 2,
    "modyn.metadata": 2,
    "modyn.postgres": 2,
    "modyn.reading": 2,
    "modyn.sampling": 2,
    "modyn.trainset": 2,
    "modyn.policies": 3,
    "modyn.models": 3,
    "modyn.downsampling": 3,
    "modyn.orchestrator": 4,  # calls policies
    "modyn.pipelines": 5,
    "modyn.provenance": 5,  # a table of runs
    "modyn.report": 6,
    "modyn.backtesting": 6,
    "modyn.listing": 6,
    "modyn.progress": 6,
    "modyn.commands": 6,
    "modyn.cli": 7,
    "modyn": 8,  # the package itself shows everything and is imported by no module of it
}
# The typed faces of C.
FACES = {name for name, level in FLOORS.items() if level in (1, 2)} | {
    "modyn.orchestrator",
    "modyn.coresets.locations",
    "modyn.drift.kernels",
    "modyn.coresets.matching",
    "modyn.coresets.spread",
    "modyn.ingest.facts",
    "modyn.ingest.readers",
    "modyn.loader.arguments",
    "modyn.loader.batch",
    "modyn.loader.batches",
    "modyn.loader.pinned",
    "modyn.loader.plan",
    "modyn.loader.process",
    "modyn.loader.source",
    "modyn.loader.staging",
    "modyn.metadata.source",
    "modyn.sampling.candidates",
    "modyn.sampling.draws",
    "modyn.sampling.keyset",
    "modyn.sampling.sampler",
    "modyn.sampling.weighted",
}
POLICIES_MAY = (
    "numpy",
    "modyn.arrivals",
    "modyn.drift",
    "modyn.metrics",
    "modyn.sampling",
    "modyn.signals",
    "modyn.policies",
)
CHECKS_MAY = ("modyn.downsampling",)  # the checks of policies hand downsamplers on to theirs
# What takes long to import, or is an extra, comes in inside the function that needs it.
HEAVY = {"torch", "torchmetrics", "pandas", "plotly", "matplotlib", "psycopg", "ray", "scipy"}
HEAVY |= {"pyarrow", "datasets", "watchdog", "sqlalchemy"}
# These are themselves imported only inside functions, which test_import.py checks.
HEAVY_ALLOWED = {
    "modyn.loader.torch_dataset": "what DataLoader takes derives from IterableDataset",
    "modyn.models.mlp": "a torch module is a class that derives from torch.nn.Module",
}


def module_name(file: str) -> str:
    parts = file.removesuffix(".py").split("/")
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def py_sources(root: Path) -> dict[str, str]:
    """Text by name relative to the root of the project."""
    files = sorted((root / "modyn").rglob("*.py"))
    return {path.relative_to(root).as_posix(): path.read_text() for path in files}


def imports(file: str, text: str, known: set[str]) -> Iterator[tuple[str, bool, bool]]:
    """Every imported module, whether at module level, and whether for types only."""
    package = module_name(file).split(".")
    if not file.endswith("__init__.py"):
        package = package[:-1]

    def visit(node: ast.AST, top: bool, typing: bool) -> Iterator[tuple[str, bool, bool]]:
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield alias.name, top, typing
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else []
            source = ".".join([*base, *([node.module] if node.module else [])])
            for alias in node.names:
                # `from modyn import policies` imports a module, `... Trigger` a name.
                full = f"{source}.{alias.name}"
                yield (full if full in known else source), top, typing
        inside = isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
        guard = isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node.test)
        for child in ast.iter_child_nodes(node):
            yield from visit(child, top and not inside, typing or guard)

    yield from visit(ast.parse(text), True, False)


def floor_of(module: str) -> int | None:
    names = [n for n in FLOORS if module == n or (module.startswith(n + ".") and n != "modyn")]
    return FLOORS[max(names, key=len)] if names else None


def wrong_imports(sources: dict[str, str]) -> list[str]:
    known = {module_name(file) for file in sources} | set(FLOORS)
    wrong = []
    for file, text in sources.items():
        module = module_name(file)
        floor = floor_of(module)
        if floor is None:
            wrong.append(f"{file}: {module} belongs to no floor")
            continue
        for name, top, typing in imports(file, text, known):
            first = name.split(".")[0]
            target = floor_of(name) if first == "modyn" else None
            if target is not None and target > floor:
                wrong.append(f"{file} imports {name}, which is above it")
            if name in ("modyn._core", "modyn._postgres") and module not in FACES:
                wrong.append(f"{file} imports {name}, which only the typed faces do")
            if first in HEAVY and top and not typing and module not in HEAVY_ALLOWED:
                wrong.append(f"{file} imports {name} at module level")
            if module.startswith("modyn.policies") and not policies_may(name, module):
                wrong.append(f"{file} imports {name}, which policies do not")
            if first in ("tests", "benchmarks", "examples", "pytest", "hypothesis"):
                wrong.append(f"{file} imports {name}, which is not part of the package")
    return wrong


def policies_may(name: str, module: str) -> bool:
    checks = module.startswith("modyn.policies.checks")
    if name.split(".")[0] in sys.stdlib_module_names:
        return name.split(".")[0] not in ("sqlite3", "socket", "subprocess", "multiprocessing")
    return any(
        name == may or name.startswith(may + ".") for may in POLICIES_MAY + CHECKS_MAY * checks
    )


# The project ------------------------------------------------------------------------------------


def test_c_includes_only_go_down():
    wrong = wrong_includes(c_sources(ROOT / "csrc"))

    assert not wrong, "\n".join(wrong)


def test_only_io_calls_the_system():
    wrong = wrong_calls(c_sources(ROOT / "csrc"))

    assert not wrong, "\n".join(wrong)


def test_only_the_selector_uses_openmp():
    wrong = wrong_openmp(c_sources(ROOT / "csrc"))

    assert not wrong, "\n".join(wrong)


def test_python_imports_only_go_down():
    wrong = wrong_imports(py_sources(ROOT))

    assert not wrong, "\n".join(wrong)


def test_there_is_something_to_read():
    assert len(c_sources(ROOT / "csrc")) > 20
    assert len(py_sources(ROOT)) >= 5


# A planted violation of each rule is found ------------------------------------------------------


@pytest.mark.parametrize(
    ("file", "line"),
    [
        ("base/io.c", '#include "storage/dataset.h"'),
        ("storage/segment.c", '#include "metadata/stream.h"'),
        ("metadata/stream.c", '#include "selector/uniform.h"'),
        ("selector/uniform.c", '#  include "prefetch/loader.h"'),
        ("prefetch/loader.c", '#include "selector/uniform.h"'),
        ("orchestrator/orchestrator.c", '#include "python/python.h"'),
        ("storage/segment.c", "#include <Python.h>"),
        ("python/dataset.c", "#include <numpy/arrayobject.h>"),
        ("metadata/stream.c", "#include <libpq-fe.h>"),
        ("python/postgres.c", "#include <libpq-fe.h>"),
        ("prefetch/loader.c", "#include <omp.h>"),
        ("storage/segment.c", "#include <dlfcn.h>"),
        ("attic/old.c", ""),
    ],
)
def test_a_wrong_include_is_found(file, line):
    assert len(wrong_includes({file: f"/* a story */\n{line}\n"})) == 1


@pytest.mark.parametrize(
    ("file", "line"),
    [
        ("storage/dataset.c", '#include "base/io.h"'),
        ("storage/dataset.c", '#include "storage/view.h"'),
        ("base/io.c", "#include <fcntl.h>"),
        ("base/io.c", "/* not #include <Python.h> */"),
        ("python/arrays.c", "#include <numpy/arrayobject.h>"),
        ("selector/sum.c", "#include <omp.h>"),
    ],
)
def test_a_right_include_is_none(file, line):
    assert wrong_includes({file: line}) == []


@pytest.mark.parametrize("call", ["open", "pread", "pwrite", "fsync", "rename", "unlink", "mmap"])
def test_a_system_call_outside_of_io_is_found(call):
    source = f"    if ({call}(path, 0) < 0)\n"

    assert wrong_calls({"storage/segment.c": source}) == [f"storage/segment.c calls {call}"]
    assert wrong_calls({"base/io.c": source}) == []


@pytest.mark.parametrize("call", ["signal", "sigaction", "siglongjmp", "raise"])
def test_signals_outside_of_the_guard_are_found(call):
    assert wrong_calls({"storage/linked.c": f"{call}(1);"}) == [f"storage/linked.c calls {call}"]
    assert wrong_calls({"base/guard.c": f"{call}(1);"}) == []


@pytest.mark.parametrize("call", ["printf", "fprintf", "exit", "abort", "rand"])
def test_printing_and_exiting_are_found_everywhere(call):
    assert wrong_calls({"base/io.c": f"{call}(1);"}) == [f"base/io.c calls {call}"]


@pytest.mark.parametrize(
    "line",
    [
        "st = io->open(io->self, path, flags, 0644);",
        "st = table.open(path);",
        "st = mdn_file_open(io, path);",
        "/* open(path) */",
        "// open(path)",
        'return mdn_fail(err, MDN_IO, "open(%s)", path);',
        "int (*open)(void *self, const char *path);",
        "if (c == '\"') // open(path)",
        "snprintf(text, sizeof text, format);",
    ],
)
def test_what_only_looks_like_a_system_call_is_none(line):
    assert wrong_calls({"storage/segment.c": line}) == []


def test_openmp_outside_of_the_selector_is_found():
    pragma = "#pragma omp parallel for num_threads(n)\n"

    assert wrong_openmp({"prefetch/loader.c": pragma}) == ["prefetch/loader.c uses OpenMP"]
    assert wrong_openmp({"selector/sum.c": pragma}) == []


@pytest.mark.parametrize(
    ("file", "line"),
    [
        ("modyn/arrivals.py", "from modyn.dataset import Dataset"),
        ("modyn/arrivals.py", "import modyn._core"),
        ("modyn/dataset.py", "from modyn import pipelines"),
        ("modyn/dataset.py", "import modyn"),
        ("modyn/loader/plan.py", "def f():\n    from modyn.policies import Trigger"),
        ("modyn/policies/base.py", "from modyn.dataset import Dataset"),
        ("modyn/policies/base.py", "import sqlite3"),
        ("modyn/policies/base.py", "import torch"),
        ("modyn/policies/base.py", "import modyn.loader"),
        ("modyn/policies/base.py", "import modyn.downsampling"),
        ("modyn/policies/checks/common.py", "import modyn.loader"),
        ("modyn/policies/base.py", "from ..pipelines import run"),
        ("modyn/policies/base.py", "from modyn import _core"),
        ("modyn/pipelines/run.py", "from modyn._core import View"),
        ("modyn/pipelines/run.py", "import torch"),
        ("modyn/pipelines/run.py", "class A:\n    import torch.nn as nn"),
        ("modyn/pipelines/run.py", "try:\n    import plotly\nexcept ImportError:\n    pass"),
        ("modyn/pipelines/run.py", "from modyn.cli import main"),
        ("modyn/report/page.py", "import pandas as pd"),
        ("modyn/report/page.py", "from tests.reference import selection"),
        ("modyn/utils.py", "import os"),
    ],
)
def test_a_wrong_import_is_found(file, line):
    sources = {
        file: line,
        "modyn/__init__.py": "",
        "modyn/pipelines/__init__.py": "",
        "modyn/cli.py": "",
    }

    assert len(wrong_imports(sources)) >= 1


@pytest.mark.parametrize(
    ("file", "line"),
    [
        ("modyn/__init__.py", "from modyn.dataset import Dataset"),
        ("modyn/dataset.py", "from modyn import _core"),
        ("modyn/policies/base.py", "import numpy as np\nimport math\nfrom .checks import a"),
        ("modyn/policies/base.py", "from modyn.sampling import Candidates"),
        ("modyn/policies/checks/selection.py", "from modyn.downsampling import Downsampler"),
        ("modyn/pipelines/train.py", "def f():\n    import torch"),
        (
            "modyn/pipelines/train.py",
            "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    import torch",
        ),
        ("modyn/cli.py", "from modyn.report import page\nimport typer"),
    ],
)
def test_a_right_import_is_none(file, line):
    assert wrong_imports({file: line}) == []
