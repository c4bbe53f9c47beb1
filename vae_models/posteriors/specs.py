"""q(z|x), as data: which posteriors have a density, and what they read of the encoder."""

from __future__ import annotations

from abc import abstractmethod
from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import Field

from vae_models import bounds
from vae_models.parts import Seam, spec_of
from vae_models.strict import Strict

if TYPE_CHECKING:
    from vae_models.posteriors.normal import Delta, DiagonalNormal, IsotropicNormal
    from vae_models.protocols import Posterior


class PosteriorSpec(Strict):
    """A posterior q(z|x), as data.

    bound:     whether it has a density, so that -(distortion + rate) is a lower bound on log p(x)
    scale:     whether it reads a raw scale beside the mean, each of the latent's size, from the encoder
    untrained: how to write it with a scale that training does not move, for people; None: it always trains one
    """

    bound: ClassVar[bool]
    scale: ClassVar[bool]
    untrained: ClassVar[str | None] = None

    if TYPE_CHECKING:
        kind: str

    def trains_scale(self) -> bool:
        """Return whether training changes its scale: without a rate it would shrink to nothing."""
        return self.scale

    @abstractmethod
    def build(self) -> Posterior:
        """Return the posterior; torch is loaded here."""


class DiagonalNormalConfig(PosteriorSpec):
    """N(mean(x), diag sigma(x)^2)."""

    bound: ClassVar[bool] = True
    scale: ClassVar[bool] = True

    kind: Literal["diagonal-normal"] = "diagonal-normal"

    def build(self) -> DiagonalNormal:
        from vae_models.posteriors.normal import DiagonalNormal

        return DiagonalNormal()


class IsotropicNormalConfig(PosteriorSpec):
    """N(mean(x), sigma^2 I): one sigma for all data and dimensions."""

    bound: ClassVar[bool] = True
    scale: ClassVar[bool] = False
    untrained: ClassVar[str | None] = "isotropic-normal with fit fixed"

    fusible: ClassVar[tuple[str, ...]] = ("sigma",)

    kind: Literal["isotropic-normal"] = "isotropic-normal"
    sigma: float = Field(
        default=1.0, gt=0, le=bounds.REAL, description="standard deviation of z: fixed, or where a trained one starts"
    )
    fit: Literal["fixed", "trained"] = "trained"

    def trains_scale(self) -> bool:
        """Return `fit`: whether sigma_z is trained."""
        return self.fit == "trained"

    def build(self) -> IsotropicNormal:
        from vae_models.posteriors.normal import IsotropicNormal

        return IsotropicNormal(sigma=self.sigma, trained=self.fit == "trained")


class DeltaConfig(PosteriorSpec):
    """z = mean(x): a deterministic encoder, without rate or bound."""

    bound: ClassVar[bool] = False
    scale: ClassVar[bool] = False
    untrained: ClassVar[str | None] = "delta"

    kind: Literal["delta"] = "delta"

    def build(self) -> Delta:
        from vae_models.posteriors.normal import Delta

        return Delta()


OURS = (
    DiagonalNormalConfig,
    IsotropicNormalConfig,
    DeltaConfig,
)
POSTERIORS = Seam[type[PosteriorSpec]](
    "posterior",
    ["vae_models.posteriors.specs:OURS"],
    check=spec_of(PosteriorSpec),
    summary="q(z|x), from what the encoder gives",
)

if TYPE_CHECKING:
    PosteriorConfig = PosteriorSpec
else:
    PosteriorConfig = POSTERIORS.union()
