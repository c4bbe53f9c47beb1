"""What people write of a study becomes a whole spec, or a list of mistakes that says how to mend each."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from service import kinds
from service.errors import UsageError
from service.kinds.study.spec import StudySpec, cost, drawn_stage, extended, needs_code, resolve_study
from service.kinds.train.spec import TrainSpec

STAGE: dict[str, Any] = {"name": "rates", "space": {"optimizer.lr": [0.1, 0.01]}, "repeats": [0, 1]}
GIVEN: dict[str, Any] = {"base": "digits/beta-vae-mlp", "stages": [STAGE]}


def test_a_whole_spec_resolves_to_itself() -> None:
    found = resolve_study(GIVEN | {"name": "mine", "priority": 3})
    assert kinds.resolve(found.model_dump()) == found
    assert kinds.resolve(json.loads(found.model_dump_json())) == found
    assert kinds.parse(found.model_dump(mode="json")) == found
    assert (found.name, found.register_as, found.priority) == ("mine", "mine", 3)


def test_a_published_search_is_named_after_itself() -> None:
    found = resolve_study("searches/binarized-mnist/mr-vae-cnn")
    assert (found.recipe, found.name) == ("searches/binarized-mnist/mr-vae-cnn",) * 2
    assert found.register_as == "searches-binarized-mnist-mr-vae-cnn"
    assert found.study.size() == 21


@pytest.mark.parametrize("suffix", ["yaml", "json"])
def test_a_file_may_name_its_base_and_change_it(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"rates.{suffix}"
    given = {"base": {"recipe": "digits/beta-vae-mlp", "epochs": 2, "optimizer.clip_norm": 5.0}, "stages": [STAGE]}
    path.write_text(yaml.safe_dump(given) if suffix == "yaml" else json.dumps(given))
    found = resolve_study(path, ["steps=7", "rates.repeats=[4]", "resources.workers=2", "lanes=3"], name="other")
    assert (found.study.base.steps, found.study.base.epochs, found.study.base.optimizer.clip_norm) == (7, None, 5.0)
    assert (found.study.stages[0].repeats, found.resources.workers, found.lanes, found.name) == ((4,), 2, 3, "other")
    assert cost(found.study) == {"rates": 14}


@pytest.mark.parametrize("kind", ["random", "optuna"])
def test_every_search_that_draws_can_be_given_more_trials(kind: str) -> None:
    found = resolve_study(GIVEN | {"stages": [STAGE | {"search": {"kind": kind, "trials": 3}}]})
    assert drawn_stage(found.study, None) == ("rates", 3)
    assert extended(found, 5, None).study.stages[0].planned() == 10
    assert extended(found, 2, "rates") == found


def test_a_stage_that_own_code_searches_is_given_more_trials_where_that_code_is_not() -> None:
    code = {"digest": "0" * 64, "name": "points", "version": "1.0"}
    own, grid = ({"kind": "evenly", "trials": 3, "bases": [2, 3]}, {"kind": "grid"})
    stages = [STAGE | {"name": "own", "search": own}, STAGE | {"name": "grid", "search": grid}]
    found = resolve_study(GIVEN | {"stages": stages, "code": code})
    assert (needs_code(found.study, None), needs_code(found.study, "own"), needs_code(found.study, "grid")) == (
        True, True, False,
    )  # fmt: skip
    assert drawn_stage(found.study, "own") == ("own", 3)
    more = extended(found, 5, "own").model_dump(mode="json")
    assert [stage["search"] for stage in more["study"]["stages"]] == [own | {"trials": 5}, {"kind": "grid"}]
    assert extended(found, 2, "own") == found
    for name, why in ((None, "this study does not draw at random"), ("grid", "stage grid does not draw at random")):
        with pytest.raises(UsageError, match=why):  # which stage is meant, is not known here
            extended(found, 5, name)


def test_one_run_is_resolved_as_ever() -> None:
    found = kinds.resolve("digits/beta-vae-mlp", ["steps=3"])
    assert isinstance(found, TrainSpec)
    assert kinds.config(found.model_dump(mode="json"))["steps"] == 3
    study = resolve_study(GIVEN)
    assert isinstance(study, StudySpec)
    assert kinds.config(study.model_dump(mode="json"))["data"]["name"] == "digits"
    with pytest.raises(UsageError, match="is a training run, not a study"):
        resolve_study("digits/beta-vae-mlp")


@pytest.mark.parametrize(
    ("change", "overrides", "words"),
    [
        ({}, ["optimizr.lr=1"], ("there is no optimizr", "optimizer")),
        ({}, ["rates.space={optimizer.rl: [1]}"], ("optimizer.rl", "there are: kind, lr")),
        ({}, ["rates.metric=val/accuracy"], ("val/accuracy is not measured",)),
        ({}, ["epochs"], ("path=value",)),
        ({}, ["batch_size=100000"], ("study.base.batch_size: 100,000 is more than",)),
        ({}, ["resources.workers=0"], ("resources.workers",)),
        ({}, ["lanes=0"], ("lanes",)),
        ({}, ["workers_per_trial=2"], ("workers_per_trial: 2 does not divide resources.workers=1",)),
        ({}, ["resources.workers=2", "workers_per_trial=2", "batch_size=1"], ("workers_per_trial: 2 is more than",)),
        ({}, ["resources.workers=2", "workers_per_trial=2", "lanes=4"], ("are not fused; lanes=4",)),
        (
            {"stages": [STAGE | {"pruning": {"kind": "asha"}}]},
            ["resources.workers=2", "workers_per_trial=2"],
            ("stage rates should have no pruning",),
        ),
        ({"base": "digits/beta-vae-mpl"}, [], ("no recipe digits/beta-vae-mpl", "did you mean digits/beta-vae-mlp?")),
        ({"stages": []}, [], ("study.stages",)),
        ({"stages": [STAGE, STAGE]}, [], ("two have one name",)),
        ({"speed": 1}, [], ("speed: there is no such field",)),
        ({"stages": [STAGE | {"pruning": {"kind": "asha", "factor": 1}}]}, [], ("factor",)),
        ({"stages": [STAGE | {"pruning": {"kind": "mean"}}]}, [], ("mean", "halving", "median")),
        ({}, ["max_seconds=0"], ("max_seconds",)),
        ({"stages": [STAGE | {"space": {"seed": [1]}}]}, [], ("seeds are not searched over",)),
    ],
)
def test_mistakes_are_named(change: dict[str, Any], overrides: list[str], words: tuple[str, ...]) -> None:
    with pytest.raises(UsageError) as raised:
        resolve_study(GIVEN | change, overrides)
    for word in words:
        assert word in str(raised.value)


def test_an_unknown_search_names_the_nearest() -> None:
    with pytest.raises(UsageError, match=r"did you mean searches/mnist/linear-vae\?"):
        resolve_study("searches/mnist/linear-va")


# --- small mistakes, each for its kind --------------------------------------------------------------------------------

REALS = {"kind": "uniform", "low": 2, "high": 64}
SIGMAS = {"model.likelihood.kind": ["bernoulli", "gaussian"], "model.likelihood.sigma": [0.1, 1.0]}


def refused(**fields: Any) -> list[str]:
    """The lines that say why a study of one stage with these fields cannot be."""
    with pytest.raises(UsageError) as raised:
        resolve_study(GIVEN | {"stages": [{"name": "rates", "space": {"optimizer.lr": [0.1]}} | fields]})
    return str(raised.value).splitlines()


@pytest.mark.parametrize(("metric", "meant"), [("train/typo", "train/"), ("val/elb", "val/elbo"), ("elbo", "val/elbo")])
def test_fault_13a_a_study_metric_that_no_run_has_is_refused(metric: str, meant: str) -> None:
    (line,) = refused(metric=metric)
    assert f"stage rates: {metric} is not measured; there are val/elbo, " in line
    assert "train/loss" in line
    assert f"did you mean {meant}" in line


@pytest.mark.parametrize(
    ("fields", "line"),
    [
        ({"space": {"beta.value": [1, 1.0, True]}}, "study: beta.value: true and false are not numbers (tried: "),
        ({"space": {"beta": [{"value": True}]}}, "study: beta.value: true and false are not numbers (tried: "),
        ({"space": {"evaluation.betas": [[1, True]]}}, "study: evaluation.betas: true and false are not numbers"),
        ({"space": {"beta.value": ["1", 1]}}, "study: beta.value: '1' is text: write the number without quotes"),
        ({"space": {"beta.value": [float("nan")]}}, "study: beta.value: should be a finite number"),
        ({"space": {"beta.value": [None]}}, "study: beta.value: should be a valid number"),
        ({"space": {"model.latent": [10**30]}}, "study: model.latent: should be less than or equal to 65536"),
        (
            {"space": {"beta.value": REALS | {"low": True}}},
            "study.stages.0.space.beta.value.low: true and false are no",
        ),
        ({"repeats": [True]}, "study.stages.0.repeats: true and false are not numbers"),
        (
            {"search": {"kind": "random", "trials": True}},
            "study.stages.0.search.trials: true and false are not numbers",
        ),
        ({"search": {"kind": "random", "trials": "3"}}, "study.stages.0.search.trials: '3' is text"),
    ],
)
def test_fault_13a_only_numbers_are_numbers(fields: dict[str, Any], line: str) -> None:
    (only,) = refused(**fields)
    assert only.startswith(line)


def test_fault_13a_truths_and_texts_are_no_numbers_in_a_run_either() -> None:
    for change in ({"batch_size": True}, {"batch_size": "32"}, {"optimizer": {"lr": False}}):
        with pytest.raises(UsageError, match=r"train\.(batch_size|optimizer\.lr): (true and false|'32' is text)"):
            kinds.resolve({"recipe": "digits/beta-vae-mlp", "train": change})
    with pytest.raises(UsageError, match=r"^resources.workers: true and false are not numbers$"):
        resolve_study(GIVEN, ["resources.workers=true"])


def test_fault_13a_equal_points_are_trained_once_and_that_is_said() -> None:
    notes: list[str] = []
    space = {"beta.value": [1, 1.0, 2], "model.backbone.hidden": [[8], [8.0]], "beta.kind": ["constant"]}
    found = resolve_study(GIVEN | {"stages": [STAGE | {"space": space}]}, note=notes.append)
    assert found.study.stages[0].planned() == 2 * 2  # two seeds
    assert notes == [
        "stage rates: beta.value: equal values are one run, trained once: 1, 2",
        "stage rates: model.backbone.hidden: equal values are one run, trained once: [8]",
    ]
    assert resolve_study(found.model_dump(mode="json")) == found
    stored = found.model_dump(mode="json")
    stored["study"]["stages"][0]["space"]["beta.value"]["values"] = [1, 1.0, 2]  # accepted by an earlier version
    again = kinds.parse(stored)
    assert isinstance(again, StudySpec)
    assert again.study.stages[0].planned() == 3 * 2  # its trials keep their numbers


@pytest.mark.parametrize("points", [{}, {"points": 3}])
@pytest.mark.parametrize("search", [{"kind": "grid"}, {"kind": "random", "trials": 3}, {"kind": "optuna", "trials": 3}])
def test_fault_13a_real_numbers_for_a_whole_one_are_refused_with_what_to_use(
    points: dict[str, int], search: dict[str, Any]
) -> None:
    (line,) = refused(space={"model.latent": REALS | points}, search=search)
    assert "model.latent: " in line
    assert "int-uniform" in line
    whole = STAGE | {"space": {"model.latent": REALS | points | {"kind": "int-uniform"}}, "search": search}
    resolve_study(GIVEN | {"stages": [whole]})


@pytest.mark.parametrize(
    ("fields", "line"),
    [
        ({"space": {"optimizer.lr": {"low": 1, "high": 2}}},
         "study.stages.0.space.optimizer.lr.kind: is missing; allowed: values, uniform, log-uniform, int-uniform, "),
        ({"space": {"optimizer.lr": REALS | {"kind": "unifrom"}}}, "study.stages.0.space.optimizer.lr.kind: unifrom"),
        ({"space": {"optimizer.lr": REALS | {"lo": 1}}}, "study.stages.0.space.optimizer.lr.lo: there is no such"),
        ({"space": {"optimizer.lr": []}}, "study.stages.0.space.optimizer.lr.values: [] is not allowed; it should "),
        ({"space": {"optimizer.lr": 0.1}}, "study.stages.0: space: optimizer.lr: 0.1 is one value; what is tried is a"),
        ({"space": {"optimzer.lr": [1]}}, "study: optimzer.lr: there is no optimzer; there are: data, model"),
        ({"space": [1]}, "study.stages.0.space: [1] is not allowed; it should be a mapping of names"),
        ({"space": {}}, "study.stages.0.space: {} is not allowed; it should have at least 1 item"),
        ({"search": {"trials": 3}}, "study.stages.0.search.kind: is missing; allowed: grid, random, optuna, "),
        ({"pruning": "asha"}, "study.stages.0.pruning: asha is not allowed; it should be a mapping with: kind"),
        ({"name": "A b"}, "study.stages.0.name: A b is not allowed"),
        ({"speed": 1}, "study.stages.0.speed: there is no such field"),
    ],
)  # fmt: skip
def test_fault_13a_a_mistake_in_a_stage_is_one_line(fields: dict[str, Any], line: str) -> None:
    (only,) = refused(**fields)
    assert only.startswith(line)


@pytest.mark.parametrize("stages", [None, 1, "rates", {}, [None], [[]]])
def test_fault_13a_stages_that_are_none_are_named(stages: Any) -> None:
    with pytest.raises(UsageError, match=r"^study\.stages"):
        resolve_study({"base": "digits/beta-vae-mlp", "stages": stages})


def test_fault_13a_kinds_beside_fields_of_some_of_them_hint_at_whole_mappings() -> None:
    wrong, hint = refused(space=SIGMAS)
    assert wrong.startswith("study: model.likelihood.sigma: there is no such field where kind is bernoulli")
    assert hint == (
        "model.likelihood.kind is varied together with model.likelihood.sigma, which not every kind has: vary whole "
        "mappings, model.likelihood: [{kind: ...}, {kind: ..., sigma: ...}]"
    )
    whole = [{"kind": "bernoulli"}, {"kind": "gaussian", "sigma": 0.1}, {"kind": "gaussian", "sigma": 1.0}]
    for space, planned in (({"model.likelihood": whole}, 3), ({"model.likelihood.kind": ["bernoulli", "gaussian"]}, 2)):
        found = resolve_study(GIVEN | {"stages": [{"name": "likelihoods", "space": space}]})
        assert found.study.stages[0].planned() == planned
