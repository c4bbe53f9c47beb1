"""What people write of a study becomes a whole spec, or a list of mistakes that says how to mend each."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from service.errors import UsageError
from service.spec import TrainSpec
from service.study_spec import StudySpec, cost, drawn_stage, extended, parse, resolve_job, resolve_study, train_config

STAGE: dict[str, Any] = {"name": "rates", "space": {"optimizer.lr": [0.1, 0.01]}, "repeats": [0, 1]}
GIVEN: dict[str, Any] = {"base": "digits/beta-vae-mlp", "stages": [STAGE]}


def test_a_whole_spec_resolves_to_itself() -> None:
    found = resolve_study(GIVEN | {"name": "mine", "priority": 3})
    assert resolve_job(found.model_dump()) == found
    assert resolve_job(json.loads(found.model_dump_json())) == found
    assert parse(found.model_dump(mode="json")) == found
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


def test_one_run_is_resolved_as_ever() -> None:
    found = resolve_job("digits/beta-vae-mlp", ["steps=3"])
    assert isinstance(found, TrainSpec)
    assert train_config(found.model_dump(mode="json"))["steps"] == 3
    study = resolve_study(GIVEN)
    assert isinstance(study, StudySpec)
    assert train_config(study.model_dump(mode="json"))["data"]["name"] == "digits"
    with pytest.raises(UsageError, match="is one run, not a study"):
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
