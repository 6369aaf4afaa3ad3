"""YAML as plain data: what a configuration may contain, and nothing that surprises.

Strings, numbers, true, false, null, lists and mappings with string keys; scalars are read as YAML
1.2 does, so that `No` is a word, `1e-3` a number and `1950-01-01` stays as it is written.  Tags,
aliases, repeated keys, nesting beyond 32 levels and more than 1 MiB are refused: a tag could name
a type, and aliases can make a short file expand to terabytes.
"""

import re
from typing import Any

import yaml

from modyn.errors import ConfigError

SIZE_MAX = 1 << 20
DEPTH_MAX = 32

_NULL = re.compile(r"~|null|Null|NULL|")
_BOOL = re.compile(r"true|True|TRUE|false|False|FALSE")
_INT = re.compile(r"[-+]?(0|[1-9][0-9_]{0,40})")
_EXPONENT = "[eE][-+]?[0-9]{1,4}"
_FLOAT = re.compile(rf"[-+]?(\.[0-9]+|[0-9]+\.[0-9]*)({_EXPONENT})?|[-+]?[0-9]+{_EXPONENT}")


def load(text: bytes, name: str) -> Any:
    """Return the value of a YAML document.

    Parameters
    ----------
    text : bytes
        The document, UTF-8.
    name : str
        What messages call it.

    Raises
    ------
    ConfigError
        When it is not YAML, or holds what a configuration may not; names line and column.
    """
    if len(text) > SIZE_MAX:
        raise ConfigError(f"{name}: {len(text)} bytes; at most {SIZE_MAX} are allowed")
    try:
        loader = _Loader(text.decode("utf-8"))
        try:
            return loader.get_single_data()
        finally:
            loader.dispose()
    except UnicodeDecodeError as error:
        raise ConfigError(f"{name}: not UTF-8 ({error.reason} at byte {error.start})") from None
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark
        place = f"line {mark.line + 1}, column {mark.column + 1}: " if mark else ""
        raise ConfigError(f"{name}: {place}{error.problem}") from None
    except yaml.YAMLError as error:
        raise ConfigError(f"{name}: {' '.join(str(error).split())}") from None


def dump(value: Any) -> str:
    """Return a document that `load` reads as `value`; equal values give equal text."""
    text: str = yaml.dump(
        value, Dumper=_Dumper, default_flow_style=False, sort_keys=False, allow_unicode=False
    )
    return text


class _Loader(yaml.SafeLoader):
    """SafeLoader without what can surprise."""

    yaml_implicit_resolvers: dict[str, Any] = {}  # noqa: RUF012 - as the base class has it
    depth = 0

    def compose_node(self, parent: Any, index: Any) -> Any:
        event = self.peek_event()  # type: ignore[no-untyped-call]
        if isinstance(event, yaml.AliasEvent):
            raise _refused("aliases are not allowed", event)
        if getattr(event, "tag", None) is not None:
            raise _refused(f"tags are not allowed: {event.tag}", event)
        if self.depth >= DEPTH_MAX:
            raise _refused(f"nested more than {DEPTH_MAX} levels deep", event)
        self.depth += 1
        node = super().compose_node(parent, index)
        self.depth -= 1
        return node

    def construct_mapping(self, node: Any, deep: bool = False) -> dict[Any, Any]:
        seen = set()
        for key, _ in node.value:
            if not isinstance(key, yaml.ScalarNode) or key.tag != "tag:yaml.org,2002:str":
                raise _refused(f"a key must be a string, got {key.value!r:.40}", key)
            if key.value in seen:
                raise _refused(f"the key {key.value!r:.80} appears twice", key)
            seen.add(key.value)
        return super().construct_mapping(node, deep=deep)

    def flatten_mapping(self, node: Any) -> None:
        """Merge keys (<<) are ordinary keys here, which no section knows."""


class _Dumper(yaml.SafeDumper):
    """Reads scalars as the loader does, to know which strings need quotes."""

    yaml_implicit_resolvers: dict[str, Any] = {}  # noqa: RUF012 - as the base class has it

    def ignore_aliases(self, data: Any) -> bool:
        return True


def _refused(problem: str, where: Any) -> yaml.MarkedYAMLError:
    return yaml.MarkedYAMLError(problem=problem, problem_mark=where.start_mark)


for _class in (_Loader, _Dumper):
    for _tag, _pattern in (("null", _NULL), ("bool", _BOOL), ("int", _INT), ("float", _FLOAT)):
        _class.add_implicit_resolver(
            f"tag:yaml.org,2002:{_tag}", re.compile(f"^(?:{_pattern.pattern})$"), None
        )
