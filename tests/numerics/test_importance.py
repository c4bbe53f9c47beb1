"""Importance weights: against sums taken as they are written, and against scipy."""

from __future__ import annotations

import math

import pytest
import torch
from scipy.special import logsumexp
from torch import Tensor

from tests import catalogue
from vae_models.metrics.importance import RunningWeights, log_weights


def weights(data: int = 7, samples: int = 30, spread: float = 300.0) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.randn(data, samples, generator=generator, dtype=torch.float64) * spread - 500


@pytest.mark.parametrize("cuts", [[30], [1] * 30, [7, 7, 7, 7, 2], [29, 1]])
@pytest.mark.parametrize("spread", [1.0, 300.0])
def test_a_running_mean_is_the_mean_however_it_is_cut(cuts: list[int], spread: float) -> None:
    log_w, running = weights(spread=spread), RunningWeights(7)
    for part in log_w.split(cuts, dim=1):
        running.add(part)
    expected = logsumexp(log_w.numpy(), axis=1) - math.log(30)
    squares = logsumexp(2 * log_w.numpy(), axis=1)
    assert running.samples == 30
    torch.testing.assert_close(running.log_mean(), torch.from_numpy(expected), rtol=1e-14, atol=1e-12)
    effective = torch.from_numpy(2 * logsumexp(log_w.numpy(), axis=1) - squares).exp()
    torch.testing.assert_close(running.effective_samples(), effective, rtol=1e-10, atol=1e-10)


def test_effective_samples_are_all_of_equal_weights_and_one_where_one_is_everything() -> None:
    equal, single = RunningWeights(3), RunningWeights(3)
    equal.add(torch.full((3, 8), -700.0, dtype=torch.float64))
    single.add(torch.tensor([[0.0, -800.0, -900.0]] * 3, dtype=torch.float64))
    torch.testing.assert_close(equal.effective_samples(), torch.full((3,), 8.0, dtype=torch.float64))
    torch.testing.assert_close(single.effective_samples(), torch.ones(3, dtype=torch.float64))


def test_no_sample_is_no_estimate() -> None:
    with pytest.raises(ValueError, match="one sample of q"):
        RunningWeights(3).log_mean()


def test_a_sample_of_no_probability_counts_as_one_and_adds_nothing() -> None:
    running = RunningWeights(1)
    running.add(torch.tensor([[-math.inf, math.log(3.0)]], dtype=torch.float64))
    assert running.log_mean().item() == pytest.approx(math.log(1.5), rel=1e-15)


@pytest.mark.parametrize("name", list(catalogue.MODELS))
def test_log_weights_are_the_three_densities_of_each_sample(name: str) -> None:
    """Each sample of several at once weighs what it weighs alone."""
    model = catalogue.build(name).eval()
    x, noise = catalogue.inputs(name, batch=3, samples=4)
    if not model.bound:
        pytest.skip("a deterministic encoder has no weights")
    with torch.no_grad():
        together = log_weights(model(x, noise))
        assert together.dtype == torch.float64
        for place in range(4):
            trace = model(x, {key: value[:, place] for key, value in noise.items()})
            (latent,) = trace.latents
            alone = model.likelihood.log_prob(trace.decoded, x) + latent.log_p - latent.log_q
            torch.testing.assert_close(together[:, place], alone, rtol=1e-10, atol=1e-10)
