"""A learned hierarchical prior (Klushyn et al. 2019, "VHP")."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor, nn

from vae_models.nn.normal import ConditionalNormal
from vae_models.normal import log_density, log_standard
from vae_models.protocols import Encode
from vae_models.records import NoiseSpec


class VHP(nn.Module):
    """p(z) = integral p(z|zeta) N(zeta; 0, I) dzeta, bounded from below with an encoder q(zeta|z) of its own.

    log p(z) >= E log (1/K) sum_k p(z|zeta_k) p(zeta_k) / q(zeta_k|z),  zeta_k ~ q(zeta|z), k = 1 .. K

    the importance-weighted bound of K samples (Burda et al. 2016); K = 1 is the plain ELBO of the second layer (VHP
    B.4). Both networks are diagonal normals of fully connected nets; their log-variance is a second linear head. The
    rate log q(z|x) - log p(z) with this bound in it is not below the true one, so the ELBO stays a bound.
    """

    def __init__(self, *, latent: int, inner: int, importance_samples: int, q: nn.Module, p: nn.Module) -> None:
        """Take the two networks. inner: dimensions of zeta.

        q: z -> (mean, log sigma) of zeta; p: zeta -> (mean, log sigma) of z.
        """
        super().__init__()
        self.latent = latent
        self.inner = inner
        self.importance_samples = importance_samples
        self.q = q
        self.p = p

    @classmethod
    def of_widths(
        cls, *, latent: int, inner: int, importance_samples: int, hidden: tuple[int, ...], activation: str, gated: bool
    ) -> VHP:
        """Return the prior whose two networks have the same hidden widths."""

        def net(inputs: int, outputs: int) -> nn.Module:
            return ConditionalNormal(inputs, outputs, hidden=hidden, activation=activation, gated=gated)

        return cls(
            latent=latent,
            inner=inner,
            importance_samples=importance_samples,
            q=net(latent, inner),
            p=net(inner, latent),
        )

    def noise(self) -> Mapping[str, NoiseSpec]:
        """Return the noise of the bound: zeta, standard normal [K, inner] per latent sample."""
        return {"zeta": NoiseSpec(shape=(self.importance_samples, self.inner))}

    def bind(self, encode: Encode, noise: Mapping[str, Tensor]) -> BoundVHP:
        return BoundVHP(prior=self, zeta=noise["zeta"])

    def log_weights(
        self, z: Float[Tensor, "batch latent"], noise: Float[Tensor, "batch samples inner"]
    ) -> Float[Tensor, "batch samples"]:
        """Return log p(z|zeta_k) + log p(zeta_k) - log q(zeta_k|z), zeta_k = mean(z) + sigma(z) noise_k, nats."""
        batch, samples, _ = noise.shape
        mean, log_sigma = (value.unsqueeze(1) for value in self.q(z))
        zeta = (mean + log_sigma.exp() * noise).flatten(0, 1)
        log_q = log_standard(noise.flatten(0, 1)).view(batch, samples) - log_sigma.sum(-1)
        of_z = (value.view(batch * samples, -1) for value in self.p(zeta))
        log_p = log_density(z.repeat_interleave(samples, 0), *of_z) + log_standard(zeta)
        weights: Tensor = log_p.view(batch, samples) - log_q
        return weights

    def inner_posterior(
        self, z: Float[Tensor, "batch latent"]
    ) -> tuple[Float[Tensor, "batch inner"], Float[Tensor, "batch inner"]]:
        """Return mean and log standard deviation of q(zeta|z), z ~ q(z|x), whose KL VHP D.2 measures."""
        mean, log_sigma = self.q(z)
        return mean, log_sigma

    def sample_noise(self) -> Mapping[str, NoiseSpec]:
        """Return the noise of a sample: zeta and z, standard normal [inner] and [latent]."""
        return {"zeta": NoiseSpec(shape=(self.inner,)), "z": NoiseSpec(shape=(self.latent,))}

    def sample(self, noise: Mapping[str, Tensor], encode: Encode) -> Float[Tensor, "batch latent"]:
        """Draw z ~ p(z|zeta), zeta ~ N(0, I)."""
        mean, log_sigma = self.p(noise["zeta"])
        z: Tensor = mean + log_sigma.exp() * noise["z"]
        return z


@dataclass(frozen=True, kw_only=True)
class BoundVHP:
    """The prior of one pass, with its noise."""

    prior: VHP
    zeta: Tensor

    def log_prob(self, z: Float[Tensor, "batch latent"]) -> Float[Tensor, " batch"]:
        """Return the lower bound on log p(z), [batch], nats per datum."""
        weights = self.prior.log_weights(z, self.zeta)
        return torch.logsumexp(weights, dim=1) - math.log(weights.shape[1])

    def normal_kl(self, mean: Tensor, log_std: Tensor) -> None:
        """Return None: there is no closed form."""
        return
