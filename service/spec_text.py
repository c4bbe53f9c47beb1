"""Text into values: spec files, and the right-hand sides of `--set path=value`.

Numbers, booleans and nulls are those of YAML 1.2 (as in JSON), not of 1.1: `1e-4` is a number, `no` and `12:30`
are text.
"""

from __future__ import annotations

import json
import re
from collections.abc import Hashable, Mapping
from pathlib import Path
from typing import Any

import yaml

from service.errors import UsageError
from vae_models.strict import SCALARS

SUFFIXES = (".yaml", ".yml", ".json")
_LARGEST = 1 << 20  # bytes; a spec is a page


_DEEPEST = 32  # mappings and lists inside each other; a resolved study has 8


def refuse_depth(value: Any) -> None:
    """Raise UsageError for a value nested deeper than any spec: walking through it would exceed the recursion limit."""
    level, depth = [value], 0
    while level:
        depth += 1
        if depth > _DEEPEST:
            raise UsageError(f"the spec is nested too deeply: at most {_DEEPEST} mappings or lists inside each other")
        level = [
            part
            for parts in level
            for part in (parts if isinstance(parts, (list, tuple)) else parts.values())
            if type(part) not in SCALARS and isinstance(part, (dict, list, tuple, Mapping)) and part
        ]


class _Loader(yaml.SafeLoader):
    """YAML's safe subset with the scalars of YAML 1.2; a key given twice is an error."""

    yaml_implicit_resolvers: dict[str, Any] = {}  # noqa: RUF012 - PyYAML's own way to have none of 1.1's

    def compose_node(self, parent: yaml.Node | None, index: Any) -> yaml.Node | None:
        if self.check_event(yaml.AliasEvent):
            mark = self.peek_event().start_mark  # type: ignore[no-untyped-call]
            raise yaml.MarkedYAMLError(None, None, "aliases (*name) are not read", mark)
        return super().compose_node(parent, index)

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        seen: set[Hashable] = set()
        for key_node, _ in node.value:
            key = self.construct_object(key_node, deep=True)
            if not isinstance(key, str):
                raise yaml.MarkedYAMLError(None, None, f"a name is expected, not {key!r}", key_node.start_mark)
            if key in seen:
                raise yaml.MarkedYAMLError(None, None, f"{key} is given twice", key_node.start_mark)
            seen.add(key)
        return super().construct_mapping(node, deep=deep)


_Loader.add_implicit_resolver("tag:yaml.org,2002:null", re.compile(r"^(?:~|null|Null|NULL|)$"), ["~", "n", "N", ""])
_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:bool", re.compile(r"^(?:true|True|TRUE|false|False|FALSE)$"), list("tTfF")
)
_Loader.add_implicit_resolver("tag:vaesvc,2026:int", re.compile(r"^[-+]?[0-9]+$"), list("-+0123456789"))
_Loader.add_implicit_resolver(
    "tag:vaesvc,2026:float",
    re.compile(
        r"^[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?$|^[-+]?\.(?:inf|Inf|INF)$|^\.(?:nan|NaN|NAN)$"
    ),
    list("-+.0123456789"),
)


def _int(loader: yaml.SafeLoader, node: yaml.ScalarNode) -> int:
    return int(node.value)


def _float(loader: yaml.SafeLoader, node: yaml.ScalarNode) -> float:
    return float(node.value.lower().replace(".inf", "inf").replace(".nan", "nan"))


_Loader.add_constructor("tag:vaesvc,2026:int", _int)
_Loader.add_constructor("tag:vaesvc,2026:float", _float)


def parse_value(text: str) -> Any:
    """Return one YAML value. Raises ValueError with the cause if it is none."""
    try:
        return yaml.load(text, Loader=_Loader)  # nosec B506  # a subclass of SafeLoader
    except yaml.YAMLError as error:
        raise ValueError(_cause(error)) from error
    except RecursionError as error:
        raise ValueError("nested too deeply") from error


def read_file(path: Path) -> dict[str, Any]:
    """Return the mapping that a `.yaml`, `.yml` or `.json` file holds."""
    try:
        if path.stat().st_size > _LARGEST:
            raise UsageError(f"{path}: {path.stat().st_size:,} bytes is no spec; at most {_LARGEST:,} are read")
        text = path.read_text("utf-8")
    except FileNotFoundError as error:
        raise UsageError(f"{path}: there is no such file") from error
    except UnicodeDecodeError as error:
        raise UsageError(f"{path}: not text in UTF-8 (byte {error.start})") from error
    except OSError as error:
        raise UsageError(f"{path}: cannot be read: {error.strerror or error}") from error
    try:
        value = _parse_json(text) if path.suffix == ".json" else parse_value(text)
    except ValueError as error:
        raise UsageError(f"{path}: {error}") from error
    if not isinstance(value, dict):
        raise UsageError(
            f"{path}: a spec is a mapping of names to values, not {'empty' if value is None else repr(value)}"
        )
    refuse_depth(value)
    return value


def _parse_json(text: str) -> Any:
    def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        result: dict[str, Any] = {}
        for key, value in pairs:
            if key in result:
                raise ValueError(f"{key} is given twice")
            result[key] = value
        return result

    try:
        return json.loads(text, object_pairs_hook=unique)
    except json.JSONDecodeError as error:
        raise ValueError(f"not JSON: line {error.lineno}, column {error.colno}: {error.msg}") from error
    except RecursionError as error:
        raise ValueError("nested too deeply") from error


def _cause(error: yaml.YAMLError) -> str:
    if isinstance(error, yaml.MarkedYAMLError) and error.problem_mark is not None:
        mark = error.problem_mark
        return f"line {mark.line + 1}, column {mark.column + 1}: {error.problem}"
    return f"not YAML: {error}"
