"""The spec's models as a tree of paths: what the fields are, what each may be, and what a wrong one was meant to be."""

from __future__ import annotations

import difflib
import json
import re
import types
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from vae_models.open_union import OpenUnion
from vae_models.strict import SCALARS

Models = tuple[type[BaseModel], ...]
_LONGEST_NAME = 200  # characters


@dataclass(frozen=True, kw_only=True)
class SpecField:
    """One line of the reference. `when` says which `kind` the field belongs to, None when it is always there."""

    path: str
    type: str
    default: str
    description: str
    when: str | None = None


def models_in(annotation: Any, *, items: bool = False) -> Models:
    """Return the models that a type may hold: one, several (a union by `kind`), or none (a plain value).

    items: those in its list or mapping, where it is one.
    """
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return (annotation,)
    if _is_union(annotation):
        return tuple(model for part in get_args(annotation) for model in models_in(part, items=items))
    if get_origin(annotation) is Annotated:
        return _open(annotation.__metadata__) or models_in(get_args(annotation)[0], items=items)
    inner = items_of(annotation) if items else None
    return () if inner is None else models_in(inner, items=items)


def models_of(field: FieldInfo, *, items: bool = False) -> Models:
    """Return the models that a field may hold: see `models_in`. Of parts every one, those of installed packages
    included."""
    return (_open(field.metadata) if field.metadata else ()) or models_in(field.annotation, items=items)


def _open(metadata: Iterable[Any]) -> Models:
    return next((each.models() for each in metadata if isinstance(each, OpenUnion)), ())


def items_of(annotation: Any) -> Any:
    """Return what a list or a mapping holds; None where the field is neither."""
    origin, inner = get_origin(annotation), get_args(annotation)
    if origin is tuple:
        return inner[0]
    return inner[1] if isinstance(origin, type) and issubclass(origin, Mapping) else None


@lru_cache(maxsize=1000)
def kind_of(model: type[BaseModel]) -> str | None:
    field = model.model_fields.get("kind")
    return str(get_args(field.annotation)[0]) if field is not None else None


def select(models: Models, value: Mapping[str, Any]) -> type[BaseModel] | None:
    """Return the model that `value` is meant for; None when its kind is missing or unknown."""
    if len(models) == 1:
        return models[0]
    return next((model for model in models if kind_of(model) == value.get("kind")), None)


def accepts(annotation: Any, plain: type | None) -> bool:
    """Return whether a field's type names `plain` (None for null) as it is or in a union."""
    if _is_union(annotation):
        return any(accepts(part, plain) for part in get_args(annotation))
    return annotation is (type(None) if plain is None else plain)


def field_at(model: type[BaseModel], path: Sequence[str], value: Any) -> FieldInfo | None:
    """Return the field at `path`, unions by the kinds in `value` and else by the first kind that has the name."""
    models: Models = (model,)
    field: FieldInfo | None = None
    for name in path:
        chosen = select(models, value) if isinstance(value, Mapping) else None
        holders = (chosen, *models) if chosen is not None else models
        field = next((m.model_fields[name] for m in holders if name in m.model_fields), None)
        if field is None:
            return None
        models = models_of(field)
        value = value.get(name) if isinstance(value, Mapping) else None
    return field


def with_kinds(model: type[BaseModel], value: Mapping[str, Any]) -> dict[str, Any]:
    """Return `value` with the default's `kind` where a union was given none, so that `beta: {value: 2}` is enough."""
    result = dict(value)
    fields = model.model_fields
    for name, part in value.items():
        if type(part) in SCALARS or not isinstance(part, Mapping):
            continue
        field = fields.get(name)
        if field is None or not (models := models_of(field)):
            continue
        if len(models) > 1 and "kind" not in part and isinstance(field.default, BaseModel):
            part = {"kind": kind_of(type(field.default)), **part}
        chosen = select(models, part)
        result[name] = with_kinds(chosen, part) if chosen is not None else part
    return result


def truths_for_numbers(model: type[BaseModel], value: Mapping[str, Any], at: str = "") -> Iterator[str]:
    """Yield paths where true or false stands for a number: pydantic would quietly take them for 1 and 0."""
    for name, field in model.model_fields.items():
        part = value.get(name)
        if isinstance(part, bool):
            annotation = field.annotation
            if not accepts(annotation, bool) and (accepts(annotation, int) or accepts(annotation, float)):
                yield f"{at}{name}"
        elif type(part) not in SCALARS and isinstance(part, Mapping):
            chosen = select(models_of(field), part)
            if chosen is not None:
                yield from truths_for_numbers(chosen, part, f"{at}{name}.")


def list_fields(
    model: type[BaseModel], at: str = "", when: str | None = None, *, ours: bool = False
) -> Iterator[SpecField]:
    """Yield every field below `model`, in the order of the code, each alternative of a union after its `kind`.

    ours: without the parts of other packages
    """
    for name, field in model.model_fields.items():
        path, models = f"{at}{name}", models_in(field.annotation) if ours else models_of(field)
        whole = len(models) == 1 and getattr(models[0], "whole", False)
        if not models or whole:
            yield SpecField(
                path=path,
                type="a mapping" if whole else _names(field) or type_text(field.annotation),
                default="of the set" if whole else _default_text(field),
                description=field.description or "",
                when=when,
            )
        elif len(models) == 1:
            yield from list_fields(models[0], f"{path}.", when, ours=ours)
        else:
            yield from _alternatives(path, field, models, when, ours)


def _names(field: FieldInfo) -> str:
    """Return the names that a text is mostly one of, as its JSON schema has them: `digits | mnist | ...`."""
    schema: dict[str, Any] = {}
    if callable(field.json_schema_extra):
        field.json_schema_extra(schema)
    return " | ".join([*schema["examples"], "..."]) if "examples" in schema else ""


def _alternatives(path: str, field: FieldInfo, models: Models, when: str | None, ours: bool) -> Iterator[SpecField]:
    kinds = [str(kind_of(model)) for model in models]
    default = str(kind_of(type(field.default))) if isinstance(field.default, BaseModel) else "required"
    yield SpecField(path=f"{path}.kind", type=" | ".join(kinds), default=default, description="", when=when)
    for kind, model in zip(kinds, models, strict=True):
        inner = f"{path}.kind = {kind}"
        for line in list_fields(model, f"{path}.", inner if when is None else f"{when}, {inner}", ours=ours):
            if line.path != f"{path}.kind":
                yield line


def type_text(annotation: Any) -> str:
    """Return the type as a person reads it: `int`, `float | none`, `adam | sgd`, `[int, ...]`."""
    if annotation is type(None):
        return "none"
    if annotation is bool:
        return "true | false"
    if _is_union(annotation):
        return " | ".join(type_text(part) for part in get_args(annotation))
    origin, inner = get_origin(annotation), get_args(annotation)
    if origin is Literal:
        return " | ".join(str(value) for value in inner)
    if origin is tuple:
        parts = ["..." if part is Ellipsis else type_text(part) for part in inner]
        return f"[{', '.join(parts)}]"
    if hasattr(annotation, "__metadata__"):  # Annotated, inside a tuple
        return type_text(inner[0])
    return getattr(annotation, "__name__", str(annotation))


def nearest(name: str, names: Sequence[str]) -> str | None:
    """Return the likeliest name that was meant: by its last component, when one name with it is shorter than all others
    that have it, else by spelling."""
    if len(name) > _LONGEST_NAME:  # nobody's slip, and comparing costs its square
        return None
    tails = [known for known in dict.fromkeys(names) if known.rpartition(".")[2] == name and known != name]
    shortest = [tail for tail in tails if tail.count(".") == min(each.count(".") for each in tails)]
    if len(shortest) == 1:
        return shortest[0]
    close = difflib.get_close_matches(name, names, n=1, cutoff=0.6)
    if close:
        return close[0]
    initials = "".join(word[:1] for word in re.split(r"[_.-]", name))
    return initials if len(initials) > 1 and initials in names else None  # learning_rate -> lr


def show(value: Any) -> str:
    """Return a value as it would be written, shortened."""
    try:
        text = value if isinstance(value, str) and value else json.dumps(value, ensure_ascii=False, default=str)
    except (TypeError, ValueError):
        text = repr(value)
    return shortened(text, 80)


def shortened(text: str, most: int) -> str:
    """Return at most so many characters of it."""
    return text if len(text) <= most else f"{text[: most - 3]}..."


def _default_text(field: FieldInfo) -> str:
    if field.is_required():
        return "required"
    value = field.get_default(call_default_factory=True, validated_data={})
    return "none" if value is None else show(list(value) if isinstance(value, tuple) else value)


def _is_union(annotation: Any) -> bool:
    return get_origin(annotation) in (Union, types.UnionType)
