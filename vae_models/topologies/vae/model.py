"""One stochastic layer between an encoder and a decoder."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from jaxtyping import Float
from torch import Tensor, nn

from vae_models.precision import full
from vae_models.protocols import Backbone, LatentLayer, Likelihood, Posterior, Prior
from vae_models.records import Encoding, NoiseSpec, Trace
from vae_models.topologies.groups import grouped
from vae_models.topologies.likelihood import X_NOISE, can_be_sampled, distortions

LATENT = "z"


class VAE(nn.Module):
    """x -> q(z|x) -> z -> p(x|z), with prior p(z): a pure function of x, the noise and the parameters.

    Nothing is drawn inside and no Python branch depends on a value, so `torch.func.functional_call`, `vmap`, `grad` and
    CUDA graph capture work on it as it is. A part that is an `nn.Module` has its parameters found here.
    """

    def __init__(
        self,
        *,
        backbone: Backbone,
        likelihood: Likelihood,
        prior: Prior,
        posterior: Posterior,
        latent: int,
        data_shape: tuple[int, ...],
    ) -> None:
        """Join the parts. latent: dimensions of z. data_shape: of one datum."""
        super().__init__()
        self.backbone = backbone
        self.likelihood = likelihood
        self.prior = prior
        self.posterior = posterior
        self.latent = latent
        self.data_shape = data_shape

    @property
    def bound(self) -> bool:
        """Return whether the posterior has a density, so that -(distortion + rate) is a lower bound."""
        return self.posterior.bound

    @property
    def sampled(self) -> bool:
        """Return whether x can be drawn from the likelihood."""
        return can_be_sampled(self.likelihood)

    def parts(self) -> Mapping[str, object]:
        """Return backbone, likelihood, prior and posterior by name."""
        return {name: getattr(self, name) for name in ("backbone", "likelihood", "prior", "posterior")}

    def latents(self) -> Mapping[str, LatentLayer]:
        """Return the one latent, z."""
        return {LATENT: LatentLayer(shape=(self.latent,), prior=self.prior, posterior=self.posterior)}

    def groups(self) -> Mapping[str, Sequence[nn.Parameter]]:
        """Return the parameters of its parts; what the backbone has beside its decoder is the encoder's."""
        parts = {"prior": (self.prior,), "posterior": (self.posterior,), "likelihood": (self.likelihood,)}
        return grouped({"decoder": (self.backbone.decoder,), "encoder": (self.backbone,), **parts})

    def noise(self, samples: int = 1) -> Mapping[str, NoiseSpec]:
        """Return the noise of a pass: z, standard normal [latent] per datum, and `prior/...`, the prior's noise.

        With more than one sample each has a leading axis [samples, ...].
        """
        own = {LATENT: NoiseSpec(shape=(self.latent,))}
        own |= {f"prior/{name}": spec for name, spec in self.prior.noise().items()}
        if samples == 1:
            return own
        return {name: NoiseSpec(shape=(samples, *spec.shape), kind=spec.kind) for name, spec in own.items()}

    def forward(
        self,
        x: Float[Tensor, "batch *data"],
        noise: Mapping[str, Tensor],
        beta: Tensor | None = None,
        mask: Tensor | None = None,
    ) -> Trace:
        """Return one pass over x [batch, *data], noise by name as `noise` declares, in nats per datum. beta is ignored.

        The number of posterior samples is that of the noise: z [batch, latent] or [batch, samples, latent].
        """
        return self._trace(x, *self._encoded(x), noise, mask)

    def encode(self, x: Float[Tensor, "batch *data"], beta: Tensor | None = None) -> Encoding:
        """Return the parameters of q(z|x). beta is ignored."""
        mean, raw = self._encoded(x)
        log_std = None
        if self.posterior.bound:
            mean, log_std = self.posterior.normal(mean, raw)
        return Encoding(mean=mean, log_std=log_std, raw=raw)

    def trace(
        self,
        x: Float[Tensor, "batch *data"],
        encoding: Encoding,
        noise: Mapping[str, Tensor],
        beta: Tensor | None = None,
        mask: Tensor | None = None,
    ) -> Trace:
        """Return the same as `forward`, with the encoder's part of it given. beta is ignored."""
        return self._trace(x, encoding.mean, encoding.raw, noise, mask)

    def _trace(
        self, x: Tensor, mean: Tensor, raw: Tensor | None, noise: Mapping[str, Tensor], mask: Tensor | None
    ) -> Trace:
        several = noise[LATENT].ndim == 3
        samples = noise[LATENT].shape[1] if several else 1
        rows = {name: value.flatten(0, 1) if several else value for name, value in noise.items()}
        prior_noise = {name.removeprefix("prior/"): rows[name] for name in rows if name.startswith("prior/")}
        if several:  # encode once, decode every sample
            x, mean = x.repeat_interleave(samples, 0), mean.repeat_interleave(samples, 0)
            raw = None if raw is None else raw.repeat_interleave(samples, 0)
            mask = None if mask is None else mask.repeat_interleave(samples, 0)
        prior = self.prior.bind(self._normal, prior_noise)
        latent = self.posterior.latent(LATENT, mean, raw, rows[LATENT], prior)
        decoded = full(self.backbone.decode(latent.sample))
        reconstruction, distortion = distortions(self.likelihood, decoded, x, mask)
        return Trace(
            target=x,
            latents=(latent,),
            decoded=decoded,
            mean=self.likelihood.mean(decoded),
            distortion=distortion,
            reconstruction=reconstruction,
            samples=samples,
            bound=self.bound,
            mask=mask,
        )

    def decode(self, z: Float[Tensor, "batch latent"], beta: Tensor | None = None) -> Float[Tensor, "batch *data"]:
        """Return E[x|z]."""
        return self.likelihood.mean(self.backbone.decode(z))

    def decoded(self, z: Float[Tensor, "batch latent"], beta: Tensor | None = None) -> Tensor:
        """Return the likelihood's parameters of z."""
        return self.backbone.decode(z)

    def sample_prior(self, noise: Mapping[str, Tensor], beta: Tensor | None = None) -> Float[Tensor, "batch latent"]:
        """Draw z ~ p(z)."""
        return self.prior.sample(noise, self._normal)

    def prior_noise(self) -> Mapping[str, NoiseSpec]:
        """Return the noise that `sample_mean` needs: the prior's."""
        return self.prior.sample_noise()

    def sample_mean(self, noise: Mapping[str, Tensor], beta: Tensor | None = None) -> Float[Tensor, "batch *data"]:
        """Return E[x|z] of z ~ p(z)."""
        return self.decode(self.prior.sample(noise, self._normal))

    def sample_noise(self) -> Mapping[str, NoiseSpec]:
        """Return the noise that `sample` needs: the prior's, and uniform noise of the data's shape."""
        return {**self.prior_noise(), X_NOISE: NoiseSpec(shape=self.data_shape, kind="uniform")}

    def sample(self, noise: Mapping[str, Tensor], beta: Tensor | None = None) -> Float[Tensor, "batch *data"]:
        """Draw x ~ p(x|z) of z ~ p(z)."""
        z = self.prior.sample(noise, self._normal)
        return self.likelihood.sample(self.backbone.decode(z), noise[X_NOISE])

    def _normal(self, x: Float[Tensor, "batch *data"]) -> tuple[Tensor, Tensor]:
        """Return mean and log std of q(z|x): for priors that are mixtures of posteriors."""
        return self.posterior.normal(*self._encoded(x))

    def _encoded(self, x: Float[Tensor, "batch *data"]) -> tuple[Tensor, Tensor | None]:
        mean, raw = self.backbone.encode(x)
        return full(mean), None if raw is None else full(raw)
