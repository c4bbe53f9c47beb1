"""Networks whose output is a diagonal normal distribution."""

from __future__ import annotations

from itertools import pairwise

from jaxtyping import Float
from torch import Tensor, nn

from vae_models.nn.dense import dense
from vae_models.nn.gated import GatedLinear
from vae_models.nn.heads import PosteriorHeads
from vae_models.precision import full


class ConditionalNormal(nn.Module):
    """N(mean(u), diag sigma(u)^2): hidden layers, then linear heads for the mean and the log-variance.

    gated: hidden layers are `GatedLinear`s without any other activation (VHP table 3, "linear activation").
    """

    def __init__(self, inputs: int, outputs: int, *, hidden: tuple[int, ...], activation: str, gated: bool) -> None:
        super().__init__()
        widths = (inputs, *hidden)
        self.body = (
            nn.Sequential(*(GatedLinear(a, b) for a, b in pairwise(widths))) if gated else dense(widths, activation)
        )
        self.heads = PosteriorHeads(widths[-1], outputs, scale=True)

    def forward(
        self, u: Float[Tensor, "batch inputs"]
    ) -> tuple[Float[Tensor, "batch outputs"], Float[Tensor, "batch outputs"]]:
        """Return (mean, log sigma)."""
        mean, log_variance = self.heads(self.body(u))
        return full(mean), full(log_variance) / 2
