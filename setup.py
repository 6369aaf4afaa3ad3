"""Build modyn._core from csrc/, and modyn._postgres where libpq is at hand."""

import shutil
import subprocess
import sys
from pathlib import Path

import numpy
from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext

ROOT = Path(__file__).parent
CSRC = ROOT / "csrc"
POSTGRES = [CSRC / "metadata" / "postgres.c", CSRC / "python" / "postgres.c"]

# The binding casts functions to void * for slots, which -Wpedantic forbids.
WARNINGS = ["-Wall", "-Wextra", "-Wshadow", "-Wconversion", "-Wstrict-prototypes"]
FLAGS = ["-std=c11", "-O3", "-g", "-fvisibility=hidden", "-pthread", *WARNINGS]
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
    floors = ["base", "storage", "metadata", "selector", "prefetch", "orchestrator", "python"]
    return extension("modyn._core", sources(*floors))


def postgres() -> list[Extension]:
    """The extension over libpq, or nothing and a line that says why."""
    if not all(path.exists() for path in POSTGRES):
        return []
    if shutil.which("pg_config") is None:
        print(
            "modyn: pg_config was not found, so modyn is built without Postgres support; "
            "install libpq-dev (Debian) and reinstall to have it",
            file=sys.stderr,
        )
        return []

    def directory(option: str) -> str:
        return subprocess.run(
            ["pg_config", option], check=True, capture_output=True, text=True
        ).stdout.strip()

    files = [str(path.relative_to(ROOT)) for path in POSTGRES]
    files += sources("base")
    return [
        extension(
            "modyn._postgres",
            files,
            include_dirs=[directory("--includedir")],
            library_dirs=[directory("--libdir")],
            libraries=["pq"],
        )
    ]


class BuildExt(build_ext):
    """Compile with as many processes as there are cores."""

    def finalize_options(self) -> None:
        super().finalize_options()
        self.parallel = self.parallel or True


setup(ext_modules=[core(), *postgres()], cmdclass={"build_ext": BuildExt})
