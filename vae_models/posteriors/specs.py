"""q(z|x)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, ClassVar, Literal

from pydantic import Field

from vae_models import bounds
from vae_models.strict import Strict

if TYPE_CHECKING:
    from vae_models.posteriors.normal import Delta, DiagonalNormal, IsotropicNormal


class DiagonalNormalConfig(Strict):
    """N(mean(x), diag sigma(x)^2)."""

    bound: ClassVar[bool] = True

    kind: Literal["diagonal-normal"] = "diagonal-normal"

    def build(self) -> DiagonalNormal:
        from vae_models.posteriors.normal import DiagonalNormal

        return DiagonalNormal()


class IsotropicNormalConfig(Strict):
    """N(mean(x), sigma^2 I): one sigma for all data and dimensions."""

    bound: ClassVar[bool] = True

    fusible: ClassVar[tuple[str, ...]] = ("sigma",)

    kind: Literal["isotropic-normal"] = "isotropic-normal"
    sigma: float = Field(
        default=1.0, gt=0, le=bounds.REAL, description="standard deviation of z: fixed, or where a trained one starts"
    )
    fit: Literal["fixed", "trained"] = "trained"

    def build(self) -> IsotropicNormal:
        from vae_models.posteriors.normal import IsotropicNormal

        return IsotropicNormal(sigma=self.sigma, trained=self.fit == "trained")


class DeltaConfig(Strict):
    """z = mean(x): a deterministic encoder, without rate or bound."""

    bound: ClassVar[bool] = False

    kind: Literal["delta"] = "delta"

    def build(self) -> Delta:
        from vae_models.posteriors.normal import Delta

        return Delta()


PosteriorConfig = Annotated[DiagonalNormalConfig | IsotropicNormalConfig | DeltaConfig, Field(discriminator="kind")]
