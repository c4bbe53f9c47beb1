"""A ladder for every beta at once."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Unpack

from torch import Tensor, nn

from vae_models.topologies.ladder.model import Ladder
from vae_models.topologies.multi_rate import Gated, GatedParts, Gating


class MultiRateLadder(Gated[Ladder]):
    """A gated ladder: a gate after every convolution and linear layer of both towers but the output (MR-VAE, C.2).

    Affine gates are the 96,872 numbers between table 1's MR-NVAE, 8,950,118, and an NVAE with one output channel.
    """

    def __init__(self, model: Ladder, **gating: Unpack[Gating]) -> None:
        """Add gates to `model`, in place."""
        super().__init__(model, GatedParts(encoder=model.encoder, decoder=model.decoder), **gating)

    def cells(self) -> Sequence[nn.Module]:
        """Return the gated model's `cells`."""
        return self.model.cells()

    def balance(self) -> Tensor:
        """Return the gated model's `balance`."""
        return self.model.balance()

    def spectral_norm(self) -> Tensor:
        """Return the gated model's `spectral_norm`."""
        return self.model.spectral_norm()

    def norm_scale(self) -> Tensor:
        """Return the gated model's `norm_scale`."""
        return self.model.norm_scale()
