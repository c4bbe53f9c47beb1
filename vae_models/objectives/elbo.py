"""The evidence lower bound, with beta."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from vae_models.collectives import global_mean
from vae_models.protocols import Model
from vae_models.records import Loss, NoiseSpec, Trace


def per_row(beta: Tensor, trace: Trace) -> Tensor:
    """Return beta for every row of the trace: one per datum, [batch], is repeated over its samples;
    a scalar stays one.
    """
    return beta if beta.ndim == 0 or trace.samples == 1 else beta.repeat_interleave(trace.samples, 0)


def reduced(total: Tensor, trace: Trace) -> Loss:
    """Return the loss of one value per row of the trace, [batch x samples],
    with the terms that every objective reports.

    The terms are global means, detached: rate, distortion and elbo = -(distortion + rate) in nats per datum, the bound
    at beta = 1 whatever beta is; squared_error in units of x squared. Rate and elbo are left out where there is no
    bound.
    """
    names = ("distortion", "squared_error", "rate") if trace.bound else ("distortion", "squared_error")
    rows = [total, *(getattr(trace, name).detach() for name in names)]
    # one message for all: at small sizes the latency of a reduction is what a step waits for
    mean, *means = global_mean(torch.stack(rows, dim=1)).unbind(0)
    terms = {name: value.detach() for name, value in zip(names, means, strict=True)}
    if trace.bound:
        terms["elbo"] = -(terms["distortion"] + terms["rate"])
    return Loss(total=mean, terms=terms)


@dataclass(frozen=True, kw_only=True)
class Elbo:
    """total = mean_i [reconstruction_i + beta_i * rate_i] over the global batch, in nats per datum.

    The reconstruction is the trace's distortion, but for likelihoods with an objective of their own (AR-ELBO table 2).
    beta is a scalar (beta-VAE: MR-VAE eq 13) or one value per datum, [batch] (MR-VAE).
    """

    samples: ClassVar[int] = 1

    def noise(self) -> Mapping[str, NoiseSpec]:
        """Return no noise: the objective needs none beyond the model's."""
        return {}

    def __call__(self, trace: Trace, beta: Tensor, *, model: Model, noise: Mapping[str, Tensor]) -> Loss:
        return reduced(trace.reconstruction + per_row(beta, trace) * trace.rate, trace)
