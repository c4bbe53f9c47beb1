"""The kind `evaluate`: what is written becomes a plan and a spec, what follows a job, progress, and tables."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import pytest

from service import kinds
from service.errors import UsageError
from service.kinds import plain
from service.kinds.evaluate import KIND, metrics, plans, tables
from service.kinds.evaluate.pace import Pace, Standing, pieces
from service.kinds.evaluate.spec import EvaluateSpec
from service.kinds.evaluate.text import outcome
from service.kinds.kind import loaded
from vae_models.config.train import TrainConfig
from vae_models.evaluation.findings import Findings
from vae_models.evaluation.specs import EvaluationPlan, chosen, key

RECIPE = "digits/beta-vae-mlp"
UNSUITED = {"kind": "mutual-information", "variance": 0.1}  # of an encoder that has a density


def trained(*changes: str) -> TrainConfig:
    spec: Any = kinds.resolve(RECIPE, changes)
    return TrainConfig.model_validate(spec.train)


# --- the plan -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("written", "read"),
    [
        ({"evaluators": ["likelihood"]}, {"evaluators": [{"kind": "likelihood"}]}),
        ({"evaluators": ['{kind: latent, variance: 0.5}']}, {"evaluators": [{"kind": "latent", "variance": 0.5}]}),
        ({"split": "val", "changes": ["limit=7", "betas=[0.5, 2]"]}, {"split": "val", "limit": 7, "betas": [0.5, 2.0]}),
    ],
)  # fmt: skip
def test_what_is_written_is_read(written: dict[str, Any], read: dict[str, Any]) -> None:
    changes = written.pop("changes", ())
    plan = plans.read(plans.written(changes, **written)).model_dump(mode="json")
    for name, value in read.items():
        if name == "evaluators":
            assert [{k: each[k] for k in want} for each, want in zip(plan[name], value, strict=True)] == value
        else:
            assert plan[name] == value


@pytest.mark.parametrize(
    ("written", "said"),
    [
        ({"changes": ["limt=3"]}, r"limt: there is no such path.*did you mean limit\?"),
        ({"changes": ["limit"]}, "limit: an override has the form path=value, for example limit=1000"),
        ({"changes": ["limit=true"]}, "limit: true"),
        ({"changes": ["split=tset"]}, "split: tset is not allowed; allowed: train, val, test"),
        ({"evaluators": ["{kind: nothing}"]}, "evaluators.0.kind: nothing is not allowed"),
        ({"samplers": ["nobody-10"]}, "samplers.0.kind: nobody-10 is not allowed"),
    ],
)
def test_what_cannot_be_read(written: dict[str, Any], said: str) -> None:
    changes = written.pop("changes", ())
    with pytest.raises(UsageError, match=said):
        plans.read(plans.written(changes, **written))


def test_every_reason_against_an_evaluator_is_named() -> None:
    config = trained()
    plan = plans.read({"evaluators": [UNSUITED, UNSUITED | {"data": 7}, "likelihood"]})
    reasons = [reason for spec in plan.evaluators for reason in spec.refusals(config)]
    assert len(reasons) == 2
    with pytest.raises(UsageError) as error:
        plans.fitting(plan, config)
    assert all(f"mutual-information: {reason}" in str(error.value) for reason in reasons)


def test_an_empty_plan_has_all_that_suit_and_says_what_not() -> None:
    config = trained()
    kinds_of = {spec.kind for spec in plans.fitting(EvaluationPlan(), config).values()}
    aside = plans.left_out(config)
    assert {"likelihood", "latent"} <= kinds_of
    assert not kinds_of & set(aside)
    assert all(aside.values())


def test_a_key_is_a_function_of_what_findings_depend_on() -> None:
    base = plans.read({"evaluators": ["likelihood"]})
    (spec,) = base.evaluators
    same = base.model_copy(update={"batch_size": 3, "memory_mib": 99})
    others = [
        base.model_copy(update=change) for change in ({"split": "val"}, {"limit": 3}, {"seed": 1}, {"betas": (2.0,)})
    ]
    assert key(spec, same) == key(spec, base)
    assert len({key(spec, plan) for plan in (base, *others)}) == 5
    assert key(spec, base).startswith("likelihood-test-")


# --- the spec -------------------------------------------------------------------------------------------------------


def test_a_spec_is_named_after_its_model_and_says_it_again_the_same() -> None:
    spec = kinds.resolve({"kind": "evaluate", "of": "digits@best", "plan": {"evaluators": ["likelihood"]}}, ["limit=5"])
    assert isinstance(spec, EvaluateSpec)
    assert (spec.name, spec.plan.limit, spec.model, spec.train) == ("evaluate/digits-best", 5, None, None)
    assert kinds.resolve(spec.model_dump(mode="json")) == spec


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({}, "of: is missing"),
        ({"of": "x", "plan": {"split": "no"}}, "plan.split: no is not allowed"),
        ({"of": "x", "model": {"job": "j", "uri": "s3://b/c", "manifest_sha256": "abc", "step": 1}}, "manifest_sha256"),
    ],
)
def test_a_spec_that_cannot_be(given: dict[str, Any], said: str) -> None:
    with pytest.raises(UsageError, match=said):
        kinds.resolve({"kind": "evaluate", **given})


def test_a_spec_that_knows_its_model_is_checked_with_it() -> None:
    spec = {"kind": "evaluate", "of": "x", "train": trained(), "plan": {"evaluators": [UNSUITED]}}
    with pytest.raises(UsageError, match="mutual-information: "):
        kinds.resolve(spec)


def test_an_evaluation_registers_nothing() -> None:
    """So no number of it can become a model's value, or make one the best."""
    assert loaded(KIND.choose) is plain.choose
    assert loaded(KIND.trained) is plain.trained


# --- what follows a job ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("written", ["evaluate", ["evaluate"], {"kind": "evaluate"}, [{"kind": "evaluate"}]])
def test_a_job_may_be_followed_by_its_evaluation(written: Any) -> None:
    spec = kinds.resolve(RECIPE, then=written, resources={"workers": 2})
    (kept,) = spec.then
    assert kept["plan"] == EvaluationPlan().model_dump(mode="json")
    assert kept["resources"]["workers"] == 2  # as the job before
    assert kinds.resolve(spec.model_dump(mode="json")) == spec


@pytest.mark.parametrize(
    ("written", "said"),
    [
        ("evalute", "then: evalute is not allowed; allowed: evaluate"),
        ("train", "then: train is not allowed"),
        ([{"plan": {}}], "then: None is not allowed"),
        (
            {"kind": "evaluate", "split": "val"},
            "then.split: there is no such field; allowed: kind, plan, trials, resources",
        ),
        ({"kind": "evaluate", "trials": "all"}, "then.trials: all is of a study, and this is a training run"),
        ({"kind": "evaluate", "plan": {"evaluators": ["no"]}}, "then.plan.evaluators.0.kind: no is not allowed"),
        (["evaluate"] * 9, "then"),
    ],
)
def test_what_cannot_follow(written: Any, said: str) -> None:
    with pytest.raises(UsageError, match=said):
        kinds.resolve(RECIPE, then=written)


def test_what_does_not_suit_the_model_is_refused_before_it_is_trained() -> None:
    with pytest.raises(UsageError, match="mutual-information: "):
        kinds.resolve(RECIPE, then={"kind": "evaluate", "plan": {"evaluators": [UNSUITED]}})


def test_all_trials_of_a_study_follow_where_their_weights_are_kept() -> None:
    study = {
        "kind": "study",
        "study": {"base": {"recipe": RECIPE}, "stages": [{"name": "rates", "space": {"optimizer.lr": [1e-3, 1e-2]}}]},
        "then": {"kind": "evaluate", "trials": "all"},
    }
    with pytest.raises(UsageError, match=r"then\.trials: all needs `keep: all`"):
        kinds.resolve(study)
    assert kinds.resolve({**study, "keep": "all"}).then[0]["trials"] == "all"


# --- how far, and what ----------------------------------------------------------------------------------------------


class Nothing:
    def get(self, key: str) -> Findings | None:
        return None

    def put(self, key: str, findings: Findings) -> None: ...


def test_the_time_left_is_of_the_pass_that_it_is_at() -> None:
    now, shown, made = [0.0], list[Standing](), list[int]()

    def checks() -> Callable[[], bool]:
        made.append(len(shown))  # how many ticks there were before
        return lambda: False

    evaluators = chosen(plans.read({"evaluators": ["likelihood", "latent"]}), trained())
    pace = Pace(Nothing(), evaluators, show=shown.append, stopping=checks, clock=lambda: now[0])
    first, second = evaluators
    pace.get(first)
    for at, done in ((0.0, 100), (2.0, 300)):
        now[0] = at
        assert pace.tick("ELBO", done, 1000) is False
    pace.put(first, Findings())
    pace.get(second)
    pace.tick("latents", 100, 1000)
    assert [(each.evaluator, each.number, each.seconds_left) for each in shown] == [
        ("likelihood", 1, None), ("likelihood", 1, 7.0), ("latent", 2, None),
    ]  # fmt: skip
    assert pace.computed == [first]
    assert made == [0, 0, 2]  # a fast pass says nothing of how often to ask in a slow one
    assert dict(pieces(vars(shown[1])))["left of it [h:mm:ss]"] == "0:00:07"


@pytest.mark.parametrize(
    ("value", "error", "shown"),
    [
        (-96.12345, 0.0412, ("-96.123", "0.041")),
        (12345.678, 345.0, ("12,346", "345")),
        (0.5, None, ("0.500000", None)),
        (16.0, None, ("16", None)),
        (3.0, 0.0, ("3", "0")),
        (1.5e-7, None, ("1.5e-07", None)),
        (-0.005, 0.0141, ("-0.005", "0.014")),
    ],
)
def test_a_value_has_as_many_digits_as_its_error(value: float, error: float | None, shown: tuple[str, Any]) -> None:
    assert tables.with_error(value, error) == shown


def plain_value(**given: Any) -> Mapping[str, Any]:
    base = {"name": "elbo", "value": -1.0, "unit": "nats per datum", "mode": "max", "error": 0.5, "measure": None,
            "levels": None, "count": 3, "note": ""}  # fmt: skip
    return base | given


def test_density_and_mass_are_told_apart() -> None:
    values = [
        plain_value(measure="density"),
        plain_value(measure="mass", levels=256),
        plain_value(measure="mass", levels=2),
    ]
    (table,) = tables.of("test", {"": {"values": values, "tables": [], "notes": []}})
    units = [row[table.header.index("UNIT")] for row in table.rows]
    assert units == ["nats per datum, density", "nats per datum, mass of 256 levels", "nats per datum, mass"]


def test_metrics_have_the_split_and_the_error_beside_them() -> None:
    values = [plain_value(), plain_value(name="active_units", error=None)]
    assert metrics.of("val", values) == {"val/elbo": -1.0, "val/elbo_error": 0.5, "val/active_units": -1.0}
    assert set(metrics.of("train", values)) == {"train_eval/elbo", "train_eval/elbo_error", "train_eval/active_units"}


def test_the_outcome_is_the_table() -> None:
    lines = outcome({"split": "test", "values": [plain_value()]})
    assert lines[0] == "on the test split"
    assert lines[2].split() == ["elbo", "-1.00", "0.50", "nats", "per", "datum", "higher", "3"]
