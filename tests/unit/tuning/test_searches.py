"""Every published search is a valid study of a recipe that exists."""

from __future__ import annotations

import math
import subprocess
import sys

import pytest

from tuning.searches import catalogue
from tuning.study import trials
from vae_models.recipes import catalogue as recipes


@pytest.mark.parametrize("name", catalogue())
def test_it_is_valid(name: str) -> None:
    study = catalogue()[name].build()
    data = name.split("/")[1]
    assert any(recipe.startswith(f"{data}/") for recipe in recipes())
    for stage in study.stages:
        assert stage.repeats == (0, 1, 2)


def test_the_published_numbers_of_mr_vae() -> None:
    study = catalogue()["searches/binarized-mnist/beta-vae-cnn"].build()
    rates, betas = study.stages
    assert [draw.assignment["optimizer.lr"] for draw in rates.draws()] == [
        0.01,
        0.003,
        0.001,
        0.0003,
        0.0001,
        0.00003,
        0.00001,
    ]
    assert len(list(trials(rates, study.base))) == 21
    found = [draw.assignment["beta.value"] for draw in betas.draws()]
    assert (len(found), found[0], found[-1]) == (10, 0.01, 10.0)
    assert study.size() == 21 + 30
    tc = catalogue()["searches/dsprites/beta-tcvae"].build().stages[1]
    assert next(iter(tc.draws())).assignment == {"beta.value": 0.1}
    assert catalogue()["searches/dsprites/beta-tcvae"].build().stages[0].metric == "train/loss"


@pytest.mark.parametrize("name", [name for name in catalogue() if "/mr-" in name])
def test_a_multi_rate_search_measures_the_curve_of_the_separate_runs(name: str) -> None:
    """At its end, at the beta that the other search sweeps: `study curve --with` lays one over the other."""
    other = name.replace("mr-tc", "beta-tc").replace("mr-vae", "beta-vae")
    other = other.replace("mr-linear", "linear").replace("mr-lstm", "lstm")
    found, separate = catalogue()[name].build().base.evaluation, catalogue()[other].build().stages[-1]
    assert found.betas == pytest.approx([draw.assignment["beta.value"] for draw in separate.draws()], rel=1e-3)
    assert found.betas_at_end_only


@pytest.mark.parametrize("name", ["searches/mnist/mr-linear-vae", "searches/dsprites/mr-tcvae"])
def test_fault_17_multi_rate_searches_choose_by_the_training_split_at_beta_1(name: str) -> None:
    study = catalogue()[name].build()
    (stage,) = study.stages
    assert (stage.metric, stage.mode) == ("train_eval/elbo", "max")
    assert study.base.evaluation.train
    assert "train_eval/elbo" in study.base.metrics()


@pytest.mark.parametrize(
    ("name", "path", "logarithms"),
    [
        ("fixed-variance", "model.likelihood.sigma", [-k / 10 for k in range(11)]),
        ("fixed-variance-deterministic", "model.likelihood.sigma", [-k / 10 for k in range(11)]),
        ("fixed-posterior-variance", "model.posterior.sigma", [1 - k / 10 for k in range(21)]),
    ],
)
def test_fault_17_tables_1_and_e8_have_searches(name: str, path: str, logarithms: list[float]) -> None:
    (stage,) = catalogue()[f"searches/mnist/{name}"].build().stages
    found = [2 * math.log10(draw.assignment[path]) for draw in stage.draws()]
    assert found == pytest.approx(logarithms, abs=1e-5)


def test_warmed_up_searches_keep_their_warm_up() -> None:
    study = catalogue()["searches/binarized-mnist/beta-vae-resnet-warmup"].build()
    kinds = {trial.config.beta.kind for stage in study.stages for trial in trials(stage, study.base)}
    assert kinds == {"warmup"}


def test_names_alone_load_no_torch() -> None:
    code = "import sys; from tuning.searches import catalogue; catalogue(); assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)
