"""`--set path=value`, for every kind of job: read, given the type of its field, and laid over what was there."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

from pydantic import BaseModel

from service import spec_schema, spec_text

Rule = Callable[[Mapping[str, Any], Mapping[str, Any]], Mapping[str, Any]]
_NO_RULES: Mapping[str, Rule] = MappingProxyType({})


@dataclass(frozen=True, kw_only=True)
class Override:
    """path: the names between the dots. text: the value as it was written, in YAML."""

    path: tuple[str, ...]
    text: str

    @property
    def written(self) -> str:
        """Return the path as it was written."""
        return ".".join(self.path)


def split(overrides: Iterable[str], problems: list[str], *, example: str = "optimizer.lr=3e-4") -> list[Override]:
    """Split each at its first `=`. A text without one adds a line to `problems`, with an example of the form."""
    parts = []
    for override in overrides:
        written, equals, text = override.partition("=")
        if equals:
            parts.append(Override(path=tuple(written.strip().split(".")), text=text.strip()))
        else:
            problems.append(f"{override}: an override has the form path=value, for example {example}")
    return parts


def value(model: type[BaseModel], path: Sequence[str], text: str, base: Mapping[str, Any]) -> Any:
    """Read a value for the field at `path` of `model`. Raises ValueError with the cause.

    It is YAML, except that a field of text takes the text as it stands, and `none` is null where null is allowed.
    base: the spec as it is, which says which kind stands where several may.
    """
    field = spec_schema.field_at(model, path, base)
    annotation = field.annotation if field is not None else None
    if spec_schema.accepts(annotation, str) and text[:1] not in ("'", '"'):
        return text
    if text.lower() == "none" and spec_schema.accepts(annotation, None):
        return None
    return spec_text.parse_value(text)


def not_a_value(override: Override, error: ValueError) -> str:
    """Return the line for a value that could not be read."""
    return f"{override.written}: {spec_schema.show(override.text)} is not a value: {error}"


def put(whole: dict[str, Any], path: Sequence[str], value: Any) -> None:
    """Set the value at `path` of nested mappings, in place: over a mapping that is there it is laid.

    What is no mapping on the way there is replaced by one.
    """
    *parents, last = path
    at = whole
    for name in parents:
        inner = at.get(name)
        at[name] = dict(inner) if isinstance(inner, Mapping) else {}
        at = at[name]
    at[last] = merge(at.get(last), value)


def merge(base: Any, patch: Any, rules: Mapping[str, Rule] = _NO_RULES, *, at: str = "") -> Any:
    """Lay `patch` over `base`, mapping by mapping; another `kind` leaves nothing of the old one.

    rules: by a mapping's name, what of its `base` stays, given both.
    """
    if not isinstance(base, Mapping) or not isinstance(patch, Mapping):
        return patch
    if "kind" in patch and "kind" in base and patch["kind"] != base["kind"]:
        base = {}
    if at in rules:
        base = rules[at](base, patch)
    return {**base, **{name: merge(base.get(name), part, rules, at=name) for name, part in patch.items()}}
