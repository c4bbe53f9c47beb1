"""log p(x) of small models by quadrature over their whole latent space: what a trace says of q, p and x adds up to it.

With q's noise at the nodes, p(x) = E_q[p(x|z) p(z) / q(z|x)] is a sum, exact to the quadrature's error, which is small
for nets as smooth as these. Of a ladder the same number comes from its way of sampling, which reads no x; of sentences
all that there are have probability 1 together.
"""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
import torch
from torch import Tensor

from vae_models.data.tokens import BOS, EOS, PAD
from vae_models.likelihoods.specs import GaussianConfig, TokensConfig
from vae_models.records import Trace
from vae_models.topologies.ladder.model import Ladder
from vae_models.topologies.ladder.specs import NvaeConfig
from vae_models.topologies.text.model import SentenceVAE
from vae_models.topologies.text.specs import TextConfig

NODES = 110
SIGMA = 0.7


def hermite(dimensions: int) -> tuple[Tensor, Tensor]:
    """Nodes [nodes^dimensions, dimensions] of N(0, I), and their weights, which add up to 1."""
    places, weights = np.polynomial.hermite_e.hermegauss(NODES)
    every = torch.from_numpy(np.stack(np.meshgrid(*[places] * dimensions, indexing="ij"), -1).reshape(-1, dimensions))
    products = torch.from_numpy(np.stack(np.meshgrid(*[weights] * dimensions, indexing="ij"), -1)).prod(-1).flatten()
    return every, products / products.sum()


def log_weights(trace: Trace) -> Tensor:
    """log p(x|z) + log p(z) - log q(z|x) of each row, nats."""
    total = -trace.distortion
    for latent in trace.latents:
        total = total + latent.log_p - latent.log_q
    return total


def evidence_and_bound(trace: Trace, weights: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """log p(x); the ELBO with the analytic rate, and with the sampled one."""
    log_p = torch.logsumexp(log_weights(trace) + weights.log(), 0)
    return log_p, (weights * -(trace.distortion + trace.rate)).sum(), (weights * log_weights(trace)).sum()


@pytest.fixture(scope="module")
def ladder() -> Ladder:
    """Two groups of one latent each, the second given the first: 2x2 images, halved once."""
    config = NvaeConfig(
        size=(2, 2), channels=4, latent=1, scales=1, groups=2, halved=False, blocks=1, block_cells=1, encoder_cells=1,
        decoder_cells=1, body="swish", spectrum=False, likelihood=GaussianConfig(sigma=SIGMA),
    )  # fmt: skip
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(3)
        model = config.build((1, 2, 2))
        assert isinstance(model, Ladder)
        for _ in range(30):  # batch norms get statistics of their own
            model.double().train()(
                torch.rand(16, 1, 2, 2).double(), {n: torch.randn(16, 1, 1, 1).double() for n in NAMES}
            )
    return model.eval()


NAMES = ("z1", "z2")


def test_a_ladder_of_two_groups_has_the_evidence_of_its_samples(ladder: Ladder) -> None:
    """And its bound is below it by more than nothing; the analytic rate is the mean of the sampled one."""
    noise, weights = hermite(2)
    rows = {name: noise[:, place].view(-1, 1, 1, 1) for place, name in enumerate(NAMES)}
    for seed in range(3):
        x = torch.rand(1, 1, 2, 2, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
        with torch.no_grad():
            trace = ladder(x.expand(len(noise), -1, -1, -1), rows)
            means = ladder.sample_mean(rows)
        log_p, bound, sampled = evidence_and_bound(trace, weights)
        squared = ((x - means) / SIGMA).square().flatten(1).sum(1)
        of_samples = torch.logsumexp(-0.5 * squared + weights.log(), 0) - 4 * math.log(SIGMA * math.sqrt(2 * math.pi))
        assert float(log_p) == pytest.approx(float(of_samples), abs=5e-6)
        assert float(sampled) == pytest.approx(float(bound), abs=5e-6)
        assert float(bound) < float(log_p) - 1e-4
        assert all(float(latent.rate.mean()) > 0 for latent in trace.latents)


def test_all_sentences_of_three_tokens_and_fewer_have_probability_1() -> None:
    """Those that end, and those that go on after the third; each one's bound is below its log p(x)."""
    vocabulary, most = 6, 3
    config = TextConfig(latent=1, embedding=4, hidden=4, dropout=0, likelihood=TokensConfig(vocabulary=vocabulary))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        model = config.build((most + 2,)).double().eval()
    assert isinstance(model, SentenceVAE)
    others = [token for token in range(vocabulary) if token != EOS]
    sentences = [
        [BOS, *tokens, *([EOS] if count < most else [])]
        for count in range(most + 1)
        for tokens in itertools.product(others, repeat=count)
    ]
    assert len(sentences) == 1 + 5 + 25 + 125
    noise, weights = hermite(1)
    evidences = []
    for sentence in sentences:
        x = torch.tensor([sentence + [PAD] * (most + 2 - len(sentence))])
        mask = torch.arange(most + 2).unsqueeze(0) < len(sentence)
        rows = len(noise)
        with torch.no_grad():
            trace = model(x.expand(rows, -1), {"z": noise}, mask=mask.expand(rows, -1))
        log_p, bound, sampled = evidence_and_bound(trace, weights)
        assert float(bound) < float(log_p)
        assert float(sampled) == pytest.approx(float(bound), abs=1e-9)
        evidences.append(log_p)
    assert float(torch.logsumexp(torch.stack(evidences), 0)) == pytest.approx(0, abs=1e-9)
