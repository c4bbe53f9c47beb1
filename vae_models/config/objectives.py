"""What is minimised."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from vae_models.config.base import Strict

if TYPE_CHECKING:
    from vae_models.objectives.elbo import Elbo


class ElboConfig(Strict):
    """distortion + beta x rate."""

    kind: Literal["elbo"] = "elbo"

    def build(self, data_size: int) -> Elbo:
        """data_size: data in the training split."""
        from vae_models.objectives.elbo import Elbo

        return Elbo()
