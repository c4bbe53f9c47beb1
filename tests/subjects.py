"""Subjects of an evaluation at a size for tests: an untrained model of digits, the same in every process."""

from __future__ import annotations

import torch

from vae_models import data
from vae_models.backbones.specs import MLPConfig
from vae_models.config.train import TrainConfig
from vae_models.data.config import DataConfig
from vae_models.evaluation.specs import EvaluationPlan
from vae_models.evaluation.subject import Subject
from vae_models.likelihoods.specs import GaussianConfig, LikelihoodConfig
from vae_models.priors.specs import PriorConfig, StandardNormalConfig
from vae_models.topologies.vae.specs import GatingConfig, ModelConfig

PRIOR, LIKELIHOOD = StandardNormalConfig(), GaussianConfig(sigma=0.1, link="sigmoid")


def digits(
    *,
    prior: PriorConfig = PRIOR,
    likelihood: LikelihoodConfig = LIKELIHOOD,
    gating: GatingConfig | None = None,
    latent: int = 4,
    hidden: tuple[int, ...] = (16,),
    dtype: str = "float64",
    **plan: object,
) -> Subject:
    """A subject in float64, where the number of workers changes nothing but the last digits. plan: its fields."""
    beta = {} if gating is None else {"beta": {"kind": "log-uniform", "low": gating.low, "high": gating.high}}
    model = ModelConfig(
        latent=latent, backbone=MLPConfig(hidden=hidden), prior=prior, likelihood=likelihood, gating=gating
    )
    config = TrainConfig(data=DataConfig(name="digits"), model=model, steps=1, dtype=dtype, **beta)
    dataset = data.load(config.data)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        built = config.model.build(dataset.shape).to(getattr(torch, dtype))
    return Subject(built, config, dataset, EvaluationPlan.model_validate(plan))
