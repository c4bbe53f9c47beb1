"""Laws of z, and what samplers share: the noise of x, the temperature, and samples by way of z."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping

from torch import Tensor

from vae_models.protocols import LatentSpace, Model
from vae_models.records import NoiseSpec


class LatentLaw(ABC):
    """A law of z, [n, latent], from which a model of one latent vector makes samples of x."""

    @abstractmethod
    def noise(self, model: Model) -> Mapping[str, NoiseSpec]:
        """Return the noise of a z, by name."""

    @abstractmethod
    def z(self, model: Model, noise: Mapping[str, Tensor], beta: Tensor | None = None) -> Tensor:
        """Draw z, [n, latent]; noise: a row for each."""

    def means(self, model: Model, noise: Mapping[str, Tensor], beta: Tensor | None = None) -> Tensor:
        """Return E[x|z] of each z, [n, *data]."""
        return space_of(model).decode(self.z(model, noise, beta), beta)

    def draws(self, model: Model, noise: Mapping[str, Tensor], beta: Tensor | None = None) -> Tensor:
        """Draw x ~ p(x|z) of each z, [n, *data]; noise: that of z and that of `x_noise`."""
        space, (name,) = space_of(model), x_noise(model)
        return space.likelihood.sample(space.decoded(self.z(model, noise, beta), beta), noise[name])


def space_of(model: Model) -> LatentSpace:
    """Return the model as one of a single latent vector. Raise ValueError where it is none."""
    if not isinstance(model, LatentSpace):
        names = ", ".join(model.latents())
        raise ValueError(f"a law of one latent vector makes no samples of a model with {names}: choose prior")
    return model


def x_noise(model: Model) -> Mapping[str, NoiseSpec]:
    """Return the noise of x ~ p(x|z) alone: what a sample needs beyond that of its z."""
    of_z = model.prior_noise()
    return {name: spec for name, spec in model.sample_noise().items() if name not in of_z}


def tempered(noise: Mapping[str, Tensor], specs: Mapping[str, NoiseSpec], temperature: float) -> Mapping[str, Tensor]:
    """Return the noise of a law of z at a temperature: what is normal is scaled by it, what is uniform is not.

    So every standard deviation of the law is multiplied by it: of N(0, I), of a mixture's components, which stay as
    likely as they were, and at each layer of a hierarchy. Raise ValueError for a law that draws nothing normal.
    """
    if temperature == 1:
        return noise
    if not any(spec.kind == "normal" for spec in specs.values()):
        raise ValueError(
            f"a temperature of {temperature:g} scales normal noise, and this law of z has none: leave it 1"
        )
    return {name: temperature * value if specs[name].kind == "normal" else value for name, value in noise.items()}
