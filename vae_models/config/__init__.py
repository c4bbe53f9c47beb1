"""What a run is, as data: pydantic models, every choice a union discriminated by `kind`, unknown fields refused.

A config holds everything that the result depends on; nothing of the machine it runs on. `build()` turns a part's
config into the part; its imports are inside, because a config is read and checked in places where loading torch would
take longer than the work. Recipes are functions that return a `TrainConfig` (`vae_models.recipes`).
"""

from __future__ import annotations

from vae_models.config.backbones import (
    BackboneConfig,
    ConvConfig,
    InfoGanConfig,
    MLPConfig,
    ResNetConfig,
    SigmaVaeConfig,
    VhpConvConfig,
    VhpGatedConfig,
)
from vae_models.config.control import (
    AlternativeBetaConfig,
    BetaConfig,
    ConstantBetaConfig,
    CyclicBetaConfig,
    GecoBetaConfig,
    LogUniformBetaConfig,
    RewoBetaConfig,
    WarmupBetaConfig,
)
from vae_models.config.data import DataConfig, DatasetName, GaussianNoiseConfig, NoiseConfig, NoNoiseConfig
from vae_models.config.gating import GatingConfig
from vae_models.config.likelihoods import (
    BernoulliConfig,
    BetaLikelihoodConfig,
    BitwiseConfig,
    CategoricalConfig,
    DiscretizedConfig,
    GaussianConfig,
    LikelihoodConfig,
    LogisticMixtureConfig,
)
from vae_models.config.model import ModelConfig
from vae_models.config.objectives import (
    AutoencoderConfig,
    ElboConfig,
    IwaeConfig,
    ObjectiveConfig,
    RaeConfig,
    TotalCorrelationConfig,
    WaeMmdConfig,
)
from vae_models.config.optimization import AdamConfig, ConstantScheduleConfig, CosineScheduleConfig, ScheduleConfig
from vae_models.config.posteriors import DeltaConfig, DiagonalNormalConfig, IsotropicNormalConfig, PosteriorConfig
from vae_models.config.priors import PriorConfig, StandardNormalConfig, VampPriorConfig, VHPConfig
from vae_models.config.train import CheckpointConfig, EvaluationConfig, TrainConfig
from vae_models.strict import DataShape, Strict

__all__ = [
    "AdamConfig",
    "AlternativeBetaConfig",
    "AutoencoderConfig",
    "BackboneConfig",
    "BernoulliConfig",
    "BetaConfig",
    "BetaLikelihoodConfig",
    "BitwiseConfig",
    "CategoricalConfig",
    "CheckpointConfig",
    "ConstantBetaConfig",
    "ConstantScheduleConfig",
    "ConvConfig",
    "CosineScheduleConfig",
    "CyclicBetaConfig",
    "DataConfig",
    "DataShape",
    "DatasetName",
    "DeltaConfig",
    "DiagonalNormalConfig",
    "DiscretizedConfig",
    "ElboConfig",
    "EvaluationConfig",
    "GatingConfig",
    "GaussianConfig",
    "GaussianNoiseConfig",
    "GecoBetaConfig",
    "InfoGanConfig",
    "IsotropicNormalConfig",
    "IwaeConfig",
    "LikelihoodConfig",
    "LogUniformBetaConfig",
    "LogisticMixtureConfig",
    "MLPConfig",
    "ModelConfig",
    "NoNoiseConfig",
    "NoiseConfig",
    "ObjectiveConfig",
    "PosteriorConfig",
    "PriorConfig",
    "RaeConfig",
    "ResNetConfig",
    "RewoBetaConfig",
    "ScheduleConfig",
    "SigmaVaeConfig",
    "StandardNormalConfig",
    "Strict",
    "TotalCorrelationConfig",
    "TrainConfig",
    "VHPConfig",
    "VampPriorConfig",
    "VhpConvConfig",
    "VhpGatedConfig",
    "WaeMmdConfig",
    "WarmupBetaConfig",
]
