"""A VAE for every beta at once."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol, Unpack, runtime_checkable

from jaxtyping import Float
from torch import Tensor

from vae_models.nn.heads import PosteriorHeads
from vae_models.records import Encoding, Trace
from vae_models.topologies.multi_rate import Gated, GatedParts, Gating
from vae_models.topologies.vae.model import VAE


@runtime_checkable
class HasHeads(Protocol):
    """A backbone whose last layers give the parameters of q(z|x)."""

    @property
    def heads(self) -> PosteriorHeads: ...


class MultiRate(Gated[VAE]):
    """A gated VAE, whose encoder and decoder can be used apart, too: see `protocols.LatentSpace`."""

    def __init__(self, model: VAE, **gating: Unpack[Gating]) -> None:
        """Add gates to `model`, in place. Raise ValueError if it has nothing to gate."""
        backbone = model.backbone
        heads = backbone.heads if isinstance(backbone, HasHeads) else None
        super().__init__(model, GatedParts(encoder=backbone.encoder, decoder=backbone.decoder, heads=heads), **gating)

    def encode(self, x: Float[Tensor, "batch *data"], beta: Tensor | None = None) -> Encoding:
        """Return the parameters of q(z|x) at beta."""
        with self.at(beta, x):
            return self.model.encode(x)

    def trace(
        self,
        x: Float[Tensor, "batch *data"],
        encoding: Encoding,
        noise: Mapping[str, Tensor],
        beta: Tensor | None = None,
        mask: Tensor | None = None,
    ) -> Trace:
        """Return the same as `forward` at beta, with the encoder's part of it given."""
        with self.at(beta, x):
            return self.model.trace(x, encoding, noise, None, mask)

    def decoded(self, z: Float[Tensor, "batch latent"], beta: Tensor | None = None) -> Tensor:
        """Return the likelihood's parameters of z at beta."""
        with self.at(beta, z):
            return self.model.decoded(z)

    def sample_prior(self, noise: Mapping[str, Tensor], beta: Tensor | None = None) -> Float[Tensor, "batch latent"]:
        """Draw z ~ p(z) at beta."""
        with self.at(beta, next(iter(noise.values()))):
            return self.model.sample_prior(noise)

    def decode(self, z: Float[Tensor, "batch latent"], beta: Tensor | None = None) -> Float[Tensor, "batch *data"]:
        """Return E[x|z] at beta."""
        with self.at(beta, z):
            return self.model.decode(z)
