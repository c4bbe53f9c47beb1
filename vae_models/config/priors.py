"""p(z)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from vae_models.config.base import DataShape, Strict

if TYPE_CHECKING:
    from vae_models.priors.standard_normal import StandardNormal


class StandardNormalConfig(Strict):
    """N(0, I)."""

    kind: Literal["standard-normal"] = "standard-normal"

    def build(self, data_shape: DataShape, latent: int) -> StandardNormal:
        from vae_models.priors.standard_normal import StandardNormal

        return StandardNormal(latent=latent)
