"""What a paper claims of its numbers, and whether ours bear it out.

A claim is a *margin*: a number for each seed that is above 0 where the claim holds, in the unit of what is compared.
Seeds are paired: the margin of seed s compares what was trained with s. Verdicts, of the margins over the seeds:

    holds                 all are above 0
    does not hold         none is
    not decided           the seeds disagree: the margin is within their spread
    not measured          a number is missing; the reason says why

n seeds agree by luck, where there is nothing in it, in one of 2^(n - 1) cases: see `Verdict.by_luck`.
"""

from __future__ import annotations

import math
import statistics
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal

Cell = tuple[str, str]  # (row, column) of a reproduction's table
Outcome = Literal["holds", "does not hold", "not decided", "not measured"]


@dataclass(frozen=True, kw_only=True)
class Claim(ABC):
    """Something that the paper says of cells of its table.

    text:  the claim in a sentence
    place: where the paper says it: "table 3", "appendix D, figure 9"
    """

    text: str
    place: str

    @property
    @abstractmethod
    def cells(self) -> tuple[Cell, ...]:
        """Return the cells that it compares."""

    @abstractmethod
    def margin(self, values: Mapping[Cell, float]) -> float:
        """Return by how much it holds, below 0 where it does not. values: of its cells, of one seed."""


@dataclass(frozen=True, kw_only=True)
class Less(Claim):
    """The value of `low` is below that of `high`: margin = high - low - by."""

    low: Cell
    high: Cell
    by: float = 0.0

    @property
    def cells(self) -> tuple[Cell, ...]:
        return (self.low, self.high)

    def margin(self, values: Mapping[Cell, float]) -> float:
        return values[self.high] - values[self.low] - self.by


@dataclass(frozen=True, kw_only=True)
class Lowest(Claim):
    """The value of `cell` is below those of all `others`: margin = the least of them - cell."""

    cell: Cell
    others: tuple[Cell, ...]

    @property
    def cells(self) -> tuple[Cell, ...]:
        return (self.cell, *self.others)

    def margin(self, values: Mapping[Cell, float]) -> float:
        return min(values[other] for other in self.others) - values[self.cell]


@dataclass(frozen=True, kw_only=True)
class Rising(Claim):
    """Each value is above the one before: margin = the least step from one cell to the next."""

    along: tuple[Cell, ...]

    @property
    def cells(self) -> tuple[Cell, ...]:
        return self.along

    def margin(self, values: Mapping[Cell, float]) -> float:
        return min(values[after] - values[before] for before, after in pairwise(self.along))


@dataclass(frozen=True, kw_only=True)
class _OfOne(Claim):
    """A claim on how one cell lies to a number."""

    cell: Cell
    value: float

    @property
    def cells(self) -> tuple[Cell, ...]:
        return (self.cell,)


@dataclass(frozen=True, kw_only=True)
class Within(_OfOne):
    """The value of `cell` is no further than `tolerance` from `value`: margin = tolerance - |cell - value|."""

    tolerance: float

    def margin(self, values: Mapping[Cell, float]) -> float:
        return self.tolerance - abs(values[self.cell] - self.value)


@dataclass(frozen=True, kw_only=True)
class Below(_OfOne):
    """The value of `cell` is below `value`: margin = value - cell."""

    def margin(self, values: Mapping[Cell, float]) -> float:
        return self.value - values[self.cell]


@dataclass(frozen=True, kw_only=True)
class Above(_OfOne):
    """The value of `cell` is above `value`: margin = cell - value."""

    def margin(self, values: Mapping[Cell, float]) -> float:
        return values[self.cell] - self.value


@dataclass(frozen=True, kw_only=True)
class Ratio(Claim):
    """`over` / `under` is below `at_most`: margin = at_most - over / under."""

    over: Cell
    under: Cell
    at_most: float

    @property
    def cells(self) -> tuple[Cell, ...]:
        return (self.over, self.under)

    def margin(self, values: Mapping[Cell, float]) -> float:
        if values[self.under] == 0:
            return -math.inf
        return self.at_most - values[self.over] / values[self.under]


@dataclass(frozen=True, kw_only=True)
class Every(Claim):
    """Several claims at once: margin = the least of theirs."""

    claims: tuple[Claim, ...]

    @property
    def cells(self) -> tuple[Cell, ...]:
        return tuple(dict.fromkeys(cell for claim in self.claims for cell in claim.cells))

    def margin(self, values: Mapping[Cell, float]) -> float:
        return min(claim.margin(values) for claim in self.claims)


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """Whether a claim holds here. margins: one for each seed; reason: why there is none."""

    claim: Claim
    outcome: Outcome
    margins: tuple[float, ...] = ()
    reason: str = ""

    @property
    def margin(self) -> float:
        """Return the median of the margins."""
        return statistics.median(self.margins)

    @property
    def by_luck(self) -> float:
        """Return the probability that all seeds agree, one way or the other, where each is a fair coin."""
        return 2.0 ** (1 - len(self.margins))


def judge(claim: Claim, cells: Mapping[Cell, Sequence[float]], missing: Mapping[Cell, str] | None = None) -> Verdict:
    """Return the verdict. cells: the values of each cell, one for each seed, in one order; missing: why there are none.

    Raise ValueError where cells of the claim have different numbers of seeds.
    """
    absent = [cell for cell in claim.cells if not cells.get(cell)]
    if absent:
        reasons = dict.fromkeys((missing or {}).get(cell, "not run") for cell in absent)
        return Verdict(claim=claim, outcome="not measured", reason="; ".join(reasons))
    columns = [cells[cell] for cell in claim.cells]
    seeds = {len(column) for column in columns}
    if len(seeds) > 1:
        raise ValueError(f"{claim.text}: its cells have {' and '.join(map(str, sorted(seeds)))} seeds")
    margins = tuple(claim.margin(dict(zip(claim.cells, values, strict=True))) for values in zip(*columns, strict=True))
    return Verdict(claim=claim, outcome=_outcome(margins), margins=margins)


def _outcome(margins: Sequence[float]) -> Outcome:
    if all(margin > 0 for margin in margins):
        return "holds"
    return "not decided" if any(margin > 0 for margin in margins) else "does not hold"
