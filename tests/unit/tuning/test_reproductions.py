"""Every reproduction of the catalogue is whole at every scale: nothing is trained here."""

from __future__ import annotations

import importlib
import subprocess
import sys
from functools import cache

import pytest

from tuning.reproductions import REPRODUCTIONS
from tuning.reproductions.entry import PAPERS, Reproduction, Scale, Setup
from vae_models.evaluation.specs import chosen

CASES = [(name, scale) for name, entry in REPRODUCTIONS.own().items() for scale in entry.scales]


@cache
def built(name: str, scale: Scale) -> tuple[Reproduction, Setup]:
    entry = REPRODUCTIONS.get(name)
    return entry, entry.build(scale)


@pytest.mark.parametrize(("name", "scale"), CASES)
def test_every_number_has_a_source_that_is_there(name: str, scale: Scale) -> None:
    entry, setup = built(name, scale)
    assert setup.cells
    assert setup.seeds >= 1
    for (row, _), reading in setup.cells.items():
        assert row in setup.rows
        assert set(reading.runs) <= set(setup.runs)
    read = {run for reading in setup.cells.values() for run in reading.runs}
    assert read == set(setup.runs)  # nothing is trained for nothing
    assert {column for _, column in setup.cells} & {column.name for column in entry.columns}


@pytest.mark.parametrize(("name", "scale"), CASES)
def test_every_claim_is_of_cells_that_are_measured(name: str, scale: Scale) -> None:
    _, setup = built(name, scale)
    assert setup.claims
    assert len({claim.text for claim in setup.claims}) == len(setup.claims)
    for claim in setup.claims:
        assert claim.place
        assert set(claim.cells) <= set(setup.cells), claim.text


@pytest.mark.parametrize(("name", "scale"), CASES)
def test_every_evaluation_suits_what_is_trained(name: str, scale: Scale) -> None:
    """A plan that a model refuses would be found out after its training."""
    _, setup = built(name, scale)
    for run, config in setup.runs.items():
        plan = setup.plans.get(run, setup.plan)
        if plan is not None:
            assert plan.evaluators
            assert len(chosen(plan, config)) == len(plan.evaluators)
    assert set(setup.plans) <= set(setup.runs)
    assert set(setup.chosen_for) <= set(setup.runs)
    assert set(setup.chosen_for.values()) == set(setup.choices)


@pytest.mark.parametrize(("name", "scale"), CASES)
def test_functions_that_are_named_are_there(name: str, scale: Scale) -> None:
    _, setup = built(name, scale)
    for function in (*setup.measures, *setup.drawings):
        module, _, attribute = function.partition(":")
        assert callable(getattr(importlib.import_module(module), attribute))


def test_the_catalogue_is_listed_and_built_without_torch() -> None:
    """In a process of its own: `vaesvc reproduce list` answers at once."""
    code = (
        "import sys; from tuning.reproductions import REPRODUCTIONS; "
        "[entry.build(scale) for entry in REPRODUCTIONS.own().values() for scale in entry.scales]; "
        "print('torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120, check=True)
    assert done.stdout.strip() == "False"


@pytest.mark.parametrize("name", REPRODUCTIONS.own())
def test_the_papers_numbers_are_in_rows_of_its_table(name: str) -> None:
    entry = REPRODUCTIONS.get(name)
    assert entry.name.partition("/")[0] in PAPERS
    _, setup = built(name, entry.scales[-1])
    columns = [column.name for column in entry.columns]
    assert len(set(columns)) == len(columns)
    for row, column in entry.paper:
        assert column in columns
        assert row in setup.rows


def test_small_scales_say_what_is_not_as_in_the_paper() -> None:
    for name, scale in CASES:
        _, setup = built(name, scale)
        if scale == "small" and setup.runs:
            assert setup.differs, name
