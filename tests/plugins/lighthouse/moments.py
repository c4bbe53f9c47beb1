"""The law of `aggregate`, and how it is fitted."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from vae_models.records import NoiseSpec
from vae_models.samplers.laws import LatentLaw


@dataclass(frozen=True, kw_only=True)
class DiagonalNormal(LatentLaw):
    """mean, std: [latent]."""

    mean: Tensor
    std: Tensor

    def noise(self, model):
        return {"z": NoiseSpec(shape=tuple(self.mean.shape))}

    def z(self, model, noise, beta=None):
        return self.mean + self.std * noise["z"]


class Moments:
    """E z and Var z = E Var(z|x) + Var E[z|x] of each dimension."""

    def fit(self, posteriors, *, seed, device, tell):
        variance = posteriors.mean.var(0, correction=0)
        if posteriors.log_std is not None:
            variance = variance + (2 * posteriors.log_std).exp().mean(0)
        return {"mean": posteriors.mean.mean(0), "std": variance.sqrt()}

    def law(self, fitted, device):
        return DiagonalNormal(mean=fitted["mean"].to(device), std=fitted["std"].to(device))

    def notes(self, fitted):
        return ()
