"""A VAE of sentences for every beta at once."""

from __future__ import annotations

from typing import Unpack

from torch import Tensor

from vae_models.topologies.multi_rate import Gated, GatedParts, Gating
from vae_models.topologies.text.model import SentenceVAE


class MultiRateSentenceVAE(Gated[SentenceVAE]):
    """A gated VAE of sentences: gates after both embeddings, the encoder's last state, every layer from there to q(z|x)
    and the decoder's first state (MR-VAE C.2, as its code has them).

    With deep heads and affine gates that are table 1's 9,351,632 numbers at a vocabulary of 10,000: over the 8,821,072
    of a model of one beta 2 (512 x 513) of the heads' hidden layers, 2 (1,024 + 64) of the heads' gates, and 3,072 of
    the gates of two embeddings (512 each), the encoder's state and the decoder's (1,024 each).
    """

    given = SentenceVAE.given

    def __init__(self, model: SentenceVAE, **gating: Unpack[Gating]) -> None:
        """Add gates to `model`, in place."""
        super().__init__(model, GatedParts(encoder=model.encoder, decoder=model.decoder), **gating)

    def decode(self, z: Tensor, beta: Tensor | None = None) -> Tensor:
        """Return the likeliest sentence of each z, [batch, time], at beta."""
        with self.at(beta, z):
            return self.model.decode(z)
