"""q(z|x)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from vae_models.config.base import Strict

if TYPE_CHECKING:
    from vae_models.posteriors import DiagonalNormal


class DiagonalNormalConfig(Strict):
    """N(mean(x), diag sigma(x)^2)."""

    kind: Literal["diagonal-normal"] = "diagonal-normal"

    def build(self) -> DiagonalNormal:
        from vae_models.posteriors import DiagonalNormal

        return DiagonalNormal()
