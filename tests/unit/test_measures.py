"""Each measure knows its direction: what is better, wherever it is asked, and what is refused."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError
from torch import Tensor

from service import kinds
from service.errors import UsageError
from service.kinds.study.spec import resolve_study
from tests import catalogue
from tuning.space import with_values
from tuning.study import Outcome, StageConfig, StudyConfig, trials
from tuning.winners import rank, winner
from vae_models.config.run import CheckpointConfig, EvaluationConfig
from vae_models.measures import MEASURES, OURS, QUANTITIES, SELECTABLE, Goal, Quantity
from vae_models.records import Trace
from vae_models.training.context import LocalContext
from vae_models.training.loop import train

RECIPE = "digits/beta-vae-mlp"
BETTER = {"val/elbo": "max", "val/rate": "min", "val/distortion": "min", "val/squared_error": "min"}
OTHER = {"max": "min", "min": "max"}


@pytest.mark.parametrize("metric", SELECTABLE)
def test_fault_07_mode_left_out_is_the_measures_own(metric: str) -> None:
    own = BETTER[metric]
    assert CheckpointConfig(metric=metric).mode == own
    assert CheckpointConfig.model_validate({"metric": metric}).model_dump()["mode"] == own
    found = kinds.resolve(RECIPE, [f"checkpoint.metric={metric}"])  # the recipe's spec names a mode: of another metric
    assert found.train.checkpoint.mode == own  # type: ignore[union-attr]
    partial = kinds.resolve({"recipe": RECIPE, "train": {"checkpoint": {"metric": metric}}})
    assert partial.train.checkpoint.mode == own  # type: ignore[union-attr]
    base = found.train.model_copy(update={"checkpoint": CheckpointConfig()})  # type: ignore[union-attr]
    assert with_values(base, {"checkpoint.metric": metric}).checkpoint.mode == own
    assert with_values(base, {"checkpoint": {"metric": metric}}).checkpoint.mode == own
    assert StageConfig.model_validate({"name": "s", "space": {"beta.value": [1]}, "metric": metric}).mode == own
    study = resolve_study(_study(), [f"s.metric={metric}"])
    assert study.study.stages[0].mode == own


@pytest.mark.parametrize("metric", SELECTABLE)
def test_fault_07_a_mode_that_contradicts_is_refused_and_the_right_one_said(metric: str) -> None:
    wrong, right = OTHER[BETTER[metric]], BETTER[metric]
    said = rf"mode {wrong} would choose the worst: (larger|smaller) is better of {metric}; .* set it to {right}"
    with pytest.raises(ValidationError, match=said):
        CheckpointConfig.model_validate({"metric": metric, "mode": wrong})
    with pytest.raises(UsageError, match=f"^train.checkpoint: {said}"):
        kinds.resolve(RECIPE, [f"checkpoint.metric={metric}", f"checkpoint.mode={wrong}"])
    with pytest.raises(UsageError, match=said):
        resolve_study(_study(metric=metric, mode=wrong))
    assert resolve_study(_study(metric=metric, mode=right)).study.stages[0].mode == right


@pytest.mark.parametrize(("metric", "best"), [("val/elbo", 1), ("val/distortion", 0), ("train/loss", 0)])
def test_fault_07_the_best_trial_wins(metric: str, best: int) -> None:
    found = StudyConfig.model_validate(_study(metric=metric)["study"])
    every = list(trials(found.stages[0], found.base))
    outcomes = {number: Outcome(state="done", value=value) for number, value in enumerate((80.0, 90.0))}
    won = winner(rank(every, outcomes, found.stages[0].goal))
    assert won is not None
    assert won.number == best


def test_fault_07_a_spec_from_before_is_read_and_goes_by_the_measure() -> None:
    """Stored specs and the configurations of registered models stay readable; what they contradicted is mended."""
    train = kinds.resolve(RECIPE).model_dump(mode="json")
    train["train"]["checkpoint"] |= {"metric": "val/distortion", "mode": "max"}
    assert kinds.parse(train).train.checkpoint.mode == "min"  # type: ignore[union-attr]
    study = resolve_study(_study()).model_dump(mode="json")
    study["study"]["stages"][0] |= {"metric": "val/distortion", "mode": "max"}
    assert kinds.parse(study).study.stages[0].mode == "min"  # type: ignore[union-attr]
    whole = kinds.resolve(RECIPE).model_dump(mode="json")
    assert kinds.parse(whole).model_dump(mode="json") == whole


def test_fault_07_a_measure_without_a_direction_must_be_given_one() -> None:
    base = {"objective": {"kind": "tc"}}
    with pytest.raises(UsageError, match="train/information is neither better high nor low: say mode max or min"):
        resolve_study(_study(metric="train/information", base=base))
    assert resolve_study(_study(metric="train/information", mode="max", base=base)).study.stages[0].goal == Goal(
        metric="train/information", mode="max"
    )


def test_fault_07_what_is_not_measured_is_refused_before_anything_runs() -> None:
    for metric, hint in (("train/typo", ""), ("train/los", "did you mean train/loss"), ("train/mmd", "")):
        with pytest.raises(UsageError, match=f"{metric} is not measured; there are val/elbo, .*{hint}"):
            resolve_study(_study(metric=metric))


def test_better_is_strict_and_never_what_is_not_finite() -> None:
    for mode, low, high in (("max", 1.0, 2.0), ("min", 2.0, 1.0)):
        goal = Goal(mode=mode)  # type: ignore[arg-type]
        assert goal.better(high, low)
        assert not goal.better(low, high)
        assert not goal.better(low, low)
        for none in (None, math.nan, math.inf, -math.inf):
            assert goal.better(low, none)
            assert not goal.better(none, low)
            assert not goal.better(none, None)


def test_every_name_that_can_be_chosen_by_has_a_direction() -> None:
    assert {name: Goal.of(name).mode for name in SELECTABLE} == BETTER


POSTERIORS = {"wae-mmd": "isotropic-fixed", "ae": "delta", "rae": "delta", "rae-gp": "delta"}


@pytest.mark.parametrize("objective", catalogue.OBJECTIVES)
def test_a_run_reports_what_its_spec_says(objective: str, tmp_path: Path) -> None:
    """So that a study knows before its first step what it may be judged by; every name is a known quantity."""
    posterior = POSTERIORS.get(objective, "diagonal-normal")
    model, _ = catalogue.MODELS["/".join((*catalogue.DEFAULT[:3], posterior))]
    config = catalogue.train_config(objective, model, evaluation={"limit": 6, "test": False, "pictures": False})
    reported = set(train(config, LocalContext(tmp_path)).metrics)
    own = {"train/beta", "train/lr", "train/grad_norm"}  # of the step, not of the objective
    assert {name for name in reported if "/" in name} - own == set(config.metrics())
    assert {name.rpartition("/")[2] for name in config.metrics()} <= QUANTITIES.keys()


@pytest.fixture
def plugin(monkeypatch: pytest.MonkeyPatch) -> None:
    """Measures of an installed package: the largest |z| of a datum, and two that are wrong."""
    largest = Quantity(name="largest", unit="1", mode="min", of=lambda trace: trace.latents[0].mean.abs().amax(1))
    one = Quantity(name="one", unit="1", mode="min", of=lambda trace: trace.distortion.mean())
    bound = Quantity(name="slack", unit="nats per datum", mode="max", bound=True, of=f"{__name__}:slack")
    found = {part.name: part for part in (*OURS, largest, one, bound)}
    monkeypatch.setattr(MEASURES, "find", found.get)
    monkeypatch.setattr(MEASURES, "all", lambda: found)


def slack(trace: Trace) -> Tensor:
    return -trace.rate


def test_a_measure_of_a_package_is_evaluated_logged_and_chosen_by(plugin: None, tmp_path: Path) -> None:
    asked = {"limit": 6, "test": False, "pictures": False, "train": True, "measures": ["largest", "slack"]}
    checkpoint = {"metric": "val/largest"}
    model, _ = catalogue.MODELS["/".join(catalogue.DEFAULT)]
    config = catalogue.train_config("elbo", model, evaluation=asked, checkpoint=checkpoint)
    assert config.checkpoint.mode == "min"
    metrics = train(config, LocalContext(tmp_path)).metrics
    assert {"val/largest", "train_eval/largest", "val/slack"} <= set(config.metrics()) & metrics.keys()
    assert metrics["val/slack"] == pytest.approx(-metrics["val/rate"])
    without = catalogue.train_config("elbo", model, evaluation={**asked, "measures": []})
    assert train(without, LocalContext(tmp_path / "without")).metrics["val/elbo"] == metrics["val/elbo"]
    assert "measures" not in without.identity()  # so that a study's trial of before keeps its name


def test_a_measure_that_is_not_one_number_a_datum_is_named(plugin: None, tmp_path: Path) -> None:
    evaluation = {"limit": 6, "test": False, "pictures": False, "measures": ["one"]}
    model, _ = catalogue.MODELS["/".join(catalogue.DEFAULT)]
    with pytest.raises(ValueError, match=r"the measure one gives \[\] for 6 data: it must be one number for each"):
        train(catalogue.train_config("elbo", model, evaluation=evaluation), LocalContext(tmp_path))


@pytest.mark.parametrize(
    ("names", "said"),
    [
        (["largst"], "there is no measure 'largst'; there are: largest, one, slack"),
        (["elbo"], "elbo is no function of a trace"),
        (["largest", "largest"], "largest is named twice"),
    ],
)
def test_measures_that_cannot_be_asked_for_are_refused(plugin: None, names: list[str], said: str) -> None:
    with pytest.raises(ValidationError, match=said):
        EvaluationConfig.model_validate({"measures": names})


def _study(*, base: Mapping[str, Any] | None = None, **fields: Any) -> dict[str, Any]:
    stage = {"name": "s", "space": {"beta.value": [0.5, 1.0]}, **fields}
    whole = kinds.resolve({"recipe": RECIPE, "train": dict(base or {})}).train  # type: ignore[union-attr]
    return {"name": "a-study", "study": {"base": whole.model_dump(mode="json"), "stages": [stage]}}
