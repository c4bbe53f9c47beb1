"""Log-likelihoods of different measures are not compared; a Gaussian decoder can be integrated over the levels."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from scipy import stats

from vae_models.likelihoods.specs import BernoulliConfig, CategoricalConfig, DiscretizedConfig, GaussianConfig
from vae_models.metrics.comparison import Incomparable, LogLikelihood, gaussian_log_mass


def test_of_one_measure_they_are_compared() -> None:
    a, b = LogLikelihood.of(-90.0, CategoricalConfig()), LogLikelihood.of(-92.5, DiscretizedConfig())
    assert a > b
    assert b < a
    assert a - b == 2.5


@pytest.mark.parametrize("other", [BernoulliConfig(), GaussianConfig()])
def test_of_two_measures_they_are_refused(other: BernoulliConfig | GaussianConfig) -> None:
    a, b = LogLikelihood.of(-90.0, CategoricalConfig()), LogLikelihood.of(-92.5, other)
    for compare in (lambda: a < b, lambda: a > b, lambda: a - b):
        with pytest.raises(Incomparable, match="cannot be compared: integrate the density"):
            compare()


def test_a_gaussian_decoder_over_the_levels() -> None:
    """Against scipy; and the masses of all levels sum to one."""
    levels = torch.arange(256, dtype=torch.float64).view(-1, 1, 1, 1) / 255
    mean, log_sigma = torch.full_like(levels, 0.3), torch.tensor(math.log(0.05), dtype=torch.float64)
    found = gaussian_log_mass(levels, mean, log_sigma)
    assert found.exp().sum().item() == pytest.approx(1, abs=1e-9)
    k = np.arange(60, 100)
    frozen = stats.norm(0.3, 0.05)
    expected = np.log(frozen.cdf((k + 0.5) / 255) - frozen.cdf((k - 0.5) / 255))
    np.testing.assert_allclose(found[60:100], expected, rtol=1e-8)
