"""Every reproduction's small scale goes through, from its data to its page, with two steps in place of its training.

What comes out says nothing; that each number is found where its reading looks for it, on real data, says something.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from tuning.reproductions import REPRODUCTIONS
from tuning.reproductions.entry import Scale, Setup
from tuning.reproductions.runner import reproduce
from tuning.space import with_values
from vae_models.evaluation.specs import EvaluationPlan

NAMES = [name for name, entry in REPRODUCTIONS.own().items() if "small" in entry.scales]
BRIEF = {"steps": 2, "log_every_steps": 1, "evaluation.limit": 40}
COSTLY = {
    "nll": {"samples": 2},
    "fid": {"count": 200},
    "interpolation-fid": {"count": 200},
    "interpolation": {"pairs": 2},
}


def briefly(plan: EvaluationPlan | None) -> EvaluationPlan | None:
    """The plan on 200 data, with the least of what costs time."""
    if plan is None:
        return None
    plain = plan.model_dump(mode="json")
    for evaluator in plain["evaluators"]:
        evaluator.update(COSTLY.get(evaluator["kind"], {}))
    probed = any(evaluator["kind"] == "probes" for evaluator in plain["evaluators"])  # the first data are of one label
    return EvaluationPlan.model_validate(plain | {"limit": None if probed else 200})


@pytest.fixture(scope="module")
def out(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where runs are kept: reproductions share them."""
    return tmp_path_factory.mktemp("reproductions")


@pytest.mark.parametrize("name", NAMES)
def test_every_number_is_found(name: str, out: Path, data_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VAESVC_DATA_DIR", str(data_dir))
    entry = REPRODUCTIONS.get(name)

    def build(scale: Scale) -> Setup:
        setup = entry.build(scale)
        runs = {run: with_values(config, BRIEF) for run, config in setup.runs.items()}
        plans = {run: briefly(plan) for run, plan in setup.plans.items()}
        return replace(setup, runs=runs, plan=briefly(setup.plan), plans=plans)

    results = reproduce(replace(entry, build=build), "small", out, seeds=1)
    expected = {cell: "nll_500 was not found out" for cell in results.setup.cells if cell[1] == "nll"}
    early = {cell: reason for cell, reason in results.missing.items() if cell[1] in ("early", "moved")}
    assert dict(results.missing) == expected | early
    assert results.page().startswith("# ")
