"""log p(x) by importance sampling from q(z|x) (Burda et al. 2016, eq. 8; Rezende et al. 2014, appendix D).

    log p(x) = lim_{k -> inf} log (1/k) sum_i w_i,   w_i = p(x|z_i) p(z_i) / q(z_i|x),   z_i ~ q(z|x)

For any k the right side's expectation is a lower bound on log p(x), which rises with k. Everything is in float64: the
weights of one datum span hundreds of nats.
"""

from __future__ import annotations

import math

import torch
from jaxtyping import Float, Float64
from torch import Tensor

from vae_models.records import Trace


def log_weights(trace: Trace) -> Float64[Tensor, "data samples"]:
    """Return log p(x|z) + sum over latents of [log p(z) - log q(z|x)] of each sample, nats per datum."""
    total = -trace.distortion.double()
    for latent in trace.latents:
        total = total + latent.log_p.double() - latent.log_q.double()
    return total.view(-1, trace.samples)


class RunningWeights:
    """The sums of importance weights and of their squares, as samples come: memory for two numbers a datum.

    log_sum, log_squares: log sum_i w_i and log sum_i w_i^2, [data], float64.
    """

    def __init__(self, data: int, device: torch.device | str = "cpu") -> None:
        """Begin with no sample."""
        self.samples = 0
        self.log_sum = torch.full((data,), -math.inf, dtype=torch.float64, device=device)
        self.log_squares = self.log_sum.clone()

    def add(self, weights: Float64[Tensor, "data samples"]) -> None:
        """Take log w of some samples of every datum."""
        self.samples += weights.shape[1]
        self.log_sum = torch.logaddexp(self.log_sum, torch.logsumexp(weights, dim=1))
        self.log_squares = torch.logaddexp(self.log_squares, torch.logsumexp(2 * weights, dim=1))

    def log_mean(self) -> Float64[Tensor, " data"]:
        """Return log (1/k) sum_i w_i, the estimate of log p(x), nats per datum. Raise ValueError without a sample."""
        if not self.samples:
            raise ValueError("log p(x) is estimated from one sample of q(z|x) at least, and none was taken")
        return self.log_sum - math.log(self.samples)

    def effective_samples(self) -> Float64[Tensor, " data"]:
        """Return (sum_i w_i)^2 / sum_i w_i^2, between 1 and k: of how many samples with equal weights the estimate has
        the variance (Kong 1992). Near 1, one sample is all of it, and log p(x) is higher than the estimate.
        """
        return torch.exp(2 * self.log_sum - self.log_squares)


def log_mean_weights(weights: Float[Tensor, "data samples"]) -> Float64[Tensor, " data"]:
    """Return log (1/k) sum_i w_i of all samples at once, from log w: nats per datum."""
    running = RunningWeights(len(weights), weights.device)
    running.add(weights.double())
    return running.log_mean()
