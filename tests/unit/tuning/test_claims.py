"""Verdicts are functions of numbers by seed: what must be true of any numbers."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tuning.reproductions.claims import Above, Below, Cell, Claim, Every, Less, Lowest, Ratio, Rising, Within, judge

A, B, C = ("a", "x"), ("b", "x"), ("c", "x")
numbers = st.floats(min_value=-1e6, max_value=1e6)
SAID = {"text": "a claim", "place": "table 1"}


def of(*columns: list[float]) -> dict[Cell, tuple[float, ...]]:
    return {cell: tuple(column) for cell, column in zip((A, B, C), columns, strict=False)}


@given(st.lists(st.tuples(numbers, numbers), min_size=1, max_size=6))
def test_an_ordering_holds_where_every_seed_has_it_and_fails_where_none_has(pairs: list[tuple[float, float]]) -> None:
    low, high = (list(column) for column in zip(*pairs, strict=True))
    verdict = judge(Less(low=A, high=B, **SAID), of(low, high))
    agreeing = sum(a < b for a, b in pairs)
    expected = "holds" if agreeing == len(pairs) else "not decided" if agreeing else "does not hold"
    assert verdict.outcome == expected
    assert len(verdict.margins) == len(pairs)


@given(st.lists(st.tuples(numbers, numbers), min_size=1, max_size=6), st.randoms())
def test_the_order_of_the_seeds_does_not_matter(pairs: list[tuple[float, float]], random: object) -> None:
    claim = Less(low=A, high=B, **SAID)
    shuffled = list(pairs)
    random.shuffle(shuffled)  # type: ignore[attr-defined]
    one, other = (judge(claim, of(*map(list, zip(*each, strict=True)))) for each in (pairs, shuffled))
    assert one.outcome == other.outcome
    assert sorted(one.margins) == sorted(other.margins)


@given(st.lists(st.tuples(numbers, numbers).filter(lambda pair: pair[0] != pair[1]), min_size=1, max_size=6))
def test_a_claim_and_its_contrary_never_hold_both(pairs: list[tuple[float, float]]) -> None:
    low, high = (list(column) for column in zip(*pairs, strict=True))
    outcomes = {judge(Less(low=A, high=B, **SAID), of(low, high)).outcome}
    outcomes.add(judge(Less(low=B, high=A, **SAID), of(low, high)).outcome)
    assert outcomes in ({"holds", "does not hold"}, {"not decided"})


@given(numbers, numbers, numbers)
def test_margins_are_what_the_docstrings_say(a: float, b: float, c: float) -> None:
    values = {A: a, B: b, C: c}
    assert Less(low=A, high=B, by=2.0, **SAID).margin(values) == b - a - 2.0
    assert Lowest(cell=A, others=(B, C), **SAID).margin(values) == min(b, c) - a
    assert Rising(along=(A, B, C), **SAID).margin(values) == min(b - a, c - b)
    assert Within(cell=A, value=1.0, tolerance=0.5, **SAID).margin(values) == 0.5 - abs(a - 1.0)
    assert Below(cell=A, value=3.0, **SAID).margin(values) == 3.0 - a
    assert Above(cell=A, value=3.0, **SAID).margin(values) == a - 3.0
    assert Ratio(over=A, under=B, at_most=2.0, **SAID).margin(values) == (2.0 - a / b if b else -math.inf)


@given(st.lists(st.tuples(numbers, numbers, numbers), min_size=1, max_size=4))
def test_every_holds_only_where_each_of_its_claims_does(rows: list[tuple[float, float, float]]) -> None:
    cells = of(*map(list, zip(*rows, strict=True)))
    parts: tuple[Claim, ...] = (Less(low=A, high=B, **SAID), Below(cell=C, value=0.0, **SAID))
    together = judge(Every(claims=parts, **SAID), cells)
    assert (together.outcome == "holds") == all(judge(part, cells).outcome == "holds" for part in parts)
    assert together.claim.cells == (A, B, C)


def test_a_missing_number_is_no_verdict_and_says_why() -> None:
    verdict = judge(Less(low=A, high=B, **SAID), {A: (1.0,)}, {B: "data not here: no file"})
    assert (verdict.outcome, verdict.reason) == ("not measured", "data not here: no file")


def test_cells_of_different_seeds_are_not_paired() -> None:
    with pytest.raises(ValueError, match="1 and 2 seeds"):
        judge(Less(low=A, high=B, **SAID), of([1.0], [1.0, 2.0]))


@pytest.mark.parametrize(("seeds", "chance"), [(1, 1.0), (2, 0.5), (3, 0.25)])
def test_how_often_seeds_agree_by_luck(seeds: int, chance: float) -> None:
    assert judge(Below(cell=A, value=1.0, **SAID), of([0.0] * seeds)).by_luck == chance
