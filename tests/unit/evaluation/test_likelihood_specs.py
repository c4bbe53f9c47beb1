"""What evaluators of the likelihood refuse, from the configuration alone."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from vae_models.config.train import TrainConfig
from vae_models.evaluation.likelihood.scale import scale_of
from vae_models.evaluation.likelihood.specs import LikelihoodEvaluation, NllEvaluation, RateDistortionEvaluation
from vae_models.evaluation.run import chosen
from vae_models.evaluation.specs import EvaluationPlan
from vae_models.recipes import catalogue


def config(*, binarize: str = "none", **model: object) -> TrainConfig:
    deterministic = model.get("posterior") == {"kind": "delta"}
    return TrainConfig.model_validate(
        {
            "data": {"name": "digits", "binarize": binarize},
            "model": model,
            "objective": {"kind": "ae" if deterministic else "elbo"},
            "checkpoint": {"metric": "val/distortion", "mode": "min"},
            "steps": 1,
        }
    )


GAUSSIAN = {"kind": "gaussian"}


@pytest.mark.parametrize("samples", [0, -1, 10**9])
def test_no_sample_and_too_many_are_refused(samples: int) -> None:
    with pytest.raises(ValidationError, match="samples"):
        NllEvaluation(samples=samples)
    with pytest.raises(ValidationError, match="greater than or equal to 1"):
        EvaluationPlan.model_validate({"evaluators": [{"kind": "nll", "samples": 0}]})


def test_an_autoencoder_has_no_nll_and_no_curve() -> None:
    autoencoder = config(likelihood=GAUSSIAN, posterior={"kind": "delta"})
    assert any("no q(z|x) to draw" in reason for reason in NllEvaluation().refusals(autoencoder))
    assert any("has no rate" in reason for reason in RateDistortionEvaluation().refusals(autoencoder))
    assert not list(LikelihoodEvaluation().refusals(autoencoder))
    with pytest.raises(ValueError, match="nll: a deterministic encoder"):
        chosen(EvaluationPlan(evaluators=(NllEvaluation(),)), autoencoder)


@pytest.mark.parametrize(
    ("binarize", "likelihood", "measure", "levels"),
    [
        ("none", {"kind": "bernoulli"}, None, None),
        ("threshold", {"kind": "bernoulli"}, "mass", 2),
        ("none", {"kind": "categorical"}, "mass", 256),
        ("none", GAUSSIAN, "density", None),
    ],
)
def test_what_nats_are_of(binarize: str, likelihood: dict[str, str], measure: str | None, levels: int | None) -> None:
    run = config(binarize=binarize, likelihood=likelihood)
    scale = scale_of(run)
    assert (scale.measure, scale.levels) == (measure, levels)
    refused = list(NllEvaluation().refusals(run))
    assert bool(refused) == (measure is None)
    assert all("data.binarize" in reason for reason in refused)


def test_a_curve_is_of_multi_rate_models() -> None:
    assert any("one beta is one point" in reason for reason in RateDistortionEvaluation().refusals(config()))
    assert not list(RateDistortionEvaluation().refusals(catalogue()["mnist/mr-vae-cnn"].build()))


def test_a_plan_that_names_nothing_takes_no_minutes() -> None:
    kinds = {spec.kind for spec in chosen(EvaluationPlan(), catalogue()["mnist/mr-vae-cnn"].build()).values()}
    assert {"likelihood", "rate-distortion"} <= kinds
    assert "nll" not in kinds
