"""From features to the parameters of q(z|x)."""

from __future__ import annotations

from jaxtyping import Float
from torch import Tensor, nn


class PosteriorHeads(nn.Module):
    """Two linear maps of the same features, to the mean and to the raw scale of q(z|x); `scale=False`: the mean alone.

    A posterior of fixed variance reads no scale, and a layer that nothing reads has no gradient.
    """

    def __init__(self, features: int, latent: int, *, scale: bool) -> None:
        super().__init__()
        self.mean = nn.Linear(features, latent)
        self.raw = nn.Linear(features, latent) if scale else None  # gates may be put on both: `gates.add_head_gates`

    def forward(
        self, features: Float[Tensor, "batch features"]
    ) -> tuple[Float[Tensor, "batch latent"], Float[Tensor, "batch latent"] | None]:
        return self.mean(features), None if self.raw is None else self.raw(features)
