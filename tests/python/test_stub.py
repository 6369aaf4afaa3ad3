"""The stubs of the extensions say what the extensions have, no more and no less."""

from __future__ import annotations

import ast
import inspect
from pathlib import Path

import pytest

import modyn

PACKAGE = Path(modyn.__file__).parent
# What every type has, and what only a type checker sees.
COMMON = set(dir(type("Plain", (), {}))) | {"__doc__", "__module__", "__new__", "__init__"}


def members(node: ast.ClassDef | ast.Module) -> dict[str, ast.stmt]:
    """Name and last definition of all that a stub defines there."""
    found: dict[str, ast.stmt] = {}
    for child in node.body:
        if isinstance(child, ast.FunctionDef | ast.ClassDef):
            found[child.name] = child
        elif isinstance(child, ast.AnnAssign) and isinstance(child.target, ast.Name):
            found[child.target.id] = child
        elif isinstance(child, ast.Assign):
            found |= {t.id: child for t in child.targets if isinstance(t, ast.Name)}
    return found


def is_type_only(name: str, node: ast.stmt) -> bool:
    """Aliases, protocols and type variables that exist for the checker alone."""
    if isinstance(node, ast.ClassDef):
        bases = {ast.unparse(base).split("[")[0] for base in node.bases}
        return bool(bases & {"Protocol", "TypedDict"})
    return isinstance(node, ast.Assign) and name.startswith("_")


def differences(stub: dict[str, ast.stmt], real: set[str], where: str) -> list[str]:
    names = {name for name, node in stub.items() if not is_type_only(name, node)}
    only_stub = [f"{where}.{name} is only in the stub" for name in sorted(names - real)]
    return only_stub + [f"{where}.{name} is not in the stub" for name in sorted(real - names)]


def parameters(node: ast.FunctionDef) -> list[str]:
    """Names of the parameters; those that only stand by position without their name."""
    a = node.args
    named = [arg.arg for arg in [*a.args, *a.kwonlyargs] if arg.arg not in ("self", "cls")]
    positional = [arg for arg in a.posonlyargs if arg.arg not in ("self", "cls")]
    return ["/"] * len(positional) + named


def real_parameters(function: object) -> list[str] | None:
    try:
        signature = inspect.signature(function)  # type: ignore[arg-type]
    except (TypeError, ValueError):
        return None
    found = [p for p in signature.parameters.values() if p.name not in ("self", "type", "module")]
    return ["/" if p.kind is p.POSITIONAL_ONLY else p.name for p in found]


def signatures(stub: dict[str, ast.stmt], owner: object, where: str) -> list[str]:
    wrong = []
    for name, node in stub.items():
        real = getattr(owner, name, None)
        if not isinstance(node, ast.FunctionDef) or not callable(real) or name.startswith("__"):
            continue
        found = real_parameters(real)
        if found is None:
            wrong.append(f"{where}.{name} has no signature in its docstring")
        elif found != parameters(node):
            wrong.append(f"{where}.{name}: {found}, in the stub {parameters(node)}")
    return wrong


def compare(stub: ast.Module, module: object, name: str) -> list[str]:
    top = members(stub)
    public = {n for n in dir(module) if not n.startswith("__")}
    wrong = differences(top, public, name)
    for class_name, node in top.items():
        real = getattr(module, class_name, None)
        if not isinstance(node, ast.ClassDef) or not isinstance(real, type):
            continue
        inherited = set(dir(real.__mro__[1])) | COMMON
        own = {n for n in vars(real) if n not in inherited or n in members(node)}
        inside = {n: v for n, v in members(node).items() if n not in ("__new__", "__init__")}
        wrong += differences(inside, own - {"__new__", "__init__"}, f"{name}.{class_name}")
        wrong += signatures(inside, real, f"{name}.{class_name}")
    return wrong + signatures(top, module, name)


@pytest.mark.parametrize("name", ["_core", "_postgres"])
def test_the_stub_matches_the_extension(name):
    module = pytest.importorskip(f"modyn.{name}")
    stub = ast.parse((PACKAGE / f"{name}.pyi").read_text())

    wrong = compare(stub, module, name)

    assert not wrong, "\n".join(wrong)


class Module:
    """Stands for an extension."""

    class A:
        def f(self, x: int) -> None: ...

    @staticmethod
    def free(x: int) -> None: ...


RIGHT = "class A:\n    def f(self, x): ...\ndef free(x): ...\n"


def test_a_right_stub_has_no_difference():
    assert compare(ast.parse(RIGHT), Module, "module") == []


@pytest.mark.parametrize(
    ("right", "wrong"),
    [
        ("    def f(self, x): ...", "    pass"),
        ("    def f(self, x): ...", "    def f(self, x): ...\n    def g(self): ..."),
        ("    def f(self, x): ...", "    def f(self, y): ..."),
        ("def free(x): ...", ""),
        ("def free(x): ...", "def free(x): ...\ndef more(): ..."),
        ("def free(x): ...", "def free(y): ..."),
        ("def free(x): ...", "def free(x, /): ..."),
    ],
)
def test_a_planted_difference_is_found(right, wrong):
    stub = ast.parse(RIGHT.replace(right, wrong))

    assert len(compare(stub, Module, "module")) == 1
