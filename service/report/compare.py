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

    best:  the models whose value is the best; none where neither way is better, or values may not be compared: `why`
    close: those whose value is less than two standard errors of the difference from the best one
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


def settings(models: Sequence[Reported]) -> tuple[Setting, ...]:
    """Return every field of the specifications, in their order."""
    flat = [dict(flatten(model.spec)) for model in models]
    paths = dict.fromkeys(path for each in flat for path in each)
    return tuple(Setting(path=path, texts=tuple(each.get(path) for each in flat)) for path in paths)


def groups(models: Sequence[Reported]) -> tuple[Group, ...]:
    """Return all values. A density and a mass of the same name are in groups of their own."""
    found = [_values(model) for model in models]
    keys = dict.fromkeys(key for each in found for key in each)
    rows: dict[tuple[str, str], list[Row]] = {}
    for split, measure, name, unit in keys:
        values = tuple(each.get((split, measure, name, unit)) for each in found)
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
    why = _why_not({place: models[place].data for place in there}, there)
    if mode is None or len(there) < 2 or why:
        return Row(name=name, unit=unit, mode=mode, values=values, why=why if mode and len(there) > 1 else "")
    best = (max if mode == "max" else min)(value.value for value in there.values())
    winners = frozenset(place for place, value in there.items() if value.value == best)
    close = frozenset(
        place for place, value in there.items()
        if place not in winners and any(_are_close(value, there[winner]) for winner in winners)
    )  # fmt: skip
    return Row(name=name, unit=unit, mode=mode, values=values, best=winners, close=close)


def _why_not(data: Mapping[int, str], values: Mapping[int, Value]) -> str:
    """Return why values of a name may not be compared; "" where they may."""
    if len(set(data.values())) > 1:
        return "of different data: not compared"
    counts = sorted({value.count for value in values.values()})
    return f"of {' and '.join(f'{count:,}' for count in counts)} data: not compared" if len(counts) > 1 else ""


def _are_close(value: Value, best: Value) -> bool:
    if value.error is None or best.error is None:
        return False
    return abs(value.value - best.value) < ERRORS_APART * math.hypot(value.error, best.error)


def scales(models: Sequence[Reported]) -> Mapping[str, tuple[int, ...]]:
    """Return the models by data and measure: exactly within one their nats may be compared."""
    found: dict[str, list[int]] = {}
    for place, model in enumerate(models):
        found.setdefault(model.scale, []).append(place)
    return {scale: tuple(places) for scale, places in found.items()}


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
