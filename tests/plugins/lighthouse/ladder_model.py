"""x -> z1 -> z2 and back, every way linear."""

from __future__ import annotations

import math

from torch import nn

from lighthouse.conditional import Conditional, halves
from vae_models.posteriors.normal import DiagonalNormal, normal_latent
from vae_models.priors.standard_normal import StandardNormal
from vae_models.protocols import LatentLayer
from vae_models.records import NoiseSpec, Trace
from vae_models.topologies.groups import grouped
from vae_models.topologies.likelihood import distortions


class Ladder(nn.Module):
    bound = sampled = True

    def __init__(self, likelihood, data_shape, latent) -> None:
        super().__init__()
        self.likelihood, self.data_shape, self.latent = likelihood, data_shape, latent
        elements, numbers = math.prod(data_shape), likelihood.parameters_per_element()
        self.up1 = nn.Sequential(nn.Flatten(), nn.Linear(elements, 2 * latent))
        self.up2, self.down2 = nn.Linear(latent, 2 * latent), nn.Linear(latent, 2 * latent)
        unflatten = nn.Unflatten(1, (data_shape[0] * numbers, *data_shape[1:]))
        self.down1 = nn.Sequential(nn.Linear(latent, elements * numbers), unflatten)
        self.layer = LatentLayer(shape=(latent,), prior=StandardNormal(latent=latent), posterior=DiagonalNormal())

    def latents(self):
        return {"z1": self.layer, "z2": self.layer}

    def groups(self):
        ways = {"decoder": (self.down1,), "prior": (self.down2,), "encoder": (self.up1, self.up2)}
        return grouped({**ways, "likelihood": (self.likelihood,)})

    def noise(self, samples=1):
        shape = (self.latent,) if samples == 1 else (samples, self.latent)
        return {"z1": NoiseSpec(shape=shape), "z2": NoiseSpec(shape=shape)}

    def forward(self, x, noise, beta=None, mask=None):
        samples = noise["z1"].shape[1] if noise["z1"].ndim == 3 else 1
        x, n1, n2 = x.repeat_interleave(samples, 0), noise["z1"].flatten(0, -2), noise["z2"].flatten(0, -2)
        mean, log_std = halves(self.up1, x)
        top = normal_latent("z2", *halves(self.up2, mean + log_std.exp() * n1), n2, self.layer.prior)
        low = normal_latent("z1", mean, log_std, n1, Conditional(*halves(self.down2, top.sample)))
        decoded = self.down1(low.sample)
        wanted, said = distortions(self.likelihood, decoded, x, mask)
        return Trace(
            target=x, latents=(low, top), decoded=decoded, mean=self.likelihood.mean(decoded), distortion=said,
            reconstruction=wanted, samples=samples, mask=mask,
        )  # fmt: skip
