"""What every specification shares: the class that refuses what it does not know."""

from __future__ import annotations

import types
from collections.abc import Iterator, Sequence
from functools import cache
from itertools import pairwise
from typing import Annotated, Any, ClassVar, Union, get_args, get_origin

from pydantic import BaseModel, ConfigDict, ValidationError, model_validator
from pydantic_core import InitErrorDetails, PydanticCustomError

DataShape = tuple[int, ...]  # of a datum, without the number of data


class Strict(BaseModel):
    """Frozen; unknown fields, non-finite numbers, and truths and texts for numbers are refused.

    fusible: the fields whose numbers may differ between lanes that are trained as one stack. The part that is built
             holds them as tensors (`numbers.Number`), or has them for where its training starts alone
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    fusible: ClassVar[tuple[str, ...]] = ()

    def against_lanes(self) -> str | None:
        """Return why a configuration with this part is not fused with others; None: nothing is against it."""
        return None

    def against_micro_batch(self) -> str | None:
        """Return why the loss of a batch is not the mean of those of its parts: what couples the data of a batch;
        None: it is.
        """
        return None

    def against_compile(self) -> str | None:
        """Return why the step of a configuration with this part is not compiled; None: nothing is against it."""
        return None

    def against_bf16(self) -> str | None:
        """Return why a configuration with this part is not trained at precision bf16; None: nothing is against it."""
        return None

    @model_validator(mode="before")
    @classmethod
    def _numbers_are_numbers(cls, given: Any) -> Any:
        """Refuse true and "1" for the number 1, which pydantic would accept: two runs would be one."""
        if not isinstance(given, dict):
            return given
        wrong: list[InitErrorDetails] = []
        for name, allowed, of_each in _numeric(cls):
            if type(given.get(name)) in _OTHERS and (why := _no_number(given[name], allowed, of_each)) is not None:
                kind = PydanticCustomError("no_number", "{why}", {"why": why})
                wrong.append({"type": kind, "loc": (name,), "input": given[name]})
        if wrong:
            raise ValidationError.from_exception_data(cls.__name__, wrong)
        return given


def parts_within(value: Any) -> Iterator[Strict]:
    """Yield a specification and all that are in its fields."""
    if isinstance(value, Strict):
        yield value
    for _, field in value:
        for each in field if isinstance(field, tuple) else (field,):
            if isinstance(each, BaseModel):
                yield from parts_within(each)


_OTHERS = frozenset({bool, str, list, tuple})
SCALARS = frozenset({str, int, float, bool, type(None)})  # the leaves of data, most of them: told apart at once


@cache
def _numeric(model: type[BaseModel]) -> tuple[tuple[str, frozenset[Any], frozenset[Any]], ...]:
    """Return (name, types, types of a list's items) of the fields that hold numbers, or lists of them."""
    fields = ((name, field.annotation) for name, field in model.model_fields.items())
    return tuple(
        (name, plain_types(annotation), plain_types(_of_each(annotation)))
        for name, annotation in fields
        if plain_types(annotation) & {int, float} or _of_each(annotation) is not object
    )


def _no_number(given: Any, allowed: frozenset[Any], of_each: frozenset[Any] = frozenset()) -> str | None:
    """Return why `given` is no number for a field of these types, or a list of `of_each`; None where it is, or another
    validation reports more."""
    if isinstance(given, list | tuple):
        reasons = (_no_number(part, of_each) for part in given if isinstance(part, bool | str))
        return next((why for why in reasons if why is not None), None)
    if not allowed & {int, float} or type(given) in allowed:
        return None
    if isinstance(given, bool):
        return "true and false are not numbers"
    try:
        float(given)
    except ValueError:
        return None
    return f"{given!r} is text: write the number without quotes"


def dense_weights(widths: Sequence[int]) -> int:
    """Return the number of weights and biases of linear layers between each two of `widths`."""
    return sum((before + 1) * after for before, after in pairwise(widths))


def plain_types(annotation: Any) -> frozenset[Any]:
    """Return the types of a field that are neither models nor lists:
    {int, NoneType} of `Annotated[int, ...] | None`.
    """
    return frozenset(plain for plain in _alternatives(annotation) if isinstance(plain, type))


def _of_each(annotation: Any) -> Any:
    """Return the type of a list's items; `object`, which is no number, for any other type."""
    inner = [get_args(inner_type)[0] for inner_type in _alternatives(annotation) if get_origin(inner_type) is tuple]
    return inner[0] if inner else object


def _alternatives(annotation: Any) -> Iterator[Any]:
    """Yield the members of a union, without their annotations."""
    if get_origin(annotation) is Annotated:
        yield from _alternatives(get_args(annotation)[0])
    elif get_origin(annotation) in (Union, types.UnionType):
        for part in get_args(annotation):
            yield from _alternatives(part)
    else:
        yield annotation
