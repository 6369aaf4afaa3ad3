"""pipeline.yaml: plain data and nothing else, whatever the bytes."""

from __future__ import annotations

import contextlib
import sys

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from modyn.errors import ConfigError
from modyn.pipelines import config, strict_yaml
from tests.python.config_texts import FULL, MINIMAL, parsed


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a: 1\na: 2\n", "line 2, column 1: the key 'a' appears twice"),
        ("a: &x [1]\nb: *x\n", "line 2, column 4: aliases are not allowed"),
        ("a: !!python/object/apply:os.system ['true']\n", "tags are not allowed"),
        ("a: !!set {x, y}\n", "tags are not allowed"),
        ("a: ! x\n", "tags are not allowed"),
        ("1: a\n", "a key must be a string, got '1'"),
        ("? [a]\n: b\n", "a key must be a string"),
        ("a: [1\n", "line 2, column 1: expected ',' or ']'"),
        ("a: " + "[" * 100, "nested more than 32 levels deep"),
        ("a: 1\n---\nb: 2\n", "but found another document"),
        ("- 1\n", "expected sections such as 'pipeline:', got [1]"),
        ("", "expected sections such as 'pipeline:', got None"),
        ("a: \x00", "special characters are not allowed"),
    ],
)
def test_yaml_that_is_more_than_plain_data_is_refused(text, message):
    with pytest.raises(ConfigError) as caught:
        parsed(text)

    assert message in str(caught.value)


def test_a_million_levels_and_a_large_file_are_refused_quickly():
    with pytest.raises(ConfigError, match="nested more than 32 levels"):
        parsed("[" * 1_000_000)
    with pytest.raises(ConfigError, match="1048577 bytes; at most 1048576"):
        config.parse(b" " * (2**20 + 1))
    with pytest.raises(ConfigError, match="not UTF-8"):
        config.parse(b"a: \xff")


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("No", "No"),
        ("yes", "yes"),
        ("on", "on"),
        ("true", True),
        ("1e-3", 1e-3),
        ("1.", 1.0),
        ("-5", -5),
        ("1_000", 1000),
        ("017", "017"),
        ("1:30", "1:30"),
        ("1950-01-01", "1950-01-01"),
        ("~", None),
        (".nan", ".nan"),
        ("<<", "<<"),
    ],
)
def test_scalars_mean_what_they_look_like(text, value):
    found = strict_yaml.load(f"a: {text}\n".encode(), "t")["a"]

    assert found == value
    assert type(found) is type(value)


plain = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**63)
    | st.text(max_size=20)
    | st.floats(allow_nan=False, allow_infinity=False),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3)
    ),
    max_leaves=8,
)


@given(plain)
@example("1e3")
@example("No")
@example({"a: b": "- c", "null": "null"})
def test_what_is_dumped_loads_as_it_was(value):
    text = strict_yaml.dump({"value": value})

    assert strict_yaml.load(text.encode(), "t") == {"value": value}


@pytest.fixture
def canary(tmp_path, monkeypatch):
    """A module that leaves a file behind when it is imported."""
    (tmp_path / "canary_module.py").write_text(
        "import pathlib\npathlib.Path(__file__).with_name('sang').touch()\n"
        "def make(**config): raise SystemExit\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    return tmp_path / "sang"


def fields_of(values: object, path: tuple[str | int, ...] = ()) -> list[tuple[str | int, ...]]:
    """The paths of all scalars of a nested value."""
    if isinstance(values, dict):
        return [p for key, entry in values.items() for p in fields_of(entry, (*path, key))]
    if isinstance(values, list):
        return [p for i, entry in enumerate(values) for p in fields_of(entry, (*path, i))]
    return [path]


PLACES = fields_of(strict_yaml.load(FULL.encode(), "t"))
HOSTILE = st.sampled_from(
    [
        *["canary_module:make", "canary_module", "__import__('canary_module')", "canary_module.py"],
        *["!!python/name:canary_module.make", "${canary_module}", "{0.__class__}", "%s%n", "../x"],
        *["model.__class__.__init__", "os.system", "lambda: 0", "\x00", "'", "~", "1e999"],
    ]
)


@settings(
    max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(place=st.sampled_from(PLACES), text=HOSTILE | st.text(max_size=30))
@example(place=("model", "id"), text="canary_module:make")
def test_no_string_in_any_field_imports_or_runs_anything(canary, place, text):
    values = strict_yaml.load(FULL.encode(), "t")
    target = values
    for step in place[:-1]:
        target = target[step]
    target[place[-1]] = text
    before = set(sys.modules)

    with contextlib.suppress(ConfigError):
        config.parse(strict_yaml.dump(values).encode())

    assert not canary.exists()
    assert {name for name in set(sys.modules) - before if "canary" in name} == set()


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=300) | st.text(max_size=300).map(str.encode))
def test_any_bytes_are_a_configuration_or_a_config_error(text):
    with pytest.raises(ConfigError):
        config.parse(text)


def test_an_import_path_is_a_valid_model_id_that_is_not_followed(canary):
    text = MINIMAL.replace("id: MLP", "id: canary_module:make")

    assert parsed(text).model.id == "canary_module:make"
    assert not canary.exists()
