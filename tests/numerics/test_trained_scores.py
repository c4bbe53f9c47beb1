"""Scores of a datum against log p(x) of the linear VAE, which is known: N(mu, D D^T + I)."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from scipy.stats import multivariate_normal

from vae_models.analytic.linear_vae import optimum
from vae_models.backbones.specs import MLPConfig
from vae_models.config.run import CheckpointConfig
from vae_models.config.train import TrainConfig
from vae_models.data.config import DataConfig
from vae_models.data.spec import DataSpec
from vae_models.likelihoods.specs import GaussianConfig
from vae_models.objectives.specs import AutoencoderConfig
from vae_models.posteriors.specs import DeltaConfig
from vae_models.topologies.vae.model import VAE
from vae_models.topologies.vae.specs import ModelConfig
from vae_models.trained import Trained

LATENT, DIMENSIONS, N = 2, 5, 70


def linear(widened: float) -> tuple[Trained, NDArray[np.float64], NDArray[np.float64]]:
    """The optimum for beta = 1, whose q(z|x) is the posterior, or is `widened` times as wide; data; their log p(x)."""
    generator = torch.Generator().manual_seed(0)
    mix = torch.linalg.qr(torch.randn(DIMENSIONS, DIMENSIONS, generator=generator, dtype=torch.float64)).Q
    scales = torch.tensor([3.0, 2.0, 1.1, 0.9, 0.7], dtype=torch.float64)
    x = torch.randn(N, DIMENSIONS, generator=generator, dtype=torch.float64) * scales @ mix
    best = optimum(x.T @ x / N, LATENT, 1.0)
    config = TrainConfig(
        data=DataConfig(name="cmu-motion"),  # reals, in a vector: only their kind matters here
        model=ModelConfig(latent=LATENT, backbone=MLPConfig(hidden=()), likelihood=GaussianConfig(sigma=1.0)),
        steps=1,
        dtype="float64",
    )
    model = config.model.build((DIMENSIONS,)).double()
    assert isinstance(model, VAE)
    put(model, best.decoder, best.encoder, best.covariance * widened**2)
    covariance = (best.decoder @ best.decoder.T + torch.eye(DIMENSIONS)).numpy()
    exact = multivariate_normal(np.zeros(DIMENSIONS), covariance).logpdf(x.numpy())
    return Trained(model, config, (DIMENSIONS,)), x.numpy(), exact


def put(model: VAE, decoder: torch.Tensor, encoder: torch.Tensor, variance: torch.Tensor) -> None:
    """Set the network's weights, found by what they do: no name of a parameter is relied on."""
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.zero_()
        for parameter in model.groups()["decoder"]:
            if parameter.shape == decoder.shape:
                parameter.copy_(decoder)
        (mean, spread) = [p for p in model.groups()["encoder"] if p.shape == encoder.shape]
        mean.copy_(encoder)
        bias = [p for p in model.groups()["encoder"] if p.shape == variance.shape][-1]
        bias.copy_(raw_of(model, bias, variance))
        assert spread.abs().sum() == 0


def raw_of(model: VAE, bias: torch.Tensor, variance: torch.Tensor) -> torch.Tensor:
    """Return the raw scale of this variance, by bisection of what the posterior makes of it."""
    low, high = torch.full_like(variance, -30), torch.full_like(variance, 30)
    for _ in range(100):
        middle = (low + high) / 2
        bias.copy_(middle)
        log_std = model.encode(torch.zeros(1, DIMENSIONS, dtype=torch.float64)).log_std
        assert log_std is not None
        above = 2 * log_std[0] > variance.log()
        low, high = torch.where(above, low, middle), torch.where(above, middle, high)
    return (low + high) / 2


def test_where_q_is_the_posterior_every_sample_gives_log_p() -> None:
    model, x, exact = linear(1.0)
    for samples in (1, 3):
        np.testing.assert_allclose(-model.score(x, samples=samples)["nll"], exact, rtol=1e-9)
    many = model.score(x, samples=4000)
    error = 3.5 * np.std(many["elbo"] - exact) / math.sqrt(N)
    assert np.mean(many["elbo"]) == pytest.approx(np.mean(exact), abs=error)
    np.testing.assert_allclose(many["elbo"], exact, atol=0.2)


def test_with_more_samples_the_estimate_comes_down_to_log_p() -> None:
    """One sample's is above -log p by KL(q(z|x) || p(z|x)) on average; many samples' is there."""
    model, x, exact = linear(1.6)
    kl = 0.5 * LATENT * (1.6**2 - 1 - 2 * math.log(1.6))
    once = np.array([model.score(x, samples=1, seed=seed)["nll"] + exact for seed in range(30)])
    assert once.mean() == pytest.approx(kl, abs=4 * once.std() / math.sqrt(once.size))
    many = model.score(x, samples=1000)
    assert np.mean(many["nll"] + exact) == pytest.approx(0, abs=0.01)
    assert np.mean(-many["elbo"] + exact) == pytest.approx(kl, abs=0.02)


def test_scores_depend_on_nothing_beside_the_datum() -> None:
    model, x, _ = linear(1.6)
    whole = model.score(x, samples=7)
    parts = [model.score(x[a:b], samples=7, first=a) for a, b in ((0, 10), (10, 65), (65, N))]
    for name, values in whole.items():
        np.testing.assert_allclose(np.concatenate([part[name] for part in parts]), values, rtol=1e-12)


def test_the_memory_of_a_pass_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    from vae_models.trained import scores

    model, x, _ = linear(1.6)
    whole = model.score(x, samples=9)
    for decoded in (1, 64 * DIMENSIONS * 4):  # one sample at a time; four
        monkeypatch.setattr(scores, "DECODED", decoded)
        for name, values in model.score(x, samples=9).items():
            np.testing.assert_allclose(values, whole[name], rtol=1e-12)


def test_padding_counts_nothing() -> None:
    """Of data with lengths of their own: -log p(x|z) by hand, at z = E[z|x] of an encoder without a density."""
    facts = DataSpec(shape=(4, 3), axes=("time", "feature"), support="reals", sizes=(9, 9, 9), lengths=True)
    sigma = 0.7
    config = TrainConfig(
        data=DataConfig(name="walks", digest="0" * 64, facts=facts),
        model=ModelConfig(
            latent=2,
            backbone=MLPConfig(hidden=(5,)),
            likelihood=GaussianConfig(sigma=sigma),
            posterior=DeltaConfig(),
        ),
        objective=AutoencoderConfig(),
        checkpoint=CheckpointConfig(metric="val/distortion", mode="min"),
        steps=1,
        dtype="float64",
    )
    model = Trained(config.model.build((4, 3)).double(), config, (4, 3))
    x = np.random.default_rng(0).normal(size=(5, 4, 3))
    lengths = np.array([4, 1, 0, 3, 2])
    each = 0.5 * ((x - model.reconstruct(x)) / sigma) ** 2 + math.log(sigma) + 0.5 * math.log(2 * math.pi)
    expected = [rows[:length].sum() for rows, length in zip(each, lengths, strict=True)]
    np.testing.assert_allclose(model.score(x, lengths=lengths)["distortion"], expected, rtol=1e-10)
    for wrong in (None, lengths[:3], lengths + 1, lengths.astype(float)):
        with pytest.raises(ValueError, match="lengths"):
            model.score(x, lengths=wrong)
