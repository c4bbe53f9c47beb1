"""One stochastic layer between an encoder and a decoder."""

from __future__ import annotations

from collections.abc import Mapping

from jaxtyping import Float
from torch import Tensor, nn

from vae_models.protocols import Backbone, Likelihood, Posterior, Prior
from vae_models.records import NoiseSpec, Trace


class VAE(nn.Module):
    """x -> q(z|x) -> z -> p(x|z), with prior p(z): a pure function of x, the noise and the parameters.

    Nothing is drawn inside and no Python branch depends on a value, so `torch.func.functional_call`, `vmap`, `grad` and
    CUDA graph capture work on it as it is. A part that is an `nn.Module` has its parameters found here.
    """

    def __init__(
        self, *, backbone: Backbone, likelihood: Likelihood, prior: Prior, posterior: Posterior, latent: int
    ) -> None:
        """latent: dimensions of z."""
        super().__init__()
        self.backbone = backbone
        self.likelihood = likelihood
        self.prior = prior
        self.posterior = posterior
        self.latent = latent

    def noise(self) -> Mapping[str, NoiseSpec]:
        """z: standard normal [latent] per datum."""
        return {"z": NoiseSpec(shape=(self.latent,))}

    def forward(self, x: Float[Tensor, "batch *data"], noise: Mapping[str, Tensor]) -> Trace:
        """x [batch, *data] and noise {"z": [batch, latent]} -> one pass, in nats per datum."""
        mean, raw = self.backbone.encode(x)
        latent = self.posterior.latent("z", mean, raw, noise["z"], self.prior)
        decoded = self.backbone.decode(latent.sample)
        return Trace(
            target=x,
            latents=(latent,),
            decoded=decoded,
            mean=self.likelihood.mean(decoded),
            distortion=-self.likelihood.log_prob(decoded, x),
        )

    def decode(self, z: Float[Tensor, "batch latent"]) -> Float[Tensor, "batch *data"]:
        """E[x|z]."""
        return self.likelihood.mean(self.backbone.decode(z))

    def prior_noise(self) -> Mapping[str, NoiseSpec]:
        """The noise that `sample_mean` needs. z: standard normal [latent] per datum."""
        return {"z": NoiseSpec(shape=(self.latent,))}

    def sample_mean(self, noise: Mapping[str, Tensor]) -> Float[Tensor, "batch *data"]:
        """E[x|z] of z ~ p(z): what a picture of samples shows."""
        return self.decode(self.prior.sample(noise["z"]))
