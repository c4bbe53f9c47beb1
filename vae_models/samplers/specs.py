"""How samples of a trained model are made, as data."""

from __future__ import annotations

from abc import abstractmethod
from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import Field, model_validator

from vae_models import bounds
from vae_models.parts import Seam, loaded, spec_of
from vae_models.strict import Strict

if TYPE_CHECKING:
    from vae_models.protocols import Fitter, Sampler
    from vae_models.samplers.mixture import MixtureFitter
    from vae_models.samplers.prior import PriorSampler
    from vae_models.samplers.readjusted import ReadjustedSampler


FOLDER = "samplers"  # of a pulled model, or of a run: what was fitted to it
SECOND_STAGE_STEPS = 10_000  # where a specification gives neither steps nor epochs


class SamplerSpec(Strict):
    """How samples of a trained model are made, as data: the law of z, and how it is fitted where it has to be.

    fitted: whether it is fitted to a model after training (`FittedSamplerSpec`), so that `build` alone makes none
    """

    fitted: ClassVar[bool] = False

    if TYPE_CHECKING:
        kind: str

    def called(self) -> str:
        """Return its name in metrics, tables and folders: the kind, with what tells it from others of the kind."""
        return self.kind

    @abstractmethod
    def build(self) -> Sampler:
        """Return the sampler; torch is loaded here."""


class PriorSamplerConfig(SamplerSpec):
    """z ~ p(z), each prior by its own way of sampling: VampPrior and VHP bring theirs."""

    kind: Literal["prior"] = "prior"

    def build(self) -> PriorSampler:
        """Return the sampler from the prior: see `PriorSampler`."""
        from vae_models.samplers.prior import PriorSampler

        return PriorSampler()


class ReadjustedConfig(SamplerSpec):
    """z ~ p(z) at a temperature, batch norm's statistics estimated again there (NVAE, section 4)."""

    kind: Literal["readjusted"] = "readjusted"
    temperature: float = Field(
        default=0.7, ge=0, le=bounds.REAL, description="by which the prior's standard deviations are multiplied"
    )
    batches: int = Field(default=100, ge=1, le=bounds.STEPS, description="of samples, to estimate the statistics by")
    size: int = Field(default=64, ge=2, le=bounds.BATCH, description="samples of a batch")

    def called(self) -> str:
        """Return readjusted-TEMPERATURE."""
        return f"{self.kind}-{self.temperature:g}"

    def build(self) -> ReadjustedSampler:
        """Return the sampler: see `ReadjustedSampler`."""
        from vae_models.samplers.readjusted import ReadjustedSampler

        return ReadjustedSampler(temperature=self.temperature, batches=self.batches, size=self.size)


class FittedSamplerSpec(SamplerSpec):
    """A law of z that is fitted to a trained model's posteriors of its training data: `evaluation.fitting`."""

    fitted: ClassVar[bool] = True

    def build(self) -> Sampler:
        """Raise ValueError: there is no trained model to fit it to."""
        raise ValueError(f"the sampler {self.called()} is fitted to a trained model: evaluate the model with it")

    @abstractmethod
    def fitter(self) -> Fitter:
        """Return how it is fitted; torch is loaded here."""


class MixtureConfig(FittedSamplerSpec):
    """z ~ a mixture of Gaussians with full covariances, fitted to posterior means (AR-ELBO section 6)."""

    kind: Literal["gmm"] = "gmm"
    components: int = Field(default=10, ge=1, le=bounds.COMPONENTS)
    data: int | None = Field(
        default=None, ge=1, le=bounds.DATA, description="fit on the first so many training data; none: on all"
    )
    iterations: int = Field(default=2000, ge=1, le=bounds.STEPS, description="of expectation-maximization, at most")
    tolerance: float = Field(
        default=1e-3, gt=0, le=bounds.REAL, description="of the mean log-likelihood, nats per datum, at which it ends"
    )
    regularization: float = Field(
        default=1e-6, ge=0, le=bounds.REAL, description="added to the covariances' diagonals, in units of z squared"
    )

    def called(self) -> str:
        """Return gmm-COMPONENTS, with the number of data where it is given: gmm-10, gmm-10-of-5000."""
        return f"{self.kind}-{self.components}" + ("" if self.data is None else f"-of-{self.data}")

    def fitter(self) -> MixtureFitter:
        """Return the fit by expectation-maximization: see `MixtureFitter`."""
        from vae_models.samplers.mixture import MixtureFitter

        return MixtureFitter(
            components=self.components,
            data=self.data,
            iterations=self.iterations,
            tolerance=self.tolerance,
            regularization=self.regularization,
        )


class SecondStageConfig(FittedSamplerSpec):
    """z ~ a second-stage VAE of the latents, trained on z ~ q(z|x) drawn anew in each step (AR-ELBO section 6)."""

    kind: Literal["second-stage"] = "second-stage"
    width: int = Field(default=1024, ge=1, le=bounds.WIDTH, description="of the hidden layers of both networks")
    layers: int = Field(default=3, ge=1, le=bounds.DEPTH, description="hidden layers of each")
    steps: int | None = Field(default=None, ge=1, le=bounds.STEPS, description="optimizer steps; none: 10,000")
    epochs: float | None = Field(
        default=None, gt=0, le=bounds.EPOCHS, description="in place of steps: passes over the training data"
    )
    batch_size: int = Field(default=256, ge=1, le=bounds.BATCH, description="global")
    lr: float = Field(default=1e-3, gt=0, le=bounds.REAL, description="falls to 0 by half a cosine")

    @model_validator(mode="after")
    def _one_budget(self) -> SecondStageConfig:
        if self.steps is not None and self.epochs is not None:
            raise ValueError("give steps or epochs of the second stage, not both")
        return self

    def budget(self) -> int | None:
        """Return the number of optimizer steps; None where `epochs` says how long it is trained."""
        return None if self.epochs is not None else self.steps or SECOND_STAGE_STEPS

    def fitter(self) -> Fitter:
        """Return the training: `evaluation.fitting.second_stage`, which stands above this package's layer."""
        made: Fitter = loaded("vae_models.evaluation.fitting.second_stage:SecondStageFitter")(sampler=self)
        return made


OURS = (PriorSamplerConfig, ReadjustedConfig, MixtureConfig, SecondStageConfig)
SAMPLERS = Seam[type[SamplerSpec]](
    "sampler",
    ["vae_models.samplers.specs:OURS"],
    check=spec_of(SamplerSpec),
    summary="how samples of a trained model are made",
)

if TYPE_CHECKING:
    SamplerConfig = SamplerSpec
    UnfittedSamplerConfig = SamplerSpec
else:
    SamplerConfig = SAMPLERS.union(meant="prior")
    UnfittedSamplerConfig = SAMPLERS.union(meant="prior", only=lambda spec: not spec.fitted)
