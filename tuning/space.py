"""What to try: dotted paths of a `TrainConfig`, each with its values or its distribution."""

from __future__ import annotations

import difflib
import itertools
import math
from collections.abc import Iterable, Iterator, Mapping
from hashlib import blake2b
from typing import Annotated, Any, Literal

from pydantic import BaseModel, Discriminator, Field, ValidationError, ValidationInfo, field_validator, model_validator

from vae_models import bounds
from vae_models.config.train import TrainConfig
from vae_models.data.config import renamed
from vae_models.measures import following, is_stored
from vae_models.strict import Strict, plain_types

_SHOWN = 10  # paths, or mistakes, that an error names
Assignment = Mapping[str, Any]  # path -> value, as JSON

LIMIT = 10_000  # trials of a study, and so the values of a path: more is a mistake in the space


_NO_POINTS = "a grid needs `points` of an interval; or search at random; kind int-uniform has every whole number"


class InvalidAssignment(ValueError):  # noqa: N818 - says what is the case
    """A path that the configuration does not have, or a value that it does not take; one line for each mistake."""


class Values(Strict):
    """Each of these; in a file a plain list is enough. A value may be a mapping, for example a whole `beta`.

    Equal ones, such as 1 and 1.0, are one: the same run is not trained twice.
    """

    kind: Literal["values"] = "values"
    values: tuple[Any, ...] = Field(min_length=1, max_length=LIMIT)

    @field_validator("values")
    @classmethod
    def _each_once(cls, values: tuple[Any, ...], info: ValidationInfo) -> tuple[Any, ...]:
        return values if is_stored(info) else once(values)  # a stored study's trials are numbered as they were

    def count(self) -> int:
        """Return the number of `points_of`, without making them."""
        return len(self.values)

    def points_of(self) -> tuple[Any, ...]:
        return self.values

    def at(self, uniform: float) -> Any:
        return self.values[min(int(uniform * len(self.values)), len(self.values) - 1)]

    def near(self, value: Any, *, up: bool) -> Any:
        """Return the next value of the list, or the one before."""
        place = self.values.index(value) + (1 if up else -1)
        return self.values[min(max(place, 0), len(self.values) - 1)]


def once(values: Iterable[Any]) -> tuple[Any, ...]:
    """Return the distinct ones of `values`, in their order: 1 and 1.0 are the same number, and true is not 1."""
    return tuple({_identity(value): value for value in reversed(list(values))}.values())[::-1]


def _identity(value: Any) -> Any:
    """Return a key that is equal for two values that make the same run."""
    if isinstance(value, Mapping):
        return frozenset((name, _identity(part)) for name, part in value.items())
    if isinstance(value, list | tuple):
        return tuple(_identity(part) for part in value)
    return (isinstance(value, bool), value)


class _Interval(Strict):
    low: float = Field(ge=-bounds.REAL, le=bounds.REAL)
    high: float = Field(ge=-bounds.REAL, le=bounds.REAL)
    points: int | None = Field(
        default=None, ge=2, le=LIMIT, description="for a grid: evenly spaced, both ends included"
    )

    @model_validator(mode="after")
    def _ordered(self) -> _Interval:
        if not self.low < self.high:
            raise ValueError(f"low must be below high, got {self.low} and {self.high}")
        return self

    def count(self) -> int:
        """Return the number of `points_of`, without making them."""
        if self.points is None:
            raise ValueError(_NO_POINTS)
        return self.points

    def points_of(self) -> tuple[float, ...]:
        if self.points is None:
            raise ValueError(_NO_POINTS)
        # 12 digits: 1.0 in the middle of 0.1 and 10, not 1.0000000000000004
        inner = tuple(float(f"{self.at(i / (self.points - 1)):.12g}") for i in range(1, self.points - 1))
        return (self.low, *inner, self.high)

    def at(self, uniform: float) -> float:
        raise NotImplementedError

    def near(self, value: float, *, up: bool) -> float:
        """Return the value a fifth larger, or smaller, clipped to the interval."""
        return min(max(value * (1.2 if up else 0.8), self.low), self.high)


class Uniform(_Interval):
    """x ~ U(low, high)."""

    kind: Literal["uniform"] = "uniform"

    def at(self, uniform: float) -> float:
        return self.low + (self.high - self.low) * uniform


class LogUniform(_Interval):
    """ln x ~ U(ln low, ln high)."""

    kind: Literal["log-uniform"] = "log-uniform"
    low: float = Field(gt=0, le=bounds.REAL)

    def at(self, uniform: float) -> float:
        return float(math.exp(math.log(self.low) + (math.log(self.high) - math.log(self.low)) * uniform))


class _Integers(Strict):
    """Whole numbers from `low` to `high`, both included."""

    low: int = Field(ge=-bounds.SEED, le=bounds.SEED)
    high: int = Field(ge=-bounds.SEED, le=bounds.SEED)
    points: int | None = Field(
        default=None, ge=2, le=LIMIT, description="for a grid: evenly spaced, both ends included, each number once"
    )

    @model_validator(mode="after")
    def _ordered(self) -> _Integers:
        if not self.low < self.high:
            raise ValueError(f"low must be below high, got {self.low} and {self.high}")
        return self

    def count(self) -> int:
        """Return the number of `points_of`, without making more than `points`."""
        return len(self.points_of())

    def points_of(self) -> tuple[int, ...]:
        if self.points is None:
            raise ValueError(_NO_POINTS)
        places = (i / (self.points - 1) for i in range(self.points))
        return tuple(dict.fromkeys(round(self._between(place)) for place in places))

    def _between(self, place: float) -> float:
        """Return a real number: `low` at 0, `high` at 1, evenly spaced in the domain's own scale."""
        raise NotImplementedError

    def near(self, value: int, *, up: bool) -> int:
        """Return the value a fifth larger, or smaller, by one at least, clipped to the interval."""
        moved = max(value + 1, round(value * 1.2)) if up else min(value - 1, round(value * 0.8))
        return min(max(moved, self.low), self.high)


class IntUniform(_Integers):
    """Each of the whole numbers from low to high with the same probability; a grid without `points` has all of them."""

    kind: Literal["int-uniform"] = "int-uniform"

    def count(self) -> int:
        return self.high - self.low + 1 if self.points is None else super().count()

    def points_of(self) -> tuple[int, ...]:
        return tuple(range(self.low, self.high + 1)) if self.points is None else super().points_of()

    def _between(self, place: float) -> float:
        return self.low + (self.high - self.low) * place

    def at(self, uniform: float) -> int:
        return min(self.low + math.floor((self.high - self.low + 1) * uniform), self.high)


class IntLogUniform(_Integers):
    """The nearest whole number to x, ln x ~ U(ln(low - 1/2), ln(high + 1/2)): k about as likely as 1/k."""

    kind: Literal["int-log-uniform"] = "int-log-uniform"
    low: int = Field(ge=1, le=bounds.SEED)

    def _between(self, place: float) -> float:
        return math.exp(math.log(self.low) + (math.log(self.high) - math.log(self.low)) * place)

    def at(self, uniform: float) -> int:
        low, high = math.log(self.low - 0.5), math.log(self.high + 0.5)
        return min(max(round(math.exp(low + (high - low) * uniform)), self.low), self.high)


Domain = Annotated[Values | Uniform | LogUniform | IntUniform | IntLogUniform, Discriminator("kind")]
Path = Annotated[str, Field(max_length=bounds.TEXT)]
Space = Mapping[Path, Domain]


def counts(space: Space) -> dict[str, int]:
    """Return path -> number of a grid's values, none of them made.

    Raise ValueError that names the path of an interval without points.
    """
    counted = {}
    for path, domain in space.items():
        try:
            counted[path] = domain.count()
        except ValueError as error:
            raise ValueError(f"{path}: {error}") from None
    return counted


def grid(space: Space) -> Iterator[dict[str, Any]]:
    """Yield every combination, the last path changing fastest.

    Raise ValueError that names the path of an interval without points.
    """
    columns = []
    for path, domain in space.items():
        try:
            columns.append([(path, value) for value in domain.points_of()])
        except ValueError as error:
            raise ValueError(f"{path}: {error}") from None
    return (dict(row) for row in itertools.product(*columns))


def sample(space: Space, number: int, seed: int) -> dict[str, Any]:
    """Return the assignment of trial `number`:
    a function of (seed, number, path), so more trials never change the first.
    """
    return {path: domain.at(uniform(seed, number, path)) for path, domain in space.items()}


def uniform(seed: int, number: int, path: str) -> float:
    """Return a uniform number in [0, 1), a function of all three."""
    import numpy as np  # a tenth of a second, and most who read a space draw nothing

    digest = blake2b(f"{seed}/{number}/{path}".encode(), digest_size=16).digest()
    key = np.frombuffer(digest, dtype=np.uint64)
    return float(np.random.Generator(np.random.Philox(key=key)).random())


def refuse_reals(space: Space, config: TrainConfig) -> None:
    """Raise ValueError where a field of whole numbers has a domain of real ones, naming the domain to use."""
    for path, domain in space.items():
        if isinstance(domain, Uniform | LogUniform) and _takes_integers_only(config, path):
            raise ValueError(
                f"{path}: takes whole numbers, and {domain.kind} draws real ones: use kind int-{domain.kind}, or a list"
            )


def _takes_integers_only(config: TrainConfig, path: str) -> bool:
    at: Any = config
    *parents, last = path.split(".")
    for name in parents:
        at = getattr(at, name, None)
    field = type(at).model_fields.get(last) if isinstance(at, BaseModel) else None
    allowed = frozenset() if field is None else plain_types(field.annotation)
    return int in allowed and float not in allowed


def with_values(config: TrainConfig, assignment: Assignment) -> TrainConfig:
    """Return `config` with every path set.

    A mapping of another `kind` replaces the old one; one of the same kind is merged with it. A path that ends in `kind`
    starts from that kind's defaults. Setting `steps` clears `epochs` and the other way round. Raise InvalidAssignment
    that says which path or value is wrong.
    """
    plain = config.model_dump(mode="json")
    if "checkpoint.metric" in assignment and "checkpoint.mode" not in assignment:
        plain["checkpoint"] = following(plain["checkpoint"], {"metric": assignment["checkpoint.metric"]})
    if "data.name" in assignment:
        plain["data"] = renamed(plain["data"], {"name": assignment["data.name"]})
    kinds_first = sorted(assignment.items(), key=lambda item: (not _is_kind(item[0]), item[0].count(".")))
    fresh: set[str] = set()  # parts that start from the defaults of another kind
    for path, value in kinds_first:
        _put(plain, path, value, fresh)
        for budget, other in (("steps", "epochs"), ("epochs", "steps")):
            if path == budget and other not in assignment:
                plain[other] = None
    try:
        return TrainConfig.model_validate(plain)
    except ValidationError as error:
        lines = [_line(detail, assignment, plain) for detail in error.errors()[:_SHOWN]]
        raise InvalidAssignment("\n".join([*lines, *_hints(assignment)])) from None


def _is_kind(path: str) -> bool:
    return path.rpartition(".")[2] == "kind"


def _hints(assignment: Assignment) -> Iterator[str]:
    """Yield a hint where a part's kind is varied beside its fields: only some of the kinds have them."""
    for path in assignment:
        part = path.removesuffix(".kind")
        others = [other for other in assignment if other != path and other.startswith(f"{part}.")]
        if _is_kind(path) and others:
            field = others[0].removeprefix(f"{part}.")
            yield (
                f"{path} is varied together with {', '.join(others)}, which not every kind has: vary whole mappings, "
                f"{part}: [{{kind: ...}}, {{kind: ..., {field}: ...}}]"
            )


def _put(plain: dict[str, Any], path: str, value: Any, fresh: set[str]) -> None:
    at: Any = plain
    *parents, last = path.split(".")
    for depth, name in enumerate(parents):
        if not isinstance(at, dict) or name not in at:
            raise InvalidAssignment(f"{path}: there is no {'.'.join(parents[: depth + 1])}{_names(at, name)}")
        at = at[name]
    if _is_kind(path) and isinstance(at, dict) and at.get("kind") not in (None, value):
        at.clear()
        fresh.add(".".join(parents))
    elif not isinstance(at, dict) or (last not in at and ".".join(parents) not in fresh):
        raise InvalidAssignment(f"{path}: there is no such field{_names(at, last)}")
    before = at.get(last)
    if (
        isinstance(value, Mapping)
        and isinstance(before, dict)
        and value.get("kind", before.get("kind")) == before.get("kind")
    ):
        at[last] = FOLLOWING.get(path, _as_it_is)(before, value) | dict(value)
    else:
        at[last] = dict(value) if isinstance(value, Mapping) else value


def _as_it_is(before: Mapping[str, Any], change: Mapping[str, Any]) -> dict[str, Any]:
    return dict(before)


# what of a part goes when a mapping is put over it
FOLLOWING = {"checkpoint": following, "data": renamed}


def _names(at: Any, wrong: str) -> str:
    if not isinstance(at, dict):
        return ""
    near = difflib.get_close_matches(wrong, at, n=1)
    return f"; there are: {', '.join(at)}" + (f"; did you mean {near[0]}?" if near else "")


def _line(detail: Any, assignment: Assignment, plain: Mapping[str, Any]) -> str:
    path, kind = _place(detail["loc"], plain)
    message = str(detail["msg"]).removeprefix("Value error, ").removeprefix("Input ")
    if detail["type"] == "extra_forbidden":
        message = "there is no such field" + (f" where kind is {kind}" if kind else "")
    elif detail["type"] == "missing":
        message = "is missing" + (f" where kind is {kind}" if kind else "")
    tried = [f"{path}={_short(value)}" for path, value in assignment.items()]
    more = ", ..." if len(tried) > _SHOWN else ""
    return f"{_short(path) or 'together'}: {message} (tried: {', '.join(tried[:_SHOWN])}{more})"


def _place(loc: tuple[int | str, ...], plain: Mapping[str, Any]) -> tuple[str, str | None]:
    """Return the path of pydantic's location, without the kinds that it names on the way, and the last of those."""
    path: list[str] = []
    kind, at = None, dict(plain)
    for part in map(str, loc):
        if part not in at and part == at.get("kind"):
            kind = part
            continue
        path.append(part)
        inner = at.get(part)
        at = inner if isinstance(inner, dict) else {}
    return ".".join(path), kind


def _short(value: Any) -> str:
    text = value if isinstance(value, str) else repr(value)
    return text if len(text) <= 80 else f"{text[:77]}..."
