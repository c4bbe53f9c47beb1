"""Where numbers of a table come from, and how they are printed."""

from __future__ import annotations

from pathlib import Path

import pytest

from tuning.reproductions.claims import Less, judge
from tuning.reproductions.entry import Column, Reproduction, Setup
from tuning.reproductions.readings import (
    At,
    Computed,
    Duration,
    Evaluated,
    Logged,
    Parameters,
    Seconds,
    Trained,
    Unmeasured,
    parameters,
)
from tuning.reproductions.results import Results, number
from vae_models.recipes import RECIPES

CONFIG = RECIPES.get("digits/beta-vae-mlp").build()
HISTORY = [
    (10, {"epoch": 1.0, "train/loss": 5.0}),
    (20, {"epoch": 2.0, "train/loss": 4.0, "val/elbo": -7.0}),
    (30, {"epoch": 3.0, "train/loss": 3.0}),
]


def trained(**values: float) -> Trained:
    return Trained(config=CONFIG, folder=Path(), seconds=60.0, steps=30, history=HISTORY, values=values)


@pytest.mark.parametrize(
    ("reading", "expected"),
    [
        (Logged(run="a", metric="train/loss"), 3.0),
        (Logged(run="a", metric="train/loss", epoch=1.5), 4.0),
        (Logged(run="a", metric="val/elbo", factor=-1.0), 7.0),
        (Evaluated(run="a", value="units", factor=2.0), 10.0),
        (Duration(of=("a", "b")), 120.0),
        (Computed(of=(Logged(run="a", metric="train/loss"), Evaluated(run="b", value="units")), function=max), 9.0),
        (
            At(
                least=(Evaluated(run="a", value="units"), Evaluated(run="b", value="units")),
                value=(Evaluated(run="a", value="rate"), Evaluated(run="b", value="rate")),
            ),
            1.0,
        ),
    ],
)
def test_a_reading_is_what_it_says(reading: Logged, expected: float) -> None:
    runs = {"a": trained(units=5.0, rate=1.0), "b": trained(units=9.0, rate=2.0)}
    assert reading(runs) == expected
    assert set(reading.runs) <= set(runs)


def test_seconds_are_of_an_epoch() -> None:
    epochs = 30 * CONFIG.batch_size / CONFIG.data.facts.sizes[0]
    assert Seconds(run="a")({"a": trained()}) == pytest.approx(60.0 / epochs)


@pytest.mark.parametrize(
    "reading",
    [
        Logged(run="a", metric="test/elbo"),
        Logged(run="a", metric="train/loss", epoch=9.0),
        Evaluated(run="a", value="nothing"),
    ],
)
def test_what_is_not_there_is_said(reading: Logged) -> None:
    with pytest.raises(Unmeasured):
        reading({"a": trained()})


def test_parameters_are_counted_without_memory_and_as_a_loop_counts_them() -> None:
    model = CONFIG.model.build(CONFIG.data.facts.shape)
    counted = 0
    for parameter in model.parameters():
        counted += len(parameter.detach().reshape(-1))
    assert parameters(CONFIG) == counted
    assert Parameters(config=CONFIG)({}) == counted


@pytest.mark.parametrize(
    ("value", "printed"),
    [(3.0, "3"), (1234567.0, "1,234,567"), (0.00012345, "0.0001234"), (12.3456, "12.35"), (123456.7, "123,457")],
)
def test_numbers_have_significant_digits(value: float, printed: str) -> None:
    assert number(value) == printed


def test_a_table_has_the_papers_number_beside_median_and_range() -> None:
    claim = Less(text="a | b", place="table 9", low=("a", "x"), high=("b", "x"))
    entry = Reproduction(
        name="vhp/table-9",
        summary="A table.",
        columns=(Column(name="x", heading="x [nats]"), Column(name="y", heading="y [nats]")),
        paper={("a", "x"): 1.5},
        build=lambda scale: setup,
    )
    setup = Setup(rows={"a": "A", "b": "B"}, cells={("a", "x"): Duration(of=())}, claims=(claim,), seeds=3)
    cells = {("a", "x"): (1.0, 3.0, 2.0)}
    missing = {("b", "x"): "data not here: no file\nLooked for it at:\n  /data"}
    results = Results(
        entry=entry, scale="small", setup=setup, seeds=3, cells=cells, missing=missing,
        verdicts=(judge(claim, cells, missing),), trained=(), chosen={},
    )  # fmt: skip
    assert results.table() == [
        "|  | x [nats]: paper | ours |",
        "| --- | --- | --- |",
        "| A | 1.5 | 2 [1, 3] |",
        "| B |  | not measured |",
    ]
    assert "| a \\| b | table 9 | **not measured** | data not here: no file |" in results.claims()
    assert "Not measured: data not here: no file\nLooked for it at:\n  /data" in results.page()
    assert not results.measured
    assert results.command == "vaesvc reproduce vhp table-9 --scale small"
