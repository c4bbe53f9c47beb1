"""What reproductions measure themselves, against scipy and against the papers' formulas."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from scipy.stats import norm

from tuning.reproductions.measures import beta_step, discretized
from vae_models import data
from vae_models.evaluation.specs import EvaluationPlan
from vae_models.evaluation.subject import Subject
from vae_models.recipes import RECIPES


def test_the_mass_of_a_gaussian_decoder_is_its_integral_over_each_level() -> None:
    """P(k) of a level k/255: the normal's mass between the middles to its neighbours, tails in the first and last."""
    config = RECIPES.get("digits/beta-vae-mlp").build()
    torch.manual_seed(0)
    dataset = data.load(config.data)
    subject = Subject(config.model.build(dataset.shape), config, dataset, EvaluationPlan(limit=20))
    bound = discretized(subject)["discretized_bound"]
    x = dataset.test.x[:20].float() / 255
    noise = subject.draw(subject.model.noise(), 20, stream="test/elbo")
    with torch.no_grad():
        trace = subject.model(x, noise)
    mean, sigma, levels = trace.mean.double().numpy(), config.model.likelihood.sigma, np.rint(x.numpy() * 255)
    upper = np.where(levels == 255, np.inf, (levels + 0.5) / 255)
    lower = np.where(levels == 0, -np.inf, (levels - 0.5) / 255)
    mass = norm.cdf(upper, mean, sigma) - norm.cdf(lower, mean, sigma)
    expected = trace.rate.double().numpy() - np.log(mass).reshape(20, -1).sum(1)
    assert bound == pytest.approx(expected.mean(), rel=1e-6)


def test_other_decoders_have_no_such_number() -> None:
    config = RECIPES.get("binarized-mnist/beta-vae-mlp").build()
    digits = RECIPES.get("digits/beta-vae-mlp").build()
    config = config.model_copy(update={"data": digits.data})
    dataset = data.load(config.data)
    subject = Subject(config.model.build(dataset.shape), config, dataset, EvaluationPlan(limit=5))
    assert discretized(subject) == {}


@pytest.mark.parametrize("beta", [0.1, 0.5, 1.0, 2.0])
@pytest.mark.parametrize("delta", [-0.5, -0.1, 0.3])
def test_steps_of_beta_are_the_papers_equations(beta: float, delta: float) -> None:
    """VHP eq 11 with nu = 1 and tau = 3, and GECO in its convention."""
    f = -1.0 if delta > 0 else math.tanh(3 * (beta - 1))
    assert beta_step("rewo", beta, delta) == pytest.approx(beta * math.exp(f * delta) - beta)
    assert beta_step("geco", beta, delta) == pytest.approx(beta * math.exp(-delta) - beta)
