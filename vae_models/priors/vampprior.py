"""A mixture of posteriors (Tomczak & Welling 2018, "VampPrior")."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor, nn

from vae_models.normal import HALF_LOG_TWO_PI
from vae_models.protocols import Encode
from vae_models.records import NoiseSpec

LOG_VARIANCE = (-6.0, 2.0)  # the components' log-variances are clamped to this


class VampPrior(nn.Module):
    """p(z) = (1/M) sum_m q(z|u_m): M pseudo-inputs u_m, trained, go through the model's own encoder.

    u_m = clip(w_m, 0, 1) with w_m free, as the published code has it (a linear map of the identity matrix, then a hard
    clip to the range of grey values); w starts at N(mean, deviation^2). For data outside [0, 1] there is no clip.
    """

    def __init__(
        self, *, data_shape: tuple[int, ...], latent: int, components: int, mean: float, deviation: float, clip: bool
    ) -> None:
        super().__init__()
        self.latent = latent
        self.clip = clip
        self.pseudo_inputs = nn.Parameter(mean + deviation * torch.randn(components, *data_shape))

    def noise(self) -> Mapping[str, NoiseSpec]:
        """Return no noise: log p(z) is exact."""
        return {}

    def bind(self, encode: Encode, noise: Mapping[str, Tensor]) -> BoundVampPrior:
        """Return the prior with the components of one pass: the pseudo-inputs are encoded once."""
        mean, log_std = self._components(encode)
        return BoundVampPrior(mean=mean, log_std=log_std)

    def sample_noise(self) -> Mapping[str, NoiseSpec]:
        """Return the noise of a sample: z, standard normal [latent]; component, one uniform number."""
        return {"z": NoiseSpec(shape=(self.latent,)), "component": NoiseSpec(shape=(1,), kind="uniform")}

    def sample(self, noise: Mapping[str, Tensor], encode: Encode) -> Float[Tensor, "batch latent"]:
        """Draw a component, each as likely as the others, then z from it."""
        mean, log_std = self._components(encode)
        chosen = (noise["component"][:, 0] * mean.shape[0]).long().clamp(max=mean.shape[0] - 1)
        return mean[chosen] + log_std[chosen].exp() * noise["z"]

    def _components(self, encode: Encode) -> tuple[Tensor, Tensor]:
        """Return mean and log std of the components, each [components, latent]."""
        inputs = self.pseudo_inputs.clamp(0, 1) if self.clip else self.pseudo_inputs
        mean, log_std = encode(inputs)
        return mean, log_std.clamp(LOG_VARIANCE[0] / 2, LOG_VARIANCE[1] / 2)


@dataclass(frozen=True, kw_only=True)
class BoundVampPrior:
    """The mixture of one pass. mean, log_std: [components, latent]."""

    mean: Tensor
    log_std: Tensor

    def log_prob(self, z: Float[Tensor, "batch latent"]) -> Float[Tensor, " batch"]:
        """Return log (1/M) sum_m N(z; mean_m, sigma_m^2), [batch], nats per datum."""
        inverse = torch.exp(-self.log_std)
        standard = (z.unsqueeze(1) - self.mean) * inverse
        log_each = (-0.5 * standard.square() - HALF_LOG_TWO_PI - self.log_std).sum(-1)
        return torch.logsumexp(log_each, dim=1) - math.log(self.mean.shape[0])

    def normal_kl(self, mean: Tensor, log_std: Tensor) -> None:
        """Return None: there is no closed form."""
        return
