"""`import modyn` is quick because it needs NumPy alone."""

from __future__ import annotations

import importlib
import json
import pkgutil
import subprocess
import sys

import pytest

import modyn

NOT_IMPORTED = [
    *["torch", "torchmetrics", "pandas", "matplotlib", "plotly", "scipy", "pydantic", "typer"],
    *["rich", "yaml", "safetensors", "sqlite3"],
]
# Reports how long the import took and which modules came with it.
PROBE = """
import json, sys, time
import numpy
start = time.perf_counter()
import {module}
print(json.dumps([time.perf_counter() - start, sorted(sys.modules)]))
"""
OPTIONAL = {"modyn.postgres", "modyn._postgres"}


def imported_with(module: str) -> tuple[float, set[str]]:
    """Seconds after NumPy, and all modules, of an import in a process of its own."""
    command = [sys.executable, "-W", "error", "-c", PROBE.format(module=module)]
    done = subprocess.run(command, check=True, capture_output=True, text=True, timeout=120)
    seconds, modules = json.loads(done.stdout)
    return seconds, set(modules)


@pytest.mark.parametrize("module", ["modyn", "modyn.policies"])
def test_import_brings_no_heavy_module(module):
    seconds, modules = imported_with(module)

    print(f"import {module}: {seconds * 1000:.0f} ms after numpy")
    assert sorted(modules & set(NOT_IMPORTED)) == []


def test_the_probe_sees_what_is_imported():
    _, modules = imported_with("modyn, sqlite3")

    assert "sqlite3" in modules


def module_names() -> list[str]:
    found = pkgutil.walk_packages(modyn.__path__, "modyn.")
    return sorted(m.name for m in found if m.name not in OPTIONAL and "__main__" not in m.name)


@pytest.mark.parametrize("name", module_names())
def test_every_module_can_be_imported(name):
    importlib.import_module(name)


@pytest.mark.parametrize("name", ["modyn", *module_names()])
def test_every_public_name_exists(name):
    module = importlib.import_module(name)

    for public in getattr(module, "__all__", []):
        assert hasattr(module, public), f"{name}.__all__ lists {public}"
