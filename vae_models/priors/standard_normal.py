"""p(z) = N(0, I)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from jaxtyping import Float
from torch import Tensor

from vae_models.normal import kl_to_standard, log_standard
from vae_models.protocols import Encode
from vae_models.records import NoiseSpec


@dataclass(frozen=True, kw_only=True)
class StandardNormal:
    """p(z) = N(z; 0, I). latent: dimensions of z."""

    latent: int

    def noise(self) -> Mapping[str, NoiseSpec]:
        """Return no noise: log p(z) is exact."""
        return {}

    def bind(self, encode: Encode, noise: Mapping[str, Tensor]) -> StandardNormal:
        return self

    def log_prob(self, z: Float[Tensor, "batch latent"]) -> Float[Tensor, " batch"]:
        """Return log p(z) = -|z|^2 / 2 - (latent / 2) log(2 pi), [batch], nats per datum."""
        return log_standard(z)

    def normal_kl(
        self, mean: Float[Tensor, "batch latent"], log_std: Float[Tensor, "batch latent"]
    ) -> Float[Tensor, " batch"]:
        """Return KL(N(mean, sigma^2) || N(0, I)) in closed form, [batch], nats per datum."""
        return kl_to_standard(mean, log_std)

    def sample_noise(self) -> Mapping[str, NoiseSpec]:
        """Return the noise of a sample: z, standard normal [latent]."""
        return {"z": NoiseSpec(shape=(self.latent,))}

    def sample(self, noise: Mapping[str, Tensor], encode: Encode) -> Float[Tensor, "batch latent"]:
        """Return the noise z itself, a sample of N(0, I)."""
        return noise["z"]
