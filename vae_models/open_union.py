"""A field that takes any part of a seam, also those that came after its class was made or are foreign here.

pydantic builds a union when the class that has it is made. A package may come onto the path later: its parts are looked
up when they are written. And the service's own processes import no user's code: there, inside of `foreign_allowed`, a
part of an unknown kind is kept as the data that it is, so that whatever else a specification says can still be checked.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, Protocol

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    GetCoreSchemaHandler,
    GetJsonSchemaHandler,
    SerializerFunctionWrapHandler,
)
from pydantic_core import PydanticKnownError, core_schema

from vae_models.strict import SCALARS

_allowed: ContextVar[bool] = ContextVar("foreign parts are allowed", default=False)


class Foreign(BaseModel):
    """A part of a kind that is not known in this process: data, of which nothing is asked but its kind."""

    model_config = ConfigDict(frozen=True, extra="allow")

    kind: str = Field(min_length=1, max_length=100)


@contextmanager
def foreign_allowed(allowed: bool = True) -> Iterator[None]:
    """Read parts of unknown kinds as `Foreign` inside; in this thread, or this task, alone."""
    before = _allowed.set(allowed)
    try:
        yield
    finally:
        _allowed.reset(before)


def is_foreign_allowed() -> bool:
    """Return whether a part of unknown kind may belong to a job's own code, which is not installed here."""
    return _allowed.get()


def has_foreign(value: Any) -> bool:
    """Return whether some part is foreign: whether the parts go together can then not be checked here."""
    if isinstance(value, Foreign):
        return True
    for each in _inner(value):  # noqa: SIM110 - any() with a generator takes twice as long, at each submit
        if type(each) not in SCALARS and has_foreign(each):
            return True
    return False


def has_others(value: Any) -> bool:
    """Return whether some part is not this package's own: foreign, or an installed package's."""
    if isinstance(value, BaseModel) and (
        isinstance(value, Foreign) or type(value).__module__.partition(".")[0] != __name__.partition(".")[0]
    ):
        return True
    return any(has_others(each) for each in _inner(value) if type(each) not in SCALARS)


def _inner(value: Any) -> Iterable[Any]:
    """Return what is in the fields of a specification, in a mapping or in a list; nothing of anything else."""
    if isinstance(value, (tuple, list)):
        return value
    if isinstance(value, BaseModel):
        return value.__dict__.values()
    return value.values() if isinstance(value, (dict, Mapping)) else ()


class Parts(Protocol):
    """Where an open union looks for parts: a seam of `vae_models.parts`."""

    def find(self, kind: str) -> type[BaseModel] | None:
        """Return the class of this kind, None where there is none."""
        ...

    def all(self) -> Mapping[str, type[BaseModel]]:
        """Return every class by its kind."""
        ...

    def broken_entry(self, kind: str) -> Any:
        """Return the entry of this kind that could not be loaded, whose text says why; None if there is none."""
        ...


class OpenUnion:
    """Metadata of a union of specifications that are discriminated by `kind`.

    known: the classes in the union; parts: where those of other kinds are found; meant: the kind of what is written
    without one, None where one has to be written
    """

    def __init__(self, known: tuple[type[BaseModel], ...], parts: Parts, meant: str | None = None) -> None:
        self._known = known
        self._meant = meant
        self._kinds = frozenset(part.model_fields["kind"].default for part in known)
        self._parts = parts
        self._seen: Mapping[str, type[BaseModel]] | None = None  # of which `_models` was made
        self._models = known

    def models(self) -> tuple[type[BaseModel], ...]:
        """Return every class that the field takes, those registered later included."""
        parts = self._parts.all()
        if parts is not self._seen:
            self._models = (*self._known, *self._others().values())
            self._seen = parts
        return self._models

    def _others(self) -> dict[str, type[BaseModel]]:
        return {kind: part for kind, part in self._parts.all().items() if kind not in self._kinds}

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> core_schema.CoreSchema:
        union = handler(source)
        return core_schema.with_info_wrap_validator_function(
            self._validate,
            union,
            serialization=core_schema.wrap_serializer_function_ser_schema(self._dump, info_arg=True, schema=union),
        )

    def __get_pydantic_json_schema__(
        self, schema: core_schema.CoreSchema, handler: GetJsonSchemaHandler
    ) -> dict[str, Any]:
        """Return the schema of every class that the field takes: the union's own and those registered later."""
        known = handler(schema)
        others = [handler(part.__pydantic_core_schema__) for part in self._others().values()]
        if not others:
            return known
        return {**known, "oneOf": [*known["oneOf"], *others]} if "oneOf" in known else {"oneOf": [known, *others]}

    def _validate(
        self, value: Any, known: core_schema.ValidatorFunctionWrapHandler, info: core_schema.ValidationInfo
    ) -> Any:
        is_mapping = isinstance(value, (dict, Mapping))
        if self._meant is not None and is_mapping and "kind" not in value:
            value = {"kind": self._meant, **value}
        kind = value.get("kind") if is_mapping else getattr(value, "kind", None)
        if not isinstance(kind, str) or (kind in self._kinds and not isinstance(value, Foreign)):
            return known(value)
        if (spec := self._parts.find(kind)) is not None:
            plain = value.model_dump(mode="json") if isinstance(value, Foreign) else value
            return spec.model_validate(plain, context=info.context)
        if _allowed.get():
            return Foreign.model_validate(value)
        if (broken := self._parts.broken_entry(kind)) is not None:
            raise ValueError(f"the kind {kind!r} could not be loaded: {broken}")
        kinds = ", ".join(repr(each) for each in self._parts.all())
        context = {"discriminator": "'kind'", "tag": kind, "expected_tags": kinds}
        raise PydanticKnownError("union_tag_invalid", context)

    def _dump(self, value: Any, known: SerializerFunctionWrapHandler, info: core_schema.SerializationInfo) -> Any:
        if isinstance(value, self._known) or not isinstance(value, BaseModel):
            return known(value)
        return value.model_dump(
            mode=info.mode,
            by_alias=info.by_alias,
            exclude_unset=info.exclude_unset,
            exclude_defaults=info.exclude_defaults,
            exclude_none=info.exclude_none,
            context=info.context,
        )
