"""What to try: dotted paths of a `TrainConfig`, each with its values or its distribution."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Mapping
from hashlib import blake2b
from typing import Annotated, Any, Literal

from pydantic import Discriminator, Field, ValidationError, model_validator

from vae_models.config import TrainConfig, bounds
from vae_models.config.base import Strict
from vae_models.measures import following

_SHOWN = 10  # paths, or mistakes, that an error names
Assignment = Mapping[str, Any]  # path -> value, as JSON

LIMIT = 10_000  # trials of a study, and so the values of a path: more is a mistake in the space


class InvalidAssignment(ValueError):  # noqa: N818 - says what is the case
    """A path that the configuration does not have, or a value that it does not take; one line for each mistake."""


class Values(Strict):
    """Each of these; in a file a plain list is enough. A value may be a mapping, for example a whole `beta`."""

    kind: Literal["values"] = "values"
    values: tuple[Any, ...] = Field(min_length=1, max_length=LIMIT)

    def count(self) -> int:
        """Of `points_of`, without making them."""
        return len(self.values)

    def points_of(self) -> tuple[Any, ...]:
        return self.values

    def at(self, uniform: float) -> Any:
        return self.values[min(int(uniform * len(self.values)), len(self.values) - 1)]

    def near(self, value: Any, *, up: bool) -> Any:
        """The next value of the list, or the one before."""
        place = self.values.index(value) + (1 if up else -1)
        return self.values[min(max(place, 0), len(self.values) - 1)]


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
        """Of `points_of`, without making them."""
        if self.points is None:
            raise ValueError("a grid needs `points` of an interval; or search at random")
        return self.points

    def points_of(self) -> tuple[float, ...]:
        if self.points is None:
            raise ValueError("a grid needs `points` of an interval; or search at random")
        # 12 digits: 1.0 in the middle of 0.1 and 10, not 1.0000000000000004
        inner = tuple(float(f"{self.at(i / (self.points - 1)):.12g}") for i in range(1, self.points - 1))
        return (self.low, *inner, self.high)

    def at(self, uniform: float) -> float:
        raise NotImplementedError

    def near(self, value: float, *, up: bool) -> float:
        """A fifth more, or less; not out of the interval."""
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


Domain = Annotated[Values | Uniform | LogUniform, Discriminator("kind")]
Path = Annotated[str, Field(max_length=bounds.TEXT)]
Space = Mapping[Path, Domain]


def counts(space: Space) -> dict[str, int]:
    """path -> values of a grid's, none of them made. ValueError names the path of an interval without points."""
    found = {}
    for path, domain in space.items():
        try:
            found[path] = domain.count()
        except ValueError as error:
            raise ValueError(f"{path}: {error}") from None
    return found


def grid(space: Space) -> Iterator[dict[str, Any]]:
    """Every combination, the last path changing fastest. ValueError names the path of an interval without points."""
    columns = []
    for path, domain in space.items():
        try:
            columns.append([(path, value) for value in domain.points_of()])
        except ValueError as error:
            raise ValueError(f"{path}: {error}") from None
    return (dict(row) for row in itertools.product(*columns))


def sample(space: Space, number: int, seed: int) -> dict[str, Any]:
    """The assignment of trial `number`: a function of (seed, number, path), so more trials never change the first."""
    return {path: domain.at(uniform(seed, number, path)) for path, domain in space.items()}


def uniform(seed: int, number: int, path: str) -> float:
    """In [0, 1), a function of all three."""
    import numpy as np  # a tenth of a second, and most who read a space draw nothing

    digest = blake2b(f"{seed}/{number}/{path}".encode(), digest_size=16).digest()
    key = np.frombuffer(digest, dtype=np.uint64)
    return float(np.random.Generator(np.random.Philox(key=key)).random())


def with_values(config: TrainConfig, assignment: Assignment) -> TrainConfig:
    """`config` with every path set. A mapping of another `kind` replaces what was there, of the same kind it is merged.

    Setting `steps` clears `epochs` and the other way round. InvalidAssignment says which path or value is wrong.
    """
    plain = config.model_dump(mode="json")
    if "checkpoint.metric" in assignment and "checkpoint.mode" not in assignment:
        plain["checkpoint"] = following(plain["checkpoint"], {"metric": assignment["checkpoint.metric"]})
    for path, value in assignment.items():
        _put(plain, path, value)
        for budget, other in (("steps", "epochs"), ("epochs", "steps")):
            if path == budget and other not in assignment:
                plain[other] = None
    try:
        return TrainConfig.model_validate(plain)
    except ValidationError as error:
        lines = [_line(detail, assignment) for detail in error.errors()[:_SHOWN]]
        raise InvalidAssignment("\n".join(lines)) from None


def _put(plain: dict[str, Any], path: str, value: Any) -> None:
    at: Any = plain
    *parents, last = path.split(".")
    for depth, name in enumerate(parents):
        if not isinstance(at, dict) or name not in at:
            raise InvalidAssignment(f"{path}: there is no {'.'.join(parents[: depth + 1])}{_names(at)}")
        at = at[name]
    if not isinstance(at, dict) or last not in at:
        raise InvalidAssignment(f"{path}: there is no such field{_names(at)}")
    before = at[last]
    if (
        isinstance(value, Mapping)
        and isinstance(before, dict)
        and value.get("kind", before.get("kind")) == before.get("kind")
    ):
        at[last] = (following(before, value) if path == "checkpoint" else before) | dict(value)
    else:
        at[last] = dict(value) if isinstance(value, Mapping) else value


def _names(at: Any) -> str:
    return f"; there are: {', '.join(at)}" if isinstance(at, dict) else ""


def _line(detail: Any, assignment: Assignment) -> str:
    where = ".".join(str(part) for part in detail["loc"])
    message = str(detail["msg"]).removeprefix("Value error, ").removeprefix("Input ")
    tried = [f"{path}={_short(value)}" for path, value in assignment.items()]
    more = ", ..." if len(tried) > _SHOWN else ""
    return f"{_short(where) or 'together'}: {message} (tried: {', '.join(tried[:_SHOWN])}{more})"


def _short(value: Any) -> str:
    text = value if isinstance(value, str) else repr(value)
    return text if len(text) <= 80 else f"{text[:77]}..."
