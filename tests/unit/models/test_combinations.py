"""Every likelihood with every prior, objective and gating: it trains, or the spec is refused and says why."""

from __future__ import annotations

from itertools import product

import pytest
import torch
from pydantic import ValidationError

from tests.catalogue import GATINGS, LATENT, LIKELIHOODS, OBJECTIVES, PRIORS, draw, train_config
from vae_models.backbones.specs import MLPConfig
from vae_models.config.train import TrainConfig
from vae_models.control.specs import LogUniformBetaConfig
from vae_models.posteriors.specs import DeltaConfig, DiagonalNormalConfig
from vae_models.topologies.vae.specs import ModelConfig
from vae_models.training.step import StepModule, merged

pytestmark = pytest.mark.slow  # a model for each of some thousand combinations

SHAPE = (1, 8, 8)  # of the digits
AUTOENCODERS = ("ae", "wae-mmd", "rae", "rae-gp")
SMALL = [None, *(name for name in GATINGS if name not in ("resnet", "batch-norm", "table-1"))]


def config(likelihood: str, prior: str, objective: str, gating: str | None) -> TrainConfig:
    model = ModelConfig(
        latent=LATENT,
        backbone=MLPConfig(hidden=(6, 5)),
        likelihood=LIKELIHOODS[likelihood],
        prior=PRIORS[prior],
        posterior=DeltaConfig() if objective in AUTOENCODERS else DiagonalNormalConfig(),
        gating=None if gating is None else GATINGS[gating][0],
    )
    fields = {} if gating is None else {"beta": LogUniformBetaConfig()}
    return train_config(objective, model, **fields)


def reason(objective: str, prior: str, gating: str | None) -> str | None:
    """Why this is refused."""
    if gating is not None and objective in (*AUTOENCODERS, "iwae"):
        return "has no beta"
    if gating is not None and prior == "vampprior":
        return "pseudo-inputs have no beta"
    if objective in AUTOENCODERS and prior != "standard-normal":
        return "trains no prior"
    return None


@pytest.mark.parametrize("objective", OBJECTIVES)
@pytest.mark.parametrize("likelihood", LIKELIHOODS)
def test_a_combination_trains_or_is_refused(likelihood: str, objective: str) -> None:
    trained = 0
    for prior, gating in product(PRIORS, SMALL):
        why = reason(objective, prior, gating)
        if why is not None:
            with pytest.raises(ValidationError, match=why):
                config(likelihood, prior, objective, gating)
            continue
        two_steps(config(likelihood, prior, objective, gating))
        trained += 1
    assert trained >= 1


def two_steps(config: TrainConfig) -> None:
    torch.manual_seed(0)
    model = config.model.build(SHAPE)
    objective, beta = config.objective.build(100, SHAPE, LATENT), config.beta.build(10.0)
    step, optimizer = StepModule(model, objective), config.optimizer.build(model.parameters())
    generator = torch.Generator().manual_seed(1)
    specs = merged(model.noise(objective.samples), objective.noise(), beta.noise())
    levels = config.model.likelihood.levels or 256
    for number in range(2):
        x = torch.randint(0, levels, (6, *SHAPE), generator=generator).float() / (levels - 1)
        noise = draw(specs, 6, generator, torch.float32)
        loss, terms = step(x, noise, beta.beta({}, number, noise))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        assert torch.isfinite(loss)
        assert all(torch.isfinite(value) for value in terms.values())
        for name, parameter in model.named_parameters():
            assert parameter.grad is not None, name
            assert torch.isfinite(parameter.grad).all(), name
