"""Samples from the prior."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from torch import Tensor

from vae_models.protocols import Model
from vae_models.records import NoiseSpec
from vae_models.samplers.laws import space_of


@dataclass(frozen=True, kw_only=True)
class PriorSampler:
    """z ~ p(z) by the model's own way: of any model, also of one with several latents."""

    def noise(self, model: Model) -> Mapping[str, NoiseSpec]:
        """Return the prior's noise."""
        return model.prior_noise()

    def z(self, model: Model, noise: Mapping[str, Tensor], beta: Tensor | None = None) -> Tensor:
        """Draw z ~ p(z), [n, latent], of a model of one latent vector."""
        return space_of(model).sample_prior(noise, beta)

    def means(self, model: Model, noise: Mapping[str, Tensor], beta: Tensor | None = None) -> Tensor:
        """Return the model's own E[x|z] of z ~ p(z), [n, *data]."""
        return model.sample_mean(noise, beta)

    def draws(self, model: Model, noise: Mapping[str, Tensor], beta: Tensor | None = None) -> Tensor:
        """Draw x ~ p(x|z) of z ~ p(z) by the model's own way, [n, *data]."""
        return model.sample(noise, beta)

    def density_noise(self, model: Model) -> Mapping[str, NoiseSpec]:
        """Return the noise that the prior's log p(z) needs."""
        (layer,) = model.latents().values()
        return layer.prior.noise()

    def log_prob(self, model: Model, z: Tensor, noise: Mapping[str, Tensor], beta: Tensor | None = None) -> Tensor:
        """Return log p(z) of a model of one latent vector, [n], nats: a lower bound where the prior has one."""
        space, (layer,) = space_of(model), model.latents().values()

        def encode(x: Tensor) -> tuple[Tensor, Tensor]:
            encoding = space.encode(x, beta)
            assert encoding.log_std is not None  # a mixture of posteriors is refused where they have no density
            return encoding.mean, encoding.log_std

        return layer.prior.bind(encode, noise).log_prob(z)
