"""The ladder: groups of latents over scales, every group's prior and posterior given the ones above it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from vae_models.nn.norm import BatchNorm2d
from vae_models.nn.weight_norm import Spectrum
from vae_models.normal import sum_per_datum
from vae_models.posteriors.normal import DiagonalNormal
from vae_models.precision import full
from vae_models.priors.standard_normal import StandardNormal
from vae_models.protocols import LatentLayer, Likelihood
from vae_models.records import Latent, NoiseSpec, Trace
from vae_models.topologies.groups import grouped
from vae_models.topologies.ladder.cells import Cell
from vae_models.topologies.ladder.normal import Normal
from vae_models.topologies.ladder.plan import Plan
from vae_models.topologies.ladder.towers import Decoder, Encoder
from vae_models.topologies.likelihood import X_NOISE, can_be_sampled, distortions


@dataclass(frozen=True, kw_only=True)
class Descended:
    """The way down, gone. latents: top-down."""

    latents: tuple[Latent, ...]
    decoded: Tensor


class Ladder(nn.Module):
    """NVAE (Vahdat and Kautz 2020): q(z|x) = prod_l q(z_l | z_<l, x), p(z) = p(z_1) prod_l p(z_l | z_<l).

    p(z_1) is N(0, I). Of the others, with mu and sigma of the prior that the state says, the posterior is
    N(mu + Delta mu, sigma Delta sigma), both sums soft-clamped: it is told relative to its prior. x in [0, 1] is read
    as 2x - 1, padded to a side that can be halved often enough; the decoder's parameters are cropped back.
    """

    bound = True

    def __init__(
        self,
        plan: Plan,
        likelihood: Likelihood,
        *,
        latent: int,
        data_shape: tuple[int, ...],
        squeeze: bool,
        spectrum: bool,
    ) -> None:
        """Build both towers. latent: channels of each group's z. spectrum: keep singular vectors, for an objective."""
        super().__init__()
        channels, *size = data_shape
        self.plan, self.data_shape, self.latent = plan, data_shape, latent
        self.encoder = Encoder(plan, image_channels=channels, latent=latent, squeeze=squeeze)
        outputs = channels * likelihood.parameters_per_element()
        self.decoder = Decoder(plan, outputs=outputs, latent=latent, squeeze=squeeze)
        self.likelihood = likelihood
        convolutions = [module for module in self.modules() if isinstance(module, nn.Conv2d)]
        self.spectrum = Spectrum(convolutions) if spectrum else None
        self._margins = _margins((size[0], size[1]), plan.padded)

    @property
    def sampled(self) -> bool:
        """Return whether x can be drawn from the likelihood."""
        return can_be_sampled(self.likelihood)

    def latents(self) -> Mapping[str, LatentLayer]:
        """Return every group, nearest to x first; a prior here is that of the group's standardized latents."""
        layers = {}
        for place, group in reversed(list(enumerate(self.plan.groups, start=1))):
            shape = (self.latent, *group.side)
            prior = StandardNormal(latent=self.latent)
            layers[f"z{place}"] = LatentLayer(shape=shape, prior=prior, posterior=DiagonalNormal())
        return layers

    def groups(self) -> Mapping[str, Sequence[nn.Parameter]]:
        """Return the parameters by role; what says the priors is the "prior"."""
        parts = {"prior": (self.decoder.prior,), "decoder": (self.decoder,), "encoder": (self.encoder,)}
        return grouped({**parts, "likelihood": (self.likelihood,)})

    def cells(self) -> Sequence[nn.Module]:
        """Return the residual cells of both towers."""
        return [module for module in self.modules() if isinstance(module, Cell)]

    def noise(self, samples: int = 1) -> Mapping[str, NoiseSpec]:
        """Return standard normal noise for each group."""
        lead = () if samples == 1 else (samples,)
        return {name: NoiseSpec(shape=(*lead, *layer.shape)) for name, layer in self.latents().items()}

    def forward(
        self,
        x: Float[Tensor, "batch channels height width"],
        noise: Mapping[str, Tensor],
        beta: Tensor | None = None,
        mask: Tensor | None = None,
    ) -> Trace:
        """Return one pass; x is encoded once for all its samples. beta is ignored, and there is no padding."""
        several = noise["z1"].ndim == 5
        samples = noise["z1"].shape[1] if several else 1
        rows = {name: value.flatten(0, 1) if several else value for name, value in noise.items()}
        taps = self.encoder.taps(F.pad(2 * x - 1, self._margins, value=-1.0))
        if several:
            taps = tuple(tap.repeat_interleave(samples, 0) for tap in taps)
            x = x.repeat_interleave(samples, 0)
        down = self._descend(taps, rows)
        reconstruction, distortion = distortions(self.likelihood, down.decoded, x, mask)
        return Trace(
            target=x,
            latents=tuple(reversed(down.latents)),
            decoded=down.decoded,
            mean=self.likelihood.mean(down.decoded),
            distortion=distortion,
            reconstruction=reconstruction,
            samples=samples,
            mask=mask,
        )

    def prior_noise(self) -> Mapping[str, NoiseSpec]:
        """Return the noise of every group."""
        return self.noise()

    def sample_mean(self, noise: Mapping[str, Tensor], beta: Tensor | None = None) -> Tensor:
        """Return E[x|z] of z ~ p(z); of noise times a temperature every sigma of the prior is multiplied by it."""
        return self.likelihood.mean(self._dream(noise))

    def sample_noise(self) -> Mapping[str, NoiseSpec]:
        """Return the noise of every group, and uniform noise of the data's shape."""
        return {**self.prior_noise(), X_NOISE: NoiseSpec(shape=self.data_shape, kind="uniform")}

    def sample(self, noise: Mapping[str, Tensor], beta: Tensor | None = None) -> Tensor:
        """Draw x ~ p(x|z) of z ~ p(z)."""
        return self.likelihood.sample(self._dream(noise), noise[X_NOISE])

    # --- what an objective penalizes --------------------------------------------------------------------------------

    def spectral_norm(self) -> Tensor:
        """Return the sum of the convolutions' largest singular values, []. Raise TypeError where none are kept."""
        if self.spectrum is None:
            raise TypeError("this model keeps no singular vectors: set model.spectrum")
        total: Tensor = self.spectrum()
        return total

    def norm_scale(self) -> Tensor:
        """Return the sum over the batch norms of their largest |gamma|, []."""
        scales = [norm.weight.abs().max() for norm in self.modules() if isinstance(norm, BatchNorm2d)]
        return torch.stack(scales).sum()

    def balance(self) -> Tensor:
        """Return alpha of each group, nearest to x first, [groups]: 4^scale / groups of that scale, smallest 1.

        scale 0 is the smallest image (NVAE, appendix A): a group on more pixels may say more.
        """
        groups = self.plan.groups
        sizes = [4.0**group.scale / sum(other.scale == group.scale for other in groups) for group in groups]
        return self.decoder.constant.new_tensor(sizes).flip(0) / min(sizes)

    # --- the way down -----------------------------------------------------------------------------------------------

    def _descend(self, taps: Sequence[Tensor], noise: Mapping[str, Tensor]) -> Descended:
        state, latents = self.decoder.start(len(taps[0])), list[Latent]()
        for step, descent in self.decoder.descents():
            if descent is None:
                state = step(state)
                continue
            state = descent.cells(state)
            latent = self._latent(len(latents), taps, state, noise)
            latents.append(latent)
            state = descent.join(state, latent.sample)
        return Descended(latents=tuple(latents), decoded=full(self._cropped(self.decoder.end(state))))

    def _latent(self, group: int, taps: Sequence[Tensor], state: Tensor, noise: Mapping[str, Tensor]) -> Latent:
        mean, log_std = (full(each) for each in self.encoder.posterior(group, taps[group], state))
        if group:
            prior_mean, prior_log_std = (full(each) for each in self.decoder.prior(group, state))
            prior = Normal.clamped(prior_mean, prior_log_std)
            posterior = Normal.clamped(prior_mean + mean, prior_log_std + log_std)
        else:
            posterior = Normal.clamped(mean, log_std)
            prior = Normal(torch.zeros_like(mean), torch.ones_like(mean))
        name = f"z{group + 1}"
        z, rates = posterior.sample(noise[name]), posterior.kls(prior)
        return Latent(
            name=name,
            sample=z,
            mean=posterior.mean,
            log_std=posterior.log_std,
            log_q=posterior.log_prob(z),
            log_p=prior.log_prob(z),
            rate=sum_per_datum(rates),
            rates=rates,
        )

    def _dream(self, noise: Mapping[str, Tensor]) -> Tensor:
        state, group = self.decoder.start(len(noise["z1"])), 0
        for step, descent in self.decoder.descents():
            if descent is None:
                state = step(state)
                continue
            state = descent.cells(state)
            name = f"z{group + 1}"
            z = noise[name]
            if group:
                z = Normal.clamped(*self.decoder.prior(group, state)).sample(noise[name])
            state = descent.join(state, z)
            group += 1
        return self._cropped(self.decoder.end(state))

    def _cropped(self, parameters: Tensor) -> Tensor:
        left, _, top, _ = self._margins
        _, height, width = self.data_shape
        return parameters[:, :, top : top + height, left : left + width]


def _margins(size: tuple[int, int], padded: tuple[int, int]) -> tuple[int, int, int, int]:
    """Return how many pixels are added at the left, right, top and bottom."""
    height, width = padded[0] - size[0], padded[1] - size[1]
    return width // 2, width - width // 2, height // 2, height - height // 2
