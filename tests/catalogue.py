"""Every part of the models, once, at a size for tests: what a test of "all parts" is parametrized over.

A new part is added here and is then covered by the contract tests of its kind.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from pydantic import ValidationError
from torch import Tensor

from vae_models.backbones.specs import (
    BackboneConfig,
    ConvConfig,
    InfoGanConfig,
    MLPConfig,
    ResNetConfig,
    SigmaVaeConfig,
    SkipMLPConfig,
    VhpConvConfig,
    VhpGatedConfig,
)
from vae_models.config.train import TrainConfig
from vae_models.control.specs import (
    AlternativeBetaConfig,
    BetaConfig,
    ConstantBetaConfig,
    CyclicBetaConfig,
    GecoBetaConfig,
    HeldBetaConfig,
    LogUniformBetaConfig,
    RewoBetaConfig,
    WarmupBetaConfig,
)
from vae_models.likelihoods.specs import (
    BernoulliConfig,
    BetaLikelihoodConfig,
    BitwiseConfig,
    CategoricalConfig,
    DiscretizedConfig,
    GaussianConfig,
    LikelihoodConfig,
    LogisticMixtureConfig,
)
from vae_models.objectives.specs import (
    AutoencoderConfig,
    ElboConfig,
    IwaeConfig,
    ObjectiveConfig,
    RaeConfig,
    TotalCorrelationConfig,
    WaeMmdConfig,
)
from vae_models.posteriors.specs import DeltaConfig, DiagonalNormalConfig, IsotropicNormalConfig, PosteriorConfig
from vae_models.priors.specs import PriorConfig, StandardNormalConfig, VampPriorConfig, VHPConfig
from vae_models.protocols import Model, Objective
from vae_models.records import Loss, NoiseSpec
from vae_models.strict import DataShape
from vae_models.topologies.vae.model import VAE
from vae_models.topologies.vae.specs import GatingConfig, ModelConfig

LATENT = 3

# name -> (config, data shape it is tried on)
BACKBONES: Mapping[str, tuple[BackboneConfig, DataShape]] = {
    "linear": (MLPConfig(hidden=()), (1, 2, 3)),
    "mlp-relu": (MLPConfig(hidden=(5,), activation="relu"), (1, 2, 3)),
    "mlp-tanh": (MLPConfig(hidden=(5, 4), activation="tanh"), (2, 3, 2)),
    "mlp-elu": (MLPConfig(hidden=(5,), activation="elu"), (1, 2, 3)),
    "mlp-softplus": (MLPConfig(hidden=(5,), activation="softplus"), (1, 2, 3)),
    "mlp-gelu": (MLPConfig(hidden=(5,), activation="gelu"), (3, 2, 1)),
    "skip-mlp": (SkipMLPConfig(hidden=(5, 4), activation="tanh"), (1, 2, 3)),
    "conv-28": (ConvConfig(channels=(2, 3, 4, 5)), (1, 28, 28)),
    "conv-32": (ConvConfig(channels=(2, 3, 4)), (3, 32, 32)),
    "conv-64": (ConvConfig(channels=(2, 3, 4, 5, 6)), (3, 64, 64)),
    "mlp-unequal": (MLPConfig(hidden=(5, 4), decoder_hidden=(3, 4, 5), decoder_activation="tanh"), (1, 2, 3)),
    "resnet-28": (ResNetConfig(channels=4), (1, 28, 28)),
    "resnet-32": (ResNetConfig(channels=4), (3, 32, 32)),
    "resnet-64": (ResNetConfig(channels=4), (3, 64, 64)),
    "sigma-vae-28": (SigmaVaeConfig(channels=2), (3, 28, 28)),
    "sigma-vae-32": (SigmaVaeConfig(channels=2), (3, 32, 32)),
    # sizes that nobody published
    "conv-odd": (ConvConfig(channels=(2, 3, 4)), (1, 9, 14)),
    "resnet-odd": (ResNetConfig(channels=4), (3, 7, 9)),
    "sigma-vae-odd": (SigmaVaeConfig(channels=4), (1, 17, 20)),
    "infogan": (InfoGanConfig(), (1, 5, 6)),
    "infogan-plain": (InfoGanConfig(norm=False, kernel=4), (1, 5, 6)),
    "vhp-conv": (VhpConvConfig(), (1, 3, 5)),
    "vhp-gated": (VhpGatedConfig(), (1, 5, 6)),
}
LIKELIHOODS: Mapping[str, LikelihoodConfig] = {
    "bernoulli": BernoulliConfig(),
    "gaussian": GaussianConfig(sigma=0.3),
    "gaussian-sigmoid": GaussianConfig(sigma=0.3, link="sigmoid"),
    "gaussian-trained-iso": GaussianConfig(fit="trained", sigma=0.5),
    "gaussian-trained-diag": GaussianConfig(fit="trained", tie="diag", softclip=None),
    "gaussian-mle-iso": GaussianConfig(fit="mle"),
    "gaussian-mle-diag": GaussianConfig(fit="mle", tie="diag", softclip=None, epsilon=1e-6),
    "gaussian-mle-iso-datum": GaussianConfig(fit="mle", per="datum", softclip=None, epsilon=1e-6),
    "gaussian-mle-diag-datum": GaussianConfig(fit="mle", per="datum", tie="diag", softclip=None, epsilon=1e-6),
    "gaussian-predicted-iso": GaussianConfig(fit="predicted", per="datum"),
    "gaussian-predicted-diag": GaussianConfig(fit="predicted", per="datum", tie="diag", link="sigmoid"),
    "categorical": CategoricalConfig(),
    "bitwise": BitwiseConfig(),
    "discretized-gaussian": DiscretizedConfig(shape="gaussian", scale=0.2),
    "discretized-logistic": DiscretizedConfig(shape="logistic", scale=0.1, link="sigmoid"),
    "discretized-logistic-predicted": DiscretizedConfig(shape="logistic", fit="predicted"),
    "logistic-mixture": LogisticMixtureConfig(components=2),
    "beta": BetaLikelihoodConfig(),
}
PRIORS: Mapping[str, PriorConfig] = {
    "standard-normal": StandardNormalConfig(),
    "vhp": VHPConfig(importance_samples=3, hidden=(4,)),
    "vhp-plain": VHPConfig(importance_samples=1, hidden=(4,), inner=2, activation="tanh"),
    "vhp-gated": VHPConfig(importance_samples=2, hidden=(4, 4), gated=True),
    "vampprior": VampPriorConfig(components=5),
}
POSTERIORS: Mapping[str, PosteriorConfig] = {
    "diagonal-normal": DiagonalNormalConfig(),
    "isotropic-trained": IsotropicNormalConfig(sigma=0.5),
    "isotropic-fixed": IsotropicNormalConfig(sigma=0.5, fit="fixed"),
    "delta": DeltaConfig(),
}
OBJECTIVES: Mapping[str, ObjectiveConfig] = {
    "elbo": ElboConfig(),
    "iwae": IwaeConfig(samples=3),
    "tc-mws": TotalCorrelationConfig(estimator="mws"),
    "tc-mss": TotalCorrelationConfig(estimator="mss"),
    "ae": AutoencoderConfig(),
    "wae-mmd": WaeMmdConfig(),
    "rae": RaeConfig(decoder_weight=1e-3),
    "rae-gp": RaeConfig(regularizer="gradient", decoder_weight=1e-3),
}
BETAS: Mapping[str, BetaConfig] = {
    "constant": ConstantBetaConfig(value=0.5),
    "warmup": WarmupBetaConfig(start=0.1, value=0.9, epochs=2),
    "held": HeldBetaConfig(start=0.1, value=0.9, epochs=2),
    "cyclic": CyclicBetaConfig(start=0.1, value=0.9, cycle_epochs=2),
    "log-uniform": LogUniformBetaConfig(),
    "rewo": RewoBetaConfig(kappa=0.3),
    "geco": GecoBetaConfig(kappa=0.3),
    "rewo-alternative": AlternativeBetaConfig(kappa=0.3),
}

# name -> (gating, a backbone that it acts on, data shape)
_NET = MLPConfig(hidden=(5, 4))
GATINGS: Mapping[str, tuple[GatingConfig, BackboneConfig, DataShape]] = {
    "affine": (GatingConfig(), _NET, (1, 2, 3)),
    "mlp": (GatingConfig(network="mlp", hidden=3), _NET, (1, 2, 3)),
    "mlp-shared": (GatingConfig(network="mlp-shared", hidden=3), _NET, (1, 2, 3)),
    "mlp-5": (GatingConfig(network="mlp-5", hidden=3), _NET, (1, 2, 3)),
    "film": (GatingConfig(encoder="film", decoder="film"), _NET, (1, 2, 3)),
    "sqrt-sigmoid": (GatingConfig(encoder="sqrt", decoder="sigmoid"), _NET, (1, 2, 3)),
    "resnet": (GatingConfig(), ResNetConfig(channels=4), (1, 28, 28)),
    "batch-norm": (GatingConfig(place="batch-norm", hidden=3), ConvConfig(channels=(2, 3, 4, 5)), (1, 28, 28)),
    "table-1": (
        GatingConfig(place="gates-and-batch-norm", repeated=3, hidden=3),
        ConvConfig(channels=(2, 3, 4, 5)),
        (1, 28, 28),
    ),
    "heads": (GatingConfig(heads=True, start="theorem-1"), _NET, (1, 2, 3)),
    "heads-mlp-shared": (GatingConfig(heads=True, network="mlp-shared", hidden=3), _NET, (1, 2, 3)),
}
DEFAULT = ("mlp-relu", "bernoulli", "standard-normal", "diagonal-normal")
KINDS = (BACKBONES, LIKELIHOODS, PRIORS, POSTERIORS)


def _config(names: tuple[str, ...]) -> tuple[ModelConfig, DataShape]:
    backbone, likelihood, prior, posterior = names
    config, shape = BACKBONES[backbone]
    model = ModelConfig(
        latent=LATENT,
        backbone=config,
        likelihood=LIKELIHOODS[likelihood],
        prior=PRIORS[prior],
        posterior=POSTERIORS[posterior],
    )
    return model, shape


# each part once, the others as in DEFAULT: "backbone/likelihood/prior/posterior" -> (config, data shape)
MODELS: Mapping[str, tuple[ModelConfig, DataShape]] = {
    "/".join(names): _config(names)
    for place, kind in enumerate(KINDS)
    for part in kind
    for names in [(*DEFAULT[:place], part, *DEFAULT[place + 1 :])]
}


def build(name: str, *, seed: int = 0, dtype: torch.dtype = torch.float64) -> VAE:
    """The model by its name in `MODELS`, a pure function of the seed."""
    config, shape = MODELS[name]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return config.build(shape).to(dtype)


def inputs(
    name: str, *, batch: int = 4, samples: int = 1, seed: int = 1, dtype: torch.dtype = torch.float64
) -> tuple[Tensor, dict[str, Tensor]]:
    """x, in {0, 1} for a Bernoulli likelihood and k/255 for others, and all noise for one batch of the model `name`."""
    config, shape = MODELS[name]
    generator = torch.Generator().manual_seed(seed)
    uniform = torch.rand(batch, *shape, generator=generator)
    binary = isinstance(config.likelihood, BernoulliConfig)
    x = (uniform < 0.4).to(dtype) if binary else uniform.mul(255).floor().to(dtype).div(255)
    return x, draw(build(name).noise(samples), batch, generator, dtype)


def draw(
    specs: Mapping[str, NoiseSpec], batch: int, generator: torch.Generator, dtype: torch.dtype = torch.float64
) -> dict[str, Tensor]:
    """One batch of each noise, by name."""
    return {
        name: (torch.randn if spec.kind == "normal" else torch.rand)(
            batch, *spec.shape, generator=generator, dtype=dtype
        )
        for name, spec in specs.items()
    }


def loss(model: Model, objective: Objective, x: Tensor, noise: Mapping[str, Tensor], beta: Tensor) -> Loss:
    """One pass, as a training step makes it."""
    return objective(model(x, noise, beta), beta, model=model, noise=noise)


def train_config(objective: str, model: ModelConfig, *, data: str = "digits", **fields: object) -> TrainConfig:
    """A run of one step with these parts; ValidationError where they do not go together."""
    binary = model.likelihood.levels == 2
    metric = {"checkpoint": {"metric": "val/distortion", "mode": "min"}}
    return TrainConfig.model_validate(
        {
            "data": {"name": data, "binarize": "dynamic" if binary else "none"},
            "model": model,
            "objective": OBJECTIVES[objective],
            "steps": 1,
            "batch_size": 6,
            **metric,
            **fields,
        }
    )


def goes_together(objective: str, model: str) -> bool:
    """Whether a spec with this objective and the parts of the model `model` is accepted (on data that suit them)."""
    small = MODELS[model][0].model_copy(update={"backbone": MLPConfig(hidden=(5,))})
    try:
        train_config(objective, small)
    except ValidationError:
        return False
    return True
