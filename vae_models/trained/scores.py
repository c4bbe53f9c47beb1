"""ELBO and log-likelihood of each datum, by k samples of its posterior."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor

from vae_models.protocols import LatentSpace, Model
from vae_models.records import Trace

DECODED = 2**22  # numbers of x that are decoded at a time: 16 MiB in float32, and a network's layers a few times that


@dataclass(kw_only=True)
class Scores:
    """Running sums over posterior samples of a batch, in float64."""

    bound: bool
    count: int = 0
    sums: dict[str, Tensor] = field(default_factory=dict)
    log_sum: Tensor | None = None

    def add(self, trace: Trace, samples: int) -> None:
        """Add a pass with `samples` rows for each datum."""

        def rows(values: Tensor) -> Tensor:
            return values.double().view(-1, samples)

        terms = {"distortion": rows(trace.distortion)}
        if self.bound:
            terms |= {"rate": rows(trace.rate)}
            log_weight = -terms["distortion"] + sum(rows(latent.log_p - latent.log_q) for latent in trace.latents)
            part = torch.logsumexp(log_weight, 1)
            self.log_sum = part if self.log_sum is None else torch.logaddexp(self.log_sum, part)
        for name, values in terms.items():
            self.sums[name] = self.sums.get(name, torch.zeros_like(values[:, 0])) + values.sum(1)
        self.count += samples

    def result(self) -> dict[str, Tensor]:
        """Return what `of_batch` does."""
        means = {name: total / self.count for name, total in self.sums.items()}
        if self.log_sum is None:
            return means
        nll = math.log(self.count) - self.log_sum
        return {"elbo": -(means["rate"] + means["distortion"]), "nll": nll, **means}


def of_batch(
    model: Model, x: Tensor, noise: Mapping[str, Tensor], samples: int, beta: Tensor | None, mask: Tensor | None
) -> dict[str, Tensor]:
    """Return the scores of each datum of a batch, float64 [n], nats per datum. noise: as `model.noise(samples)` says.

    elbo       the mean over the samples of -(rate + distortion), at beta = 1 of the sum
    rate       the mean over the samples of log q(z|x) - log p(z), in closed form where there is one
    distortion the mean over the samples of -log p(x|z)
    nll        -log (1/k) sum_k p(x|z_k) p(z_k) / q(z_k|x): an upper bound on -log p(x) in expectation that falls with k
               (Burda et al. 2016, "Importance weighted autoencoders", eq 8)

    Of a model whose q(z|x) has no density there is the distortion alone.
    """
    encoding = model.encode(x, beta) if isinstance(model, LatentSpace) else None
    scores = Scores(bound=model.bound)
    at_a_time = max(1, min(samples, DECODED // max(1, x.numel())))
    for start in range(0, samples, at_a_time):
        some = min(at_a_time, samples - start)
        part = {name: _part(values, start, some, samples) for name, values in noise.items()}
        if encoding is not None and isinstance(model, LatentSpace):
            trace = model.trace(x, encoding, part, beta, mask)
        else:
            trace = model(x, part, beta, mask)
        scores.add(trace, some)
    return scores.result()


def _part(values: Tensor, start: int, some: int, samples: int) -> Tensor:
    """Return some samples' noise as a model reads it: one sample has no axis of its own."""
    if samples == 1:
        return values
    return values[:, start] if some == 1 else values[:, start : start + some]
