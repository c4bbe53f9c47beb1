"""How many latent dimensions a model uses."""

from __future__ import annotations

from jaxtyping import Float
from torch import Tensor

ACTIVE_VARIANCE = 0.01  # Burda et al.'s threshold, in units of the prior's variance


def active_units(means: Float[Tensor, "data latent"], threshold: float = ACTIVE_VARIANCE) -> int:
    """#{u : Var_x(E_q[z_u | x]) > threshold}, over all data of a split (Burda et al. 2016, section 5; VHP D.2).

    `means` are the posterior means, `Latent.mean`, of at least two data. The variance is the unbiased one, in float64.
    """
    if means.shape[0] < 2:
        raise ValueError(f"active units need the posterior means of at least 2 data, got {means.shape[0]}")
    return int((means.double().var(0) > threshold).sum())
