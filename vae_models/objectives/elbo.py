"""The evidence lower bound, with beta."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from vae_models.collectives import global_mean
from vae_models.records import Loss, Trace


@dataclass(frozen=True, kw_only=True)
class Elbo:
    """total = mean_i [distortion_i + beta_i * rate_i] over the global batch, in nats per datum.

    beta is a scalar (beta-VAE: MR-VAE eq 13) or one value per datum, [batch] (MR-VAE). Terms, global means in nats per
    datum, detached: rate, distortion, and elbo = -(distortion + rate), the bound at beta = 1 whatever beta is.
    """

    def __call__(self, trace: Trace, beta: Tensor) -> Loss:
        rate, distortion = trace.rate, trace.distortion
        # one message for all three: at small sizes the latency of a reduction is what a step waits for
        columns = torch.stack([distortion + beta * rate, distortion.detach(), rate.detach()], dim=1)
        total, mean_distortion, mean_rate = global_mean(columns).unbind(0)
        mean_distortion, mean_rate = mean_distortion.detach(), mean_rate.detach()
        terms = {"elbo": -(mean_distortion + mean_rate), "rate": mean_rate, "distortion": mean_distortion}
        return Loss(total=total, terms=terms)
