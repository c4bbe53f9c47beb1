"""What is minimised, as data: which terms an objective reports, and what it needs of the other parts."""

from __future__ import annotations

from abc import abstractmethod
from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import Field

from vae_models import bounds
from vae_models.measures import EVALUATED
from vae_models.parts import Seam, spec_of
from vae_models.strict import DataShape, Strict

if TYPE_CHECKING:
    from vae_models.objectives.autoencoders import Autoencoder, RegularizedAutoencoder, WaeMmd
    from vae_models.objectives.elbo import Elbo
    from vae_models.objectives.iwae import Iwae
    from vae_models.objectives.ladder import LadderElbo
    from vae_models.objectives.total_correlation import TotalCorrelation
    from vae_models.protocols import Objective


class ObjectiveSpec(Strict):
    """An objective, as data.

    reported:      the names of its terms; those of a bound are left out where there is none
    rate:          whether it has a rate: it needs a posterior with a density then, and trains the prior
    deterministic: without a rate, whether q(z|x) must have no density
    beta:          whether it has a beta
    compares:      whether it compares the data of a batch, of which there must be two then
    distinct:      whether it takes the data of a batch for different ones of the training data
    one_latent:    whether it is of the one latent of a trace, and not of the sum over several
    needs:         what it reads of a model beside its traces, of what topologies say that they offer
    """

    reported: ClassVar[tuple[str, ...]] = EVALUATED
    rate: ClassVar[bool] = True
    deterministic: ClassVar[bool] = False
    beta: ClassVar[bool] = True
    compares: ClassVar[bool] = False
    distinct: ClassVar[bool] = False
    one_latent: ClassVar[bool] = False
    needs: ClassVar[frozenset[str]] = frozenset()

    if TYPE_CHECKING:
        kind: str

    def against_micro_batch(self) -> str | None:
        """Return that it compares the data of a batch, if it does."""
        return f"objective {self.kind} compares the data of the whole batch" if self.compares else None

    def samples_per_datum(self) -> int:
        """Return the number of posterior samples of each datum in a step."""
        return 1

    @abstractmethod
    def build(self, data_size: int, data_shape: DataShape, latent: int) -> Objective:
        """Return the objective; torch is loaded here. data_size: of the training split. latent: dimensions of z, of all
        latents together."""


class ElboConfig(ObjectiveSpec):
    """distortion + beta x rate."""

    kind: Literal["elbo"] = "elbo"

    def build(self, data_size: int, data_shape: DataShape, latent: int) -> Elbo:
        from vae_models.objectives.elbo import Elbo

        return Elbo()


class IwaeConfig(ObjectiveSpec):
    """The importance-weighted bound of several posterior samples."""

    reported: ClassVar[tuple[str, ...]] = (*EVALUATED, "iwae")
    beta: ClassVar[bool] = False

    kind: Literal["iwae"] = "iwae"
    samples: int = Field(default=50, ge=1, le=bounds.SAMPLES, description="K, posterior samples per datum")

    def samples_per_datum(self) -> int:
        """Return K."""
        return self.samples

    def build(self, data_size: int, data_shape: DataShape, latent: int) -> Iwae:
        from vae_models.objectives.iwae import Iwae

        return Iwae(samples=self.samples)


class TotalCorrelationConfig(ObjectiveSpec):
    """beta-TCVAE: the rate in three parts, beta on the total correlation."""

    reported: ClassVar[tuple[str, ...]] = (*EVALUATED, "information", "total_correlation", "dimension_kl")
    compares: ClassVar[bool] = True
    distinct: ClassVar[bool] = True
    one_latent: ClassVar[bool] = True

    kind: Literal["tc"] = "tc"
    estimator: Literal["mws", "mss"] = Field(
        default="mws", description="of the aggregate posterior: minibatch-weighted or stratified sampling"
    )

    def build(self, data_size: int, data_shape: DataShape, latent: int) -> TotalCorrelation:
        from vae_models.objectives.total_correlation import TotalCorrelation

        return TotalCorrelation(data_size=data_size, estimator=self.estimator)


class AutoencoderConfig(ObjectiveSpec):
    """The distortion alone."""

    rate: ClassVar[bool] = False
    deterministic: ClassVar[bool] = True
    beta: ClassVar[bool] = False

    kind: Literal["ae"] = "ae"

    def build(self, data_size: int, data_shape: DataShape, latent: int) -> Autoencoder:
        from vae_models.objectives.autoencoders import Autoencoder

        return Autoencoder()


class WaeMmdConfig(ObjectiveSpec):
    """distortion + weight x MMD between the aggregate posterior and N(0, I)."""

    reported: ClassVar[tuple[str, ...]] = (*EVALUATED, "mmd")
    rate: ClassVar[bool] = False
    beta: ClassVar[bool] = False
    compares: ClassVar[bool] = True
    one_latent: ClassVar[bool] = True
    fusible: ClassVar[tuple[str, ...]] = ("weight",)

    kind: Literal["wae-mmd"] = "wae-mmd"
    weight: float = Field(default=10.0, ge=0, le=bounds.REAL)

    def build(self, data_size: int, data_shape: DataShape, latent: int) -> WaeMmd:
        from vae_models.objectives.autoencoders import WaeMmd

        return WaeMmd(latent=latent, weight=self.weight)


class RaeConfig(ObjectiveSpec):
    """distortion + a penalty on |z|^2 + one on the decoder: its weights (l2), or its gradient by z (gradient)."""

    reported: ClassVar[tuple[str, ...]] = (*EVALUATED, "latent_square", "regularizer")
    rate: ClassVar[bool] = False
    deterministic: ClassVar[bool] = True
    beta: ClassVar[bool] = False

    one_latent: ClassVar[bool] = True
    fusible: ClassVar[tuple[str, ...]] = ("latent_weight", "decoder_weight")

    kind: Literal["rae"] = "rae"
    regularizer: Literal["l2", "gradient"] = "l2"
    latent_weight: float = Field(default=1e-4, ge=0, le=bounds.REAL)
    decoder_weight: float = Field(default=1e-7, ge=0, le=bounds.REAL)

    def against_compile(self) -> str | None:
        """Return why a gradient penalty is not compiled."""
        if self.regularizer != "gradient":
            return None
        return f"objective {self.kind} with regularizer gradient differentiates twice, which torch.compile does not"

    def against_bf16(self) -> str | None:
        """Return why a gradient penalty is not computed in bfloat16."""
        if self.regularizer != "gradient":
            return None
        return (
            f"objective {self.kind} with regularizer gradient squares the decoder's gradient and differentiates it "
            "again, of which bfloat16 keeps two digits"
        )

    def build(self, data_size: int, data_shape: DataShape, latent: int) -> RegularizedAutoencoder:
        from vae_models.objectives.autoencoders import RegularizedAutoencoder

        return RegularizedAutoencoder(
            data_shape=data_shape,
            regularizer=self.regularizer,
            latent_weight=self.latent_weight,
            decoder_weight=self.decoder_weight,
        )


class LadderElboConfig(ObjectiveSpec):
    """distortion + beta x rate, the groups' rates balanced while beta is below 1, and penalties on the weights."""

    reported: ClassVar[tuple[str, ...]] = (*EVALUATED, "regularizer")
    needs: ClassVar[frozenset[str]] = frozenset({"balance", "spectrum"})
    fusible: ClassVar[tuple[str, ...]] = ("weight",)

    kind: Literal["ladder-elbo"] = "ladder-elbo"
    balanced: bool = Field(default=True, description="while beta < 1, groups that say much pay more (NVAE, A)")
    weight: float = Field(
        default=1e-2, ge=0, le=bounds.REAL, description="of the largest singular values and batch norm scales, summed"
    )

    def against_micro_batch(self) -> str | None:
        """Return that balancing takes the groups' mean rates over the batch, if they are balanced."""
        return f"objective {self.kind} balances by the whole batch's mean rates" if self.balanced else None

    def build(self, data_size: int, data_shape: DataShape, latent: int) -> LadderElbo:
        from vae_models.objectives.ladder import LadderElbo

        return LadderElbo(weight=self.weight, balanced=self.balanced)


OURS = (
    ElboConfig,
    LadderElboConfig,
    IwaeConfig,
    TotalCorrelationConfig,
    AutoencoderConfig,
    WaeMmdConfig,
    RaeConfig,
)
OBJECTIVES = Seam[type[ObjectiveSpec]](
    "objective",
    ["vae_models.objectives.specs:OURS"],
    check=spec_of(ObjectiveSpec),
    summary="what is minimised, of a trace and beta",
)

if TYPE_CHECKING:
    ObjectiveConfig = ObjectiveSpec
else:
    ObjectiveConfig = OBJECTIVES.union()
