"""What a run is, as data: pydantic models, every choice a union discriminated by `kind`, unknown fields refused.

A config holds everything that the result depends on; nothing of the machine it runs on. `build()` turns a part's
config into the part; its imports are inside, because a config is read and checked in places where loading torch would
take longer than the work. Recipes are functions that return a `TrainConfig` (`vae_models.recipes`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, PositiveInt, model_validator

from vae_models.data.catalogue import CATALOGUE
from vae_models.nn.geometry import benchmark_decoder

if TYPE_CHECKING:
    from vae_models.control.schedules import Constant, LinearWarmup
    from vae_models.likelihoods.bernoulli import Bernoulli
    from vae_models.likelihoods.gaussian import Gaussian
    from vae_models.models.vae import VAE
    from vae_models.nn.conv import ConvBackbone
    from vae_models.nn.mlp import MLPBackbone
    from vae_models.objectives.elbo import Elbo
    from vae_models.posteriors import DiagonalNormal
    from vae_models.priors.standard_normal import StandardNormal

DataShape = tuple[int, int, int]  # (channels, height, width)


class Strict(BaseModel):
    """Frozen; unknown fields and non-finite numbers are refused."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


# --- data -----------------------------------------------------------------------------------------------------------

DatasetName = Literal["digits", "mnist", "fashion-mnist", "binarized-mnist", "omniglot", "pendulum"]


class DataConfig(Strict):
    """Which data, and how bytes become x.

    binarize: "none" keeps k/255 (digits: k/16 is stored as a byte); "threshold" is x >= 0.5; "dynamic" draws
    x ~ Bernoulli(k/255) anew at every step.
    """

    name: DatasetName
    binarize: Literal["none", "threshold", "dynamic"] = "none"


# --- model ----------------------------------------------------------------------------------------------------------


class MLPConfig(Strict):
    """Fully connected: `hidden` widths of the encoder; the decoder mirrors them."""

    kind: Literal["mlp"] = "mlp"
    hidden: tuple[PositiveInt, ...] = Field(
        default=(512, 512), description="widths of the encoder's hidden layers; none: linear"
    )
    activation: Literal["relu", "tanh", "elu", "softplus", "gelu"] = "relu"

    def check(self, data_shape: DataShape) -> None:
        """Any image will do."""

    def build(self, data_shape: DataShape, latent: int, parameters_per_element: int) -> MLPBackbone:
        from vae_models.nn.mlp import MLPBackbone

        return MLPBackbone(
            data_shape=data_shape,
            latent=latent,
            hidden=self.hidden,
            activation=self.activation,
            parameters_per_element=parameters_per_element,
        )


class ConvConfig(Strict):
    """The benchmark CNN (MR-VAE C.2): Conv4x4/2-BN-ReLU, mirrored decoder. For images of 28, 32 or 64 pixels square."""

    kind: Literal["conv"] = "conv"
    channels: tuple[PositiveInt, ...] = Field(
        default=(128, 256, 512, 1024), description="of the encoder's convolutions; the decoder goes down the last ones"
    )

    def check(self, data_shape: DataShape) -> None:
        """ValueError if the benchmark CNN has no decoder for such images."""
        benchmark_decoder(data_shape, self.channels)

    def build(self, data_shape: DataShape, latent: int, parameters_per_element: int) -> ConvBackbone:
        from vae_models.nn.conv import ConvBackbone

        return ConvBackbone(
            data_shape=data_shape,
            latent=latent,
            channels=self.channels,
            parameters_per_element=parameters_per_element,
        )


BackboneConfig = Annotated[MLPConfig | ConvConfig, Field(discriminator="kind")]


class BernoulliConfig(Strict):
    """A mass over {0, 1}; on grey values the cross-entropy, which is no log-likelihood."""

    kind: Literal["bernoulli"] = "bernoulli"

    def build(self) -> Bernoulli:
        from vae_models.likelihoods.bernoulli import Bernoulli

        return Bernoulli()


class GaussianConfig(Strict):
    """N(mean(z), sigma^2 I) with a fixed sigma: a density."""

    kind: Literal["gaussian"] = "gaussian"
    sigma: float = Field(default=1.0, gt=0, description="standard deviation of every element of x, in units of x")
    link: Literal["identity", "sigmoid"] = Field(
        default="identity", description="from the decoder's output to the mean; sigmoid keeps it inside (0, 1)"
    )

    def build(self) -> Gaussian:
        from vae_models.likelihoods.gaussian import Gaussian

        return Gaussian(sigma=self.sigma, link=self.link)


LikelihoodConfig = Annotated[BernoulliConfig | GaussianConfig, Field(discriminator="kind")]


class StandardNormalConfig(Strict):
    """N(0, I)."""

    kind: Literal["standard-normal"] = "standard-normal"

    def build(self) -> StandardNormal:
        from vae_models.priors.standard_normal import StandardNormal

        return StandardNormal()


class DiagonalNormalConfig(Strict):
    """N(mean(x), diag sigma(x)^2)."""

    kind: Literal["diagonal-normal"] = "diagonal-normal"

    def build(self) -> DiagonalNormal:
        from vae_models.posteriors import DiagonalNormal

        return DiagonalNormal()


class ModelConfig(Strict):
    """The VAE topology over its parts."""

    kind: Literal["vae"] = "vae"
    latent: int = Field(default=32, ge=1, description="dimensions of z")
    backbone: BackboneConfig = MLPConfig()
    likelihood: LikelihoodConfig = BernoulliConfig()
    prior: StandardNormalConfig = StandardNormalConfig()
    posterior: DiagonalNormalConfig = DiagonalNormalConfig()

    def build(self, data_shape: DataShape) -> VAE:
        """The model for data of one shape, (channels, height, width), on the CPU in torch's default dtype.

        Parameters are drawn from torch's current generator: seed that, and the model is a pure function of the seed.
        ValueError if the backbone cannot take such data.
        """
        from vae_models.models.vae import VAE

        likelihood = self.likelihood.build()
        return VAE(
            backbone=self.backbone.build(data_shape, self.latent, likelihood.parameters_per_element()),
            likelihood=likelihood,
            prior=self.prior.build(),
            posterior=self.posterior.build(),
            latent=self.latent,
        )


# --- objective and beta ---------------------------------------------------------------------------------------------


class ElboConfig(Strict):
    """distortion + beta x rate."""

    kind: Literal["elbo"] = "elbo"

    def build(self) -> Elbo:
        from vae_models.objectives.elbo import Elbo

        return Elbo()


class ConstantBetaConfig(Strict):
    """The same beta at every step."""

    kind: Literal["constant"] = "constant"
    value: float = Field(default=1.0, ge=0)

    def build(self, steps_per_epoch: float) -> Constant:
        from vae_models.control.schedules import Constant

        return Constant(value=self.value)


class WarmupBetaConfig(Strict):
    """beta rises linearly from `start` to `value` over `epochs`, then stays."""

    kind: Literal["warmup"] = "warmup"
    start: float = Field(default=0.0, ge=0)
    value: float = Field(default=1.0, ge=0)
    epochs: float = Field(default=10.0, gt=0)

    def build(self, steps_per_epoch: float) -> LinearWarmup:
        from vae_models.control.schedules import LinearWarmup

        return LinearWarmup(start=self.start, value=self.value, steps=self.epochs * steps_per_epoch)


BetaConfig = Annotated[ConstantBetaConfig | WarmupBetaConfig, Field(discriminator="kind")]


# --- optimization ---------------------------------------------------------------------------------------------------


class AdamConfig(Strict):
    kind: Literal["adam"] = "adam"
    lr: float = Field(default=1e-3, gt=0, description="peak learning rate")
    betas: tuple[float, float] = (0.9, 0.999)
    eps: float = Field(default=1e-8, gt=0)
    weight_decay: float = Field(default=0.0, ge=0)
    clip_norm: float | None = Field(
        default=None, gt=0, description="largest L2 norm of the whole gradient; none: no clipping"
    )


class ConstantScheduleConfig(Strict):
    """Linear warm-up over `warmup_epochs`, then constant."""

    kind: Literal["constant"] = "constant"
    warmup_epochs: float = Field(default=0.0, ge=0)


class CosineScheduleConfig(Strict):
    """Linear warm-up over `warmup_epochs`, then half a cosine down to `final` x lr at the last step."""

    kind: Literal["cosine"] = "cosine"
    warmup_epochs: float = Field(default=0.0, ge=0)
    final: float = Field(default=0.0, ge=0, le=1)


ScheduleConfig = Annotated[ConstantScheduleConfig | CosineScheduleConfig, Field(discriminator="kind")]


# --- the run --------------------------------------------------------------------------------------------------------


class EvaluationConfig(Strict):
    """On the validation split, during and after training; `test` adds the test split at the end."""

    every_epochs: float = Field(default=1.0, gt=0)
    batch_size: int = Field(default=500, ge=1)
    limit: int | None = Field(default=None, ge=1, description="at most this many data; none: the whole split")
    test: bool = True
    pictures: bool = True


class CheckpointConfig(Strict):
    every_steps: int = Field(default=500, ge=1)
    keep_best: int = Field(default=1, ge=1, description="how many of the best are kept beside the last")
    metric: str = "val/elbo"
    mode: Literal["max", "min"] = "max"


class TrainConfig(Strict):
    data: DataConfig
    model: ModelConfig = ModelConfig()
    objective: ElboConfig = ElboConfig()
    beta: BetaConfig = ConstantBetaConfig()
    optimizer: AdamConfig = AdamConfig()
    schedule: ScheduleConfig = ConstantScheduleConfig()
    batch_size: int = Field(default=128, ge=1, description="global: the same whatever the number of workers")
    epochs: float | None = Field(default=None, gt=0, description="passes over the training split; this or steps")
    steps: int | None = Field(default=None, ge=1, description="optimizer steps; this or epochs")
    seed: int = Field(default=0, ge=0, lt=2**63)
    dtype: Literal["float32", "float64"] = "float32"
    log_every_steps: int = Field(default=50, ge=1)
    evaluation: EvaluationConfig = EvaluationConfig()
    checkpoint: CheckpointConfig = CheckpointConfig()

    @model_validator(mode="after")
    def _one_budget(self) -> TrainConfig:
        if (self.epochs is None) == (self.steps is None):
            raise ValueError("give exactly one of epochs and steps")
        return self

    @model_validator(mode="after")
    def _parts_fit(self) -> TrainConfig:
        self.model.backbone.check(CATALOGUE[self.data.name].shape)
        return self
