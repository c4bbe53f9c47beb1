"""What differs between models, and which is the best of those whose values may be compared. Pure."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from service.report.records import Reported
from service.tracking.describe import flatten

if TYPE_CHECKING:
    from vae_models.evaluation.findings import Value

OF_Z = "latent_log_density"  # values with it in their name are of each model's own z: they compare its samplers
ERRORS_APART = 2.0  # standard errors of a difference: closer values are not told apart


@dataclass(frozen=True, kw_only=True)
class Setting:
    """One field of the specifications. texts: of each model; None where it has no such field."""

    path: str
    texts: tuple[str | None, ...]

    @property
    def differs(self) -> bool:
        return len(set(self.texts)) > 1


@dataclass(frozen=True, kw_only=True)
class Row:
    """One quantity. values: of each model, None where it has none.

    best:  the models whose value is the best of those of the same data and as many; none where neither way is better
    close: those whose value is less than two standard errors of the difference from the best one
    why:   why not all of them are compared with each other
    """

    name: str
    unit: str
    mode: str | None
    values: tuple[Value | None, ...]
    best: frozenset[int] = frozenset()
    close: frozenset[int] = frozenset()
    why: str = ""


@dataclass(frozen=True, kw_only=True)
class Group:
    """Rows of one split and one measure. measure: "density", "mass of 256 levels"; "" of no log-likelihoods."""

    split: str
    measure: str
    rows: tuple[Row, ...]

    @property
    def places(self) -> tuple[int, ...]:
        """Return the models that have a value here."""
        every = range(len(self.rows[0].values))
        return tuple(place for place in every if any(row.values[place] is not None for row in self.rows))


def settings(models: Sequence[Reported]) -> tuple[Setting, ...]:
    """Return every field of the specifications, in their order."""
    flat = [dict(flatten(model.spec)) for model in models]
    paths = dict.fromkeys(path for each in flat for path in each)
    return tuple(Setting(path=path, texts=tuple(each.get(path) for each in flat)) for path in paths)


def groups(models: Sequence[Reported]) -> tuple[Group, ...]:
    """Return all values. A density and a mass of the same name are in groups of their own."""
    columns = [_values(model) for model in models]
    keys = dict.fromkeys(key for each in columns for key in each)
    rows: dict[tuple[str, str], list[Row]] = {}
    for split, measure, name, unit in keys:
        values = tuple(each.get((split, measure, name, unit)) for each in columns)
        rows.setdefault((split, measure), []).append(_row(name, unit, values, models))
    ordered = sorted(rows, key=lambda key: (key[0], key[1] == "", key[1]))
    return tuple(Group(split=split, measure=measure, rows=tuple(rows[split, measure])) for split, measure in ordered)


def _values(model: Reported) -> Mapping[tuple[str, str, str, str], Value]:
    return {
        (evaluated.split, _measure(value), value.name, value.unit): value
        for evaluated in model.evaluated
        for value in evaluated.findings.values
    }


def _measure(value: Value) -> str:
    if value.measure is None:
        return ""
    return value.measure if value.levels is None else f"{value.measure} of {value.levels} levels"


def _row(name: str, unit: str, values: tuple[Value | None, ...], models: Sequence[Reported]) -> Row:
    there = {place: value for place, value in enumerate(values) if value is not None}
    mode = next(iter(there.values())).mode
    if OF_Z in name:
        return Row(name=name, unit=unit, mode=mode, values=values, why="of each model's own z: not compared")
    alike: dict[tuple[str, int], dict[int, Value]] = {}
    for place, value in there.items():
        alike.setdefault((models[place].data, value.count), {})[place] = value
    marks = [_marked(each, mode) for each in alike.values() if mode is not None and len(each) > 1]
    return Row(
        name=name, unit=unit, mode=mode, values=values,
        best=frozenset().union(*(best for best, _ in marks)),
        close=frozenset().union(*(close for _, close in marks)),
        why=_why([*alike]) if mode is not None and len(alike) > 1 else "",
    )  # fmt: skip


def _marked(values: Mapping[int, Value], mode: str) -> tuple[frozenset[int], frozenset[int]]:
    """Return the models with the best value, and those whose value is close to it."""
    best = (max if mode == "max" else min)(value.value for value in values.values())
    winners = frozenset(place for place, value in values.items() if value.value == best)
    close = frozenset(
        place for place, value in values.items()
        if place not in winners and any(_are_close(value, values[winner]) for winner in winners)
    )  # fmt: skip
    return winners, close


def _why(alike: Sequence[tuple[str, int]]) -> str:
    """Return why not all values of a row are compared with each other."""
    if len({data for data, _ in alike}) > 1:
        return "compared within the same data alone"
    return f"of {' and '.join(f'{count:,}' for count in sorted(count for _, count in alike))} data: not compared"


def _are_close(value: Value, best: Value) -> bool:
    if value.error is None or best.error is None:
        return False
    return abs(value.value - best.value) < ERRORS_APART * math.hypot(value.error, best.error)


def scales(models: Sequence[Reported]) -> Mapping[str, tuple[int, ...]]:
    """Return the models by data and measure: exactly within one their nats may be compared."""
    by_scale: dict[str, list[int]] = {}
    for place, model in enumerate(models):
        by_scale.setdefault(model.scale, []).append(place)
    return {scale: tuple(places) for scale, places in by_scale.items()}


def letters(count: int) -> tuple[str, ...]:
    """Return A, B, ..., Z, AA, AB, ...: what the models are called within the page."""
    return tuple(_letter(place) for place in range(count))


def _letter(place: int) -> str:
    return (_letter(place // 26 - 1) if place >= 26 else "") + chr(ord("A") + place % 26)


def noise(models: Sequence[Reported]) -> Iterator[str]:
    """Yield why samples of the models, drawn while they were evaluated, are not from the same noise."""
    seeds = {str(each.plan.get("seed", 0)) for model in models for each in model.evaluated}
    if len(seeds) > 1:
        yield f"the evaluations have the seeds {', '.join(sorted(seeds))}"
    latents = {model.latents for model in models}
    if len(latents) > 1:
        yield f"the latents differ: {'; '.join(sorted(str(each) for each in latents))}"
