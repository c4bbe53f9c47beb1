"""pydantic's errors as lines for people: the path, the value, what is allowed, and the nearest valid name."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sized
from typing import Any, NamedTuple

from pydantic import BaseModel, ValidationError

from service.spec_schema import Models, items_of, kind_of, models_of, nearest, shortened, show

EXPLAINED = 20  # twice as many as are ever shown: some lines are left out by those who ask
_LONGEST_NAME = 60  # characters of a field's name, which may be a stranger's


def explain(error: ValidationError, model: type[BaseModel]) -> list[str]:
    """Return one line for each error, in the order of the fields; beyond `EXPLAINED` its place alone, to be counted."""
    details = [detail for detail in error.errors(include_url=False) if not _follows(detail)]
    lines = [_line(detail, model) for detail in details[:EXPLAINED]]
    return lines + [".".join(str(part) for part in detail["loc"]) for detail in details[EXPLAINED:]]


def _follows(detail: Mapping[str, Any]) -> bool:
    """Return whether the error follows from others, which have a line of their own: a list that is too short only
    because of the mistakes in what it holds, or a default that was not made."""
    given = detail.get("input")
    if detail["type"] == "default_factory_not_called":
        return True
    if detail["type"] != "too_short" or not isinstance(given, Sized):
        return False
    return len(given) >= int(detail.get("ctx", {}).get("min_length", 0))


def _line(detail: Mapping[str, Any], model: type[BaseModel]) -> str:
    path, parents, alternatives, models = _walk(detail["loc"], model)
    kind, context, given = detail["type"], detail.get("ctx", {}), detail.get("input")
    where = ".".join(path) or "spec"
    if kind == "extra_forbidden":
        return unknown(where, path[-1], parents, alternatives)
    if kind == "missing":
        return f"{where}: is missing"
    if kind == "literal_error":
        return choice(where, given, _expected(context))
    if kind == "union_tag_invalid":
        return choice(f"{where}.kind", context.get("tag"), _tags(context))
    if kind == "union_tag_not_found":
        return f"{where}.kind: is missing; allowed: {', '.join(str(kind_of(m)) for m in models)}"
    if kind in ("dict_type", "mapping_type"):
        return f"{where}: {show(given)} is not allowed; it should be a mapping of names"
    if kind in ("model_type", "model_attributes_type"):
        names = [name for held in models for name in held.model_fields]
        hint = f"; did you mean {{kind: {given}}}?" if given in [kind_of(held) for held in models] else ""
        known = ", ".join(dict.fromkeys(names))
        return f"{where}: {show(given)} is not allowed; it should be a mapping with: {known}{hint}"
    message = str(detail["msg"])
    if kind in ("value_error", "no_number"):
        return f"{where}: {message.removeprefix('Value error, ')}"
    return f"{where}: {show(given)} is not allowed; it {_lower(message)}"


def unknown(where: str, name: str, parents: Models, alternatives: Models = ()) -> str:
    """Explain an unknown field. `parents` may hold it; `alternatives` are the other kinds that stood there to choose
    from."""
    names = list(dict.fromkeys(known for parent in parents for known in parent.model_fields))
    line = f"{where}: there is no such field; allowed: {', '.join(names)}"
    near = nearest(name, names) or _below(name, parents)
    if near is not None:
        return f"{line}; did you mean {near}?"
    others = [str(kind_of(other)) for other in alternatives if name in other.model_fields]
    if others:
        at = where.rpartition(".")[0]
        return f"{line}; {name} belongs to {at}.kind={others[0]}"
    return line


def _below(name: str, parents: Models) -> str | None:
    """Return `train.optimizer` for an `optimizer` that was written one level too high."""
    for parent in parents:
        for field, info in parent.model_fields.items():
            if any(name in model.model_fields for model in models_of(info)):
                return f"{field}.{name}"
    return None


def choice(where: str, given: Any, allowed: list[str]) -> str:
    near = nearest(given, allowed) if isinstance(given, str) else None
    hint = f"; did you mean {near}?" if near is not None else ""
    return f"{where}: {show(given)} is not allowed; allowed: {', '.join(allowed)}{hint}"


class _Place(NamedTuple):
    """Where an error is: the path without the union tags in pydantic's location, the models that hold its last name,
    the other kinds that stood there to choose from, and the models that may stand at the place itself."""

    path: list[str]
    parents: Models
    alternatives: Models
    models: Models


def _walk(loc: tuple[int | str, ...], model: type[BaseModel]) -> _Place:
    path: list[str] = []
    models: Models = (model,)
    parents, alternatives = models, models
    others: Models = ()
    listed = False  # what comes next says which one of several: a place in a list, a name in a mapping
    for part in loc:
        tagged = [m for m in models if len(models) > 1 and kind_of(m) == part]
        if tagged and not listed:
            others = tuple(m for m in models if m is not tagged[0])
            models = (tagged[0],)
            continue
        path.append(shortened(str(part), _LONGEST_NAME))
        if listed:
            listed = False
            continue
        parents, alternatives = models, others
        fields = [m.model_fields[str(part)] for m in models if str(part) in m.model_fields]
        listed = bool(fields) and items_of(fields[0].annotation) is not None
        models, others = (models_of(fields[0], items=True) if fields else ()), ()
    return _Place(path, parents, alternatives, models)


def _expected(context: Mapping[str, Any]) -> list[str]:
    """Return the words of pydantic's "'a', 'b' or 'c'"."""
    return [word.strip().strip("'") for word in str(context["expected"]).replace(" or ", ", ").split(",")]


def _tags(context: Mapping[str, Any]) -> list[str]:
    return [word.strip().strip("'") for word in str(context["expected_tags"]).split(",")]


def _lower(message: str) -> str:
    """Lower the first words: "Input should be greater than 0" -> "should be greater than 0"."""
    return re.sub(r"^(Input|String|Value|Tuple|List|Dictionary) |( after validation)?, not \d+$", "", message)
