"""What a run is, as data: pydantic models, every choice a union discriminated by `kind`, unknown fields refused.

A config holds everything that the result depends on; nothing of the machine it runs on. `build()` turns a part's
config into the part. Recipes are functions that return a `TrainConfig` (`vae_models.recipes`).
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator


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
    hidden: tuple[int, ...] = Field(default=(512, 512), description="widths of the encoder's hidden layers")
    activation: Literal["relu", "tanh", "elu", "softplus", "gelu"] = "relu"


class ConvConfig(Strict):
    """The benchmark CNN (MR-VAE C.2, 28 x 28): Conv4x4/2-BN-ReLU with `channels`, mirrored decoder (PAPERS: table 1)."""

    kind: Literal["conv"] = "conv"
    channels: tuple[int, ...] = (128, 256, 512, 1024)


BackboneConfig = Annotated[MLPConfig | ConvConfig, Field(discriminator="kind")]


class BernoulliConfig(Strict):
    kind: Literal["bernoulli"] = "bernoulli"


class GaussianConfig(Strict):
    """N(mean(z), sigma^2 I) with a fixed sigma."""

    kind: Literal["gaussian"] = "gaussian"
    sigma: float = Field(default=1.0, gt=0, description="standard deviation of every element of x, in units of x")


LikelihoodConfig = Annotated[BernoulliConfig | GaussianConfig, Field(discriminator="kind")]


class StandardNormalConfig(Strict):
    kind: Literal["standard-normal"] = "standard-normal"


class DiagonalNormalConfig(Strict):
    kind: Literal["diagonal-normal"] = "diagonal-normal"


class ModelConfig(Strict):
    kind: Literal["vae"] = "vae"
    latent: int = Field(default=32, ge=1, description="dimensions of z")
    backbone: BackboneConfig = MLPConfig()
    likelihood: LikelihoodConfig = BernoulliConfig()
    prior: StandardNormalConfig = StandardNormalConfig()
    posterior: DiagonalNormalConfig = DiagonalNormalConfig()


# --- objective and beta ---------------------------------------------------------------------------------------------


class ElboConfig(Strict):
    kind: Literal["elbo"] = "elbo"


class ConstantBetaConfig(Strict):
    kind: Literal["constant"] = "constant"
    value: float = Field(default=1.0, ge=0)


class WarmupBetaConfig(Strict):
    """beta rises linearly from `start` to `value` over `epochs`, then stays."""

    kind: Literal["warmup"] = "warmup"
    start: float = Field(default=0.0, ge=0)
    value: float = Field(default=1.0, ge=0)
    epochs: float = Field(default=10.0, gt=0)


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
