"""The importance-weighted bound (Burda et al. 2016)."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from vae_models.objectives.elbo import reduced
from vae_models.protocols import Model
from vae_models.records import Loss, NoiseSpec, Trace


@dataclass(frozen=True, kw_only=True)
class Iwae:
    """total = -mean_i log (1/K) sum_k p(x_i|z_ik) p(z_ik) / q(z_ik|x_i), z_ik ~ q(z|x_i): nats per datum.

    p(x|z) is the density itself, whatever else a likelihood may be trained on: without it there is no bound.
    K = 1 is the ELBO with the sampled rate. beta has no meaning here and is ignored: a config with another one than the
    constant 1 is refused. Beside the usual terms, means over the samples, `iwae` is the bound itself.
    """

    samples: int = 50

    def noise(self) -> Mapping[str, NoiseSpec]:
        """Return no noise: the objective needs none beyond the model's."""
        return {}

    def __call__(self, trace: Trace, beta: Tensor, *, model: Model, noise: Mapping[str, Tensor]) -> Loss:
        log_weights = -trace.distortion
        for latent in trace.latents:
            log_weights = log_weights + latent.log_p - latent.log_q
        bound = torch.logsumexp(log_weights.view(-1, trace.samples), dim=1) - math.log(trace.samples)
        loss = reduced(-bound.repeat_interleave(trace.samples, 0), trace)
        return Loss(total=loss.total, terms={**loss.terms, "iwae": -loss.total.detach()})
