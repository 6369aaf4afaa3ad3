"""Build modyn._core from csrc/, and modyn._postgres where libpq is at hand."""

import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy
from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext

ROOT = Path(__file__).parent
CSRC = ROOT / "csrc"
# What needs libpq, and what both extensions hold.
POSTGRES = [
    *sorted(CSRC.glob("metadata/postgres*.c")),
    CSRC / "metadata" / "batch.c",
    *sorted(CSRC.glob("python/postgres*.c")),
]
SHARED = [
    CSRC / "metadata" / name
    for name in ("decode.c", "encode.c", "filter.c", "query.c", "sqlstate.c")
]

# The binding casts functions to void * for slots, which -Wpedantic forbids.
WARNINGS = ["-Wall", "-Wextra", "-Wshadow", "-Wconversion", "-Wstrict-prototypes"]
FLAGS = ["-std=c11", "-O3", "-g", "-fno-math-errno", "-fvisibility=hidden", "-pthread", *WARNINGS]
# POSIX and Linux names (pread, fallocate, madvise) that -std=c11 hides.
MACROS = [("_GNU_SOURCE", "1")]


def sources(*floors: str) -> list[str]:
    files = (path for floor in floors for path in sorted((CSRC / floor).glob("*.c")))
    return [str(path.relative_to(ROOT)) for path in files if path not in POSTGRES]


def extension(name: str, files: list[str], **more: list[str]) -> Extension:
    headers = sorted(str(path.relative_to(ROOT)) for path in CSRC.rglob("*.h"))
    return Extension(
        name,
        files,
        depends=headers,
        define_macros=MACROS,
        undef_macros=["NDEBUG"],  # assertions stay on in production
        extra_compile_args=FLAGS,
        extra_link_args=["-pthread"],
        include_dirs=[str(CSRC), numpy.get_include(), *more.pop("include_dirs", [])],
        **more,
    )


def core() -> Extension:
    floors = [
        "base",
        "storage",
        "ingest",
        "metadata",
        "selector",
        "prefetch",
        "orchestrator",
        "python",
    ]
    return extension("modyn._core", sources(*floors), libraries=["m", "dl"])


def pg_config(option: str) -> str | None:
    """Answer of pg_config; None without it, or where it is Debian's wrapper of nothing."""
    try:
        done = subprocess.run(["pg_config", option], capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return None
    return done.stdout.strip()


def postgres() -> list[Extension]:
    """The extension over libpq, or nothing and a line that says why."""
    headers, libraries = pg_config("--includedir"), pg_config("--libdir")
    if headers is None or libraries is None or not Path(headers, "libpq-fe.h").exists():
        print(
            "modyn: pg_config or libpq-fe.h was not found, so modyn is built without Postgres "
            "support; install libpq-dev (Debian) and reinstall to have it",
            file=sys.stderr,
        )
        return []
    files = [str(path.relative_to(ROOT)) for path in POSTGRES + SHARED]
    return [
        extension(
            "modyn._postgres",
            files + sources("base"),
            include_dirs=[headers],
            library_dirs=[libraries],
            libraries=["pq"],
        )
    ]


class BuildExt(build_ext):
    """Compile the files of an extension side by side, one per core."""

    def build_extensions(self) -> None:
        compile_all = self.compiler.compile

        def side_by_side(sources: list[str], **options: object) -> list[str]:
            with ThreadPoolExecutor(os.cpu_count()) as pool:
                objects = pool.map(lambda source: compile_all([source], **options), sources)
                return [name for names in objects for name in names]

        self.compiler.compile = side_by_side
        super().build_extensions()


setup(ext_modules=[core(), *postgres()], cmdclass={"build_ext": BuildExt})
