"""Preventing oversmoothing in VAE via generalized variance parameterization (Takida et al., "AR-ELBO").

The paper: nets of appendices D.1 and I, latent 16 (MNIST), 64 (CelebA), 256 (CelebAHQ), Adam 1e-3 (MNIST) or 2e-4,
batch 64, at most 100 and 70 epochs; section 4.2: latent 8, 200 epochs, nets without batch norm; variances that are
trained "as other trainable parameters", so without a clip. The code of those it compares with: the penalties' weights.
RAE (Ghosh et al. 2020, github.com/ParthaEth/Regularized_autoencoders-RAE-) adds 1e-4 mean_j z_j^2 and 1e-7 |w|^2 (L2),
or 0.5e-7 (MNIST) or 1e-7 (CelebA) times the mean over z's dimensions of the squared gradient (GP), to the *mean*
squared error of an image's values; WAE-MMD (Tolstikhin et al. 2018, github.com/tolstikhin/wae) adds 10 MMD to 0.05 x
the summed one. The objectives here have the sum (sigma^2 = 1/2 makes the distortion the squared error), so the weights
are those times d / d_z, d and 20, d values in an image (`penalties`). The gradient is of the decoder's mean, as eq 4
has it; the code's is of the sum of its squares.
Ours: epochs (70) and gradient penalty (CelebA's) for CelebAHQ, where a trained sigma starts (1), mixture components
(10), images that stay k/255 (the Bernoulli decoder is the cross-entropy on them), and systems on data sets for which
tables 4 and 6 have no row.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from itertools import product

from vae_models.backbones.specs import InfoGanConfig
from vae_models.config.run import CheckpointConfig, EvaluationConfig
from vae_models.config.train import TrainConfig
from vae_models.data.config import DataConfig
from vae_models.likelihoods.specs import BernoulliConfig, GaussianConfig, LikelihoodConfig, LogisticMixtureConfig
from vae_models.objectives.specs import AutoencoderConfig, ElboConfig, ObjectiveConfig, RaeConfig, WaeMmdConfig
from vae_models.optimization.specs import AdamConfig
from vae_models.posteriors.specs import DeltaConfig, DiagonalNormalConfig, IsotropicNormalConfig
from vae_models.recipes.recipe import Recipe, ours, recipe
from vae_models.topologies.vae.specs import ModelConfig

DATA = {"mnist": (16, 1e-3, 100), "celeba": (64, 2e-4, 70), "celeba-hq": (256, 2e-4, 70)}  # latent, lr, epochs
AXES = {
    "iso-i": ("iso", "dataset"),
    "diag-i": ("diag", "dataset"),
    "iso-d": ("iso", "datum"),
    "diag-d": ("diag", "datum"),
}
VARIANCES = (0.1, 0.01)  # of the noise
PATTERNS = ("uniform", "spatial", "conditional", "spatial-conditional")
ELEMENTS = {"mnist": 28 * 28, "celeba": 3 * 64 * 64, "celeba-hq": 3 * 128 * 128}  # values in an image
GRADIENT_WEIGHT = {"mnist": 0.5e-7, "celeba": 1e-7, "celeba-hq": 1e-7}
# what tables 4 (MNIST, CelebA) and 6 (CelebAHQ) have no numbers of
NOT_IN_THE_TABLES = {
    ("mnist", "mol-vae"),
    ("celeba", "bernoulli-vae"),
    ("celeba-hq", "bernoulli-vae"),
    *(("celeba-hq", f"trained-{name}") for name in AXES),
}
SQUARED_ERROR = GaussianConfig(sigma=0.5**0.5, link="sigmoid")


def fitted(parameterization: str) -> GaussianConfig:
    """Return table 2's Gaussian: variances by maximum likelihood; 1e-6 inside the logarithm but for Iso-I."""
    tie, per = AXES[parameterization]
    return GaussianConfig.model_validate(
        {
            "tie": tie,
            "per": per,
            "fit": "mle",
            "link": "sigmoid",
            "softclip": None,
            "epsilon": 0.0 if parameterization == "iso-i" else 1e-6,
        }
    )


def trained(parameterization: str) -> GaussianConfig:
    """Return the same four Gaussians with variances as trained parameters or, per datum, as outputs of the decoder."""
    tie, per = AXES[parameterization]
    fit = "trained" if per == "dataset" else "predicted"
    return GaussianConfig.model_validate({"tie": tie, "per": per, "fit": fit, "link": "sigmoid", "softclip": None})


# system -> (likelihood, objective, what)
SYSTEMS: Mapping[str, tuple[LikelihoodConfig, ObjectiveConfig, str]] = {
    **{f"ar-elbo-{name}": (fitted(name), ElboConfig(), f"{name} variances by maximum likelihood") for name in AXES},
    **{f"trained-{name}": (trained(name), ElboConfig(), f"{name} variances as trained parameters") for name in AXES},
    "gaussian-vae": (GaussianConfig(link="sigmoid"), ElboConfig(), "Gaussian decoder of variance 1"),
    "bernoulli-vae": (BernoulliConfig(), ElboConfig(), "Bernoulli decoder"),
    "mol-vae": (LogisticMixtureConfig(), ElboConfig(), "mixture of logistics decoder"),
    "ae": (SQUARED_ERROR, AutoencoderConfig(), "autoencoder"),
    "wae-mmd": (SQUARED_ERROR, WaeMmdConfig(), "Wasserstein autoencoder, MMD"),
    "rae": (SQUARED_ERROR, RaeConfig(), "regularized autoencoder, L2"),
    "rae-gp": (SQUARED_ERROR, RaeConfig(regularizer="gradient"), "regularized autoencoder, gradient penalty"),
}


def penalties(data: str, objective: ObjectiveConfig) -> ObjectiveConfig:
    """Return the objective with the published weights, which go with another scale of the error: see the module."""
    elements, (latent, _, _) = ELEMENTS[data], DATA[data]
    if isinstance(objective, WaeMmdConfig):
        return WaeMmdConfig(weight=10 / 0.05)
    if isinstance(objective, RaeConfig):
        penalized = objective.regularizer == "gradient"
        decoder = GRADIENT_WEIGHT[data] * elements / latent if penalized else 1e-7 * elements
        return RaeConfig(
            regularizer=objective.regularizer, latent_weight=1e-4 * elements / latent, decoder_weight=decoder
        )
    return objective


def ar_elbo(data: str, system: str) -> TrainConfig:
    """Return section 6 on one data set. Autoencoders have a deterministic encoder and are judged by the distortion."""
    latent, lr, epochs = DATA[data]
    likelihood, objective, _ = SYSTEMS[system]
    objective = penalties(data, objective)
    deterministic = objective.kind != "elbo"
    return TrainConfig(
        data=DataConfig.model_validate({"name": data}),
        model=ModelConfig(
            latent=latent,
            backbone=InfoGanConfig(),
            likelihood=likelihood,
            posterior=DeltaConfig() if deterministic else DiagonalNormalConfig(),
        ),
        objective=objective,
        optimizer=AdamConfig(lr=lr),
        batch_size=64,
        epochs=epochs,
        checkpoint=CheckpointConfig(
            every_steps=2000,
            metric="val/distortion" if deterministic else "val/elbo",
            mode="min" if deterministic else "max",
        ),
    )


def section_4(*, sigma: float, stochastic: bool) -> TrainConfig:
    """Return section 4.2, appendix D.1: a fixed sigma_x,
    and sigma_z trained (stochastic) or none (deterministic encoding).

    Table 1's MSE and KL are of the training set: `train_eval/...`.
    """
    return TrainConfig(
        data=DataConfig(name="mnist"),
        model=ModelConfig(
            latent=8,
            backbone=InfoGanConfig(norm=False, kernel=4),
            likelihood=GaussianConfig(sigma=sigma, link="sigmoid"),
            posterior=IsotropicNormalConfig() if stochastic else DeltaConfig(),
        ),
        # without noise the loss of eq 3 is distortion + |mean|^2 / 2
        objective=ElboConfig() if stochastic else RaeConfig(latent_weight=0.5, decoder_weight=0.0),
        optimizer=AdamConfig(lr=1e-3),
        batch_size=64,
        epochs=200,
        evaluation=EvaluationConfig(every_epochs=5, train=True),
        checkpoint=CheckpointConfig(
            every_steps=2000, metric="val/elbo" if stochastic else "val/distortion", mode="max" if stochastic else "min"
        ),
    )


def fixed_posterior() -> TrainConfig:
    """Return appendix E: sigma_z is fixed, sigma_x by maximum likelihood.

    Table E.8 has log10 sigma_z^2 from 1 to -1; 0 here. Set model.posterior.sigma, from 10^0.5 to 10^-0.5, or take the
    search of all 21.
    """
    config = section_4(sigma=1.0, stochastic=True)
    model = config.model.model_copy(
        update={"likelihood": fitted("iso-i"), "posterior": IsotropicNormalConfig(sigma=1.0, fit="fixed")}
    )
    return config.model_copy(update={"model": model})


def noise(pattern: str, parameterization: str, variance: float) -> TrainConfig:
    """Return section 5.3, table 3: noise of variance 0.1 or 0.01."""
    config = ar_elbo("mnist", f"ar-elbo-{parameterization}")
    data = {"name": "mnist", "noise": {"kind": "gaussian", "pattern": pattern, "variance": variance}}
    return config.model_copy(update={"data": DataConfig.model_validate(data)})


def _section_6() -> list[Recipe]:
    recipes = []
    for data, system in product(DATA, SYSTEMS):
        table = "table 6" if data == "celeba-hq" else "table 4"
        made = ours if (data, system) in NOT_IN_THE_TABLES else recipe
        # sigma-VAE has that name on that set
        name = f"{data}/{'ar-elbo-' if (data, system) == ('celeba', 'gaussian-vae') else ''}{system}"
        _, objective, what = SYSTEMS[system]
        weights = f"; weights of {system.split('-')[0].upper()}'s code" if objective.kind in ("rae", "wae-mmd") else ""
        section = f"{table}, appendix I{weights}"
        recipes.append(made(name, "AR-ELBO", section, what, partial(ar_elbo, data, system)))
    return recipes


RECIPES = (
    *_section_6(),
    recipe(
        "mnist/fixed-variance",
        "AR-ELBO",
        "section 4.2, table 1, appendix D.1",
        "fixed sigma_x (set model.likelihood.sigma), stochastic encoding",
        partial(section_4, sigma=1.0, stochastic=True),
    ),
    recipe(
        "mnist/fixed-variance-deterministic",
        "AR-ELBO",
        "section 4.2, table 1, appendix D.1",
        "fixed sigma_x (set model.likelihood.sigma), deterministic encoding",
        partial(section_4, sigma=1.0, stochastic=False),
    ),
    recipe(
        "mnist/fixed-posterior-variance",
        "AR-ELBO",
        "appendix E, table E.8",
        "fixed sigma_z (set model.posterior.sigma), fitted sigma_x",
        fixed_posterior,
    ),
    *(
        recipe(
            f"mnist/noise-{pattern}-{name}{'' if variance == VARIANCES[0] else f'-{variance:g}'}",
            "AR-ELBO",
            "section 5.3, table 3",
            f"{pattern} noise of variance {variance:g}, {name} variances",
            partial(noise, pattern, name, variance),
        )
        for variance, pattern, name in product(VARIANCES, PATTERNS, AXES)
    ),
)
