"""Nothing is unpickled, evaluated or handed to a shell: read off the syntax of every file."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
FOLDERS = ["modyn", "benchmarks", "examples", "scripts", "tests"]

MODULES = {"pickle", "cPickle", "_pickle", "dill", "cloudpickle", "joblib", "marshal", "shelve"}
NAMES = {"eval", "exec"}
ATTRIBUTES = {
    ("torch", "load"),
    ("yaml", "load"),
    ("yaml", "load_all"),
    ("yaml", "full_load"),
    ("yaml", "unsafe_load"),
    ("os", "system"),
    ("os", "popen"),
    ("pandas", "read_pickle"),
    ("pd", "read_pickle"),
}
KEYWORDS = {"shell", "allow_pickle", "trust_remote_code"}

# File, what it does, and why it may.
ALLOWED = {
    ("tests/loader/training.py", "pickle"): "reads its own checkpoints, which hold an optimiser",
    ("tests/python/test_loader_state.py", "pickle"): "a loader travels to processes like this",
    ("tests/python/test_torch_dataset.py", "pickle"): "so does a dataset of torch",
    ("tests/python/test_binary_numpy.py", "allow_pickle="): "writes a file that must be refused",
    ("tests/python/test_readme.py", "exec"): "runs the code blocks of README.md",
}


def findings(text: str) -> Iterator[str]:
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Import):
            yield from (n.name for n in node.names if n.name.split(".")[0] in MODULES)
        elif isinstance(node, ast.ImportFrom):
            if (node.module or "").split(".")[0] in MODULES:
                yield node.module or ""
            for alias in node.names:
                if (node.module, alias.name) in ATTRIBUTES:
                    yield f"{node.module}.{alias.name}"
        elif isinstance(node, ast.Call):
            if isinstance(node.func, ast.Name) and node.func.id in NAMES:
                yield node.func.id
            for keyword in node.keywords:
                true = not (isinstance(keyword.value, ast.Constant) and not keyword.value.value)
                if keyword.arg in KEYWORDS and true:
                    yield f"{keyword.arg}="
        elif isinstance(node, ast.Attribute) and (
            (ast.unparse(node.value), node.attr) in ATTRIBUTES
        ):
            yield ast.unparse(node)


def python_files() -> list[Path]:
    return [ROOT / "setup.py", *sorted(p for f in FOLDERS for p in (ROOT / f).rglob("*.py"))]


def test_no_file_unpickles_evaluates_or_uses_a_shell():
    wrong = []
    for path in python_files():
        name = path.relative_to(ROOT).as_posix()
        wrong += [f"{name}: {f}" for f in findings(path.read_text()) if (name, f) not in ALLOWED]

    assert not wrong, "\n".join(wrong)


def test_what_is_allowed_is_still_used():
    for name, what in ALLOWED:
        assert what in list(findings((ROOT / name).read_text())), f"{name} does no {what} any more"


@pytest.mark.parametrize(
    ("line", "found"),
    [
        ("import pickle", "pickle"),
        ("import os, marshal", "marshal"),
        ("from pickle import loads", "pickle"),
        ("from torch import load", "torch.load"),
        ("torch.load(path)", "torch.load"),
        ("read = torch.load", "torch.load"),
        ("yaml.load(text, Loader=L)", "yaml.load"),
        ("eval('1')", "eval"),
        ("exec(code, {})", "exec"),
        ("subprocess.run('ls', shell=True)", "shell="),
        ("subprocess.run('ls', shell=flag)", "shell="),
        ("np.load(path, allow_pickle=True)", "allow_pickle="),
        ("os.system('ls')", "os.system"),
    ],
)
def test_a_planted_violation_is_found(line, found):
    assert list(findings(line)) == [found]


@pytest.mark.parametrize(
    "line",
    ["model.eval()", "yaml.safe_load(text)", "run(a, shell=False)", "np.load(p)", "'eval(x)'"],
)
def test_what_only_looks_like_one_is_none(line):
    assert list(findings(line)) == []
