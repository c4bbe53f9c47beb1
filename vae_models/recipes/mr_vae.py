"""Multi-Rate VAE (Bae et al. 2023), appendices B to D: beta-VAEs on the benchmark nets, and one model for all beta.

The paper (C.2): static binary MNIST, Omniglot, CIFAR-10, SVHN, CelebA64; Adam, 200 epochs, batch size 128, cosine decay
of the learning rate; beta-VAEs at ten log-spaced beta in [0.01, 10] "with and without the KL warm-up"; latent sizes by
table 1's counts. The learning rate was the best of {0.01, 0.003, 0.001, 0.0003, 0.0001, 0.00003, 0.00001} at beta = 1
by validation loss. The code that it points to (Chadebec et al. 2022, github.com/clementchadebec/benchmark_VAE): the
nets, which end in a sigmoid: the mean of the Gaussian on colour images here (its link), the probabilities of the
Bernoulli, which takes logits.
Ours: which learning rate won (`LEARNING_RATE`), how long the KL warm-up is (`KL_WARMUP_EPOCHS`), a Gaussian of variance
1 on colour images, how Omniglot's grey images become binary (dynamically: x ~ Bernoulli(grey value)), where a
multi-rate model is evaluated when it is trained (at the ten beta of the baselines), and the same nets on dynamically
binarized MNIST and Fashion-MNIST, which are not in the paper.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from itertools import product

from vae_models.backbones.specs import BackboneConfig, ConvConfig, MLPConfig, ResNetConfig
from vae_models.config.run import CheckpointConfig, EvaluationConfig
from vae_models.config.train import TrainConfig
from vae_models.control.specs import BetaConfig, ConstantBetaConfig, LogUniformBetaConfig, WarmupBetaConfig
from vae_models.data.config import DataConfig
from vae_models.likelihoods.specs import BernoulliConfig, GaussianConfig, LikelihoodConfig
from vae_models.objectives.specs import TotalCorrelationConfig
from vae_models.optimization.specs import AdamConfig, CosineScheduleConfig
from vae_models.recipes.recipe import Recipe, ours, recipe
from vae_models.topologies.vae.specs import GatingConfig, ModelConfig

# of the paper's grid; with 0.001 the rate jumps to thousands of nats in the first ten steps before it settles
LEARNING_RATE = 3e-4
KL_WARMUP_EPOCHS = 20.0

_DATA = {
    "mnist": DataConfig(name="mnist", binarize="dynamic"),
    "fashion-mnist": DataConfig(name="fashion-mnist", binarize="dynamic"),
    "omniglot": DataConfig(name="omniglot", binarize="dynamic"),
    "binarized-mnist": DataConfig(name="binarized-mnist"),
}
_WARMED_UP = ("mnist", "binarized-mnist", "omniglot")
_NOT_IN_THE_PAPER = ("mnist", "fashion-mnist")


def _of_c2(data: str, name: str, what: str, config: Callable[[], TrainConfig]) -> Recipe:
    """Return the recipe as of appendix C.2 on its five data sets, and as ours after it on others."""
    if data in _NOT_IN_THE_PAPER:
        return ours(f"{data}/{name}", "MR-VAE", "appendix C.2", what, config)
    return recipe(f"{data}/{name}", "MR-VAE", "appendix C.2; the code of its nets", what, config)


def _evaluation(gating: GatingConfig | None, *, train: bool = False) -> EvaluationConfig:
    """Return the evaluation; a multi-rate model is evaluated at the end also at ten log-spaced beta:
    its rate-distortion curve.

    train: on the training split too, by which C.1 and C.2.1 choose the learning rate.
    """
    if gating is None:
        return EvaluationConfig(train=train)
    betas = [gating.low * (gating.high / gating.low) ** (i / 9) for i in range(10)]
    return EvaluationConfig(betas=tuple(float(f"{beta:.4g}") for beta in betas), betas_at_end_only=True, train=train)


def beta_vae_cnn(data: DataConfig, beta: BetaConfig, model: ModelConfig | None = None) -> TrainConfig:
    """Return the baseline on one data set, with one beta or its warm-up; or another model trained in the same way."""
    return TrainConfig(
        data=data,
        model=model or ModelConfig(latent=32, backbone=ConvConfig()),
        beta=beta,
        optimizer=AdamConfig(lr=LEARNING_RATE),
        schedule=CosineScheduleConfig(),
        batch_size=128,
        epochs=200,
        evaluation=_evaluation(None if model is None else model.gating),
        checkpoint=CheckpointConfig(every_steps=2000),
    )


def _recipe(data: str, *, warmup: bool) -> Recipe:
    beta: BetaConfig = WarmupBetaConfig(epochs=KL_WARMUP_EPOCHS) if warmup else ConstantBetaConfig()
    what = "beta-VAE on the benchmark CNN" + (", with KL warm-up" if warmup else "")
    return _of_c2(data, f"beta-vae-cnn{'-warmup' if warmup else ''}", what, partial(beta_vae_cnn, _DATA[data], beta))


_IMAGES = {
    "binarized-mnist": (_DATA["binarized-mnist"], 32),
    "omniglot": (_DATA["omniglot"], 32),
    "mnist": (_DATA["mnist"], 32),
    "cifar10": (DataConfig(name="cifar10"), 256),
    "svhn": (DataConfig(name="svhn"), 256),
    "celeba": (DataConfig(name="celeba"), 64),
}
_NETS: dict[str, BackboneConfig] = {"cnn": ConvConfig(), "resnet": ResNetConfig()}
MULTI_RATE = LogUniformBetaConfig()
GATING = GatingConfig()


def image_vae(data: str, net: str, beta: BetaConfig, gating: GatingConfig | None = None) -> TrainConfig:
    """Return C.2 on one data set and net. Colour images:
    a Gaussian of variance 1, its mean a sigmoid as in the code.
    """
    config, latent = _IMAGES[data]
    grey = data in ("binarized-mnist", "omniglot", "mnist")
    likelihood: LikelihoodConfig = BernoulliConfig() if grey else GaussianConfig(link="sigmoid")
    model = ModelConfig(latent=latent, backbone=_NETS[net], likelihood=likelihood, gating=gating)
    return beta_vae_cnn(config, beta, model)


# whose gate table 1 counts twice: in the code the encoder's last or third convolution has one more after its ReLU
_REPEATED = {"binarized-mnist": 3, "omniglot": 3, "cifar10": None, "svhn": None, "celeba": 2}


def table_1_gating(data: str) -> GatingConfig:
    """Return the gating whose parameters are those of table 1's CNN rows,
    as in the paper's code (github.com/pomonam/mr-vae).

    Each convolution with batch norm has Listing 1's gate, 2 C parameters, and networks 1 -> 64 -> C of log beta, 256 +
    130 C, that are added to the norm's own scale and shift. One gate is there twice for 28 x 28 (the 1024 channels of
    the encoder's last convolution: 2,048) and for 64 x 64 (the 512 of its third: 1,024), none for 32 x 32. That makes
    358,400, 356,352 and 374,528 parameters more than the beta-VAE.
    """
    return GatingConfig(place="gates-and-batch-norm", repeated=_REPEATED[data])


def linear_vae(*, multi_rate: bool) -> TrainConfig:
    """Return C.1: linear VAE, latent 32, fixed identity covariance;
    MR-VAE's has two linear layers each side (theorem 1).

    Gates are also on the posterior's mean and variance, as in eqs 26 and 30-31. Ours: the learning rate that won, the
    batch size, the width between the two layers and how the gates start. The width is four times the latent's, since
    one gate for each latent dimension is not enough: the decoder is theorem 1's for every beta, but the encoder's
    sigmoids then have to be sqrt(max(0, lambda - beta)) / lambda, and the variance min(1, beta / lambda), for which it
    takes sums of a few.
    """
    backbone = MLPConfig(hidden=(4 * 32,), activation="identity") if multi_rate else MLPConfig(hidden=())
    gating = GatingConfig(heads=True, start="theorem-1") if multi_rate else None
    return TrainConfig(
        data=DataConfig(name="mnist"),
        model=ModelConfig(latent=32, backbone=backbone, likelihood=GaussianConfig(), gating=gating),
        beta=MULTI_RATE if multi_rate else ConstantBetaConfig(),
        optimizer=AdamConfig(lr=1e-3),
        schedule=CosineScheduleConfig(warmup_epochs=10),
        batch_size=128,
        epochs=200,
        evaluation=_evaluation(gating, train=multi_rate),
        checkpoint=CheckpointConfig(every_steps=2000),
    )


def tcvae(*, multi_rate: bool) -> TrainConfig:
    """Return C.2.1: beta-TCVAE on dSprites, two layers of 1200 (decoder Tanh), latent 10, batch 2048, 50 epochs.

    Two hidden layers in the decoder too, as the text says; the code that it points to (Chen et al. 2018) has a third.
    From that code: Bernoulli, minibatch-weighted sampling. Ours: the learning rate that won.
    """
    low, high = 0.1, 10.0
    gating = GatingConfig(low=low, high=high) if multi_rate else None
    return TrainConfig(
        data=DataConfig(name="dsprites"),
        model=ModelConfig(
            latent=10,
            backbone=MLPConfig(hidden=(1200, 1200), decoder_activation="tanh"),
            gating=gating,
        ),
        objective=TotalCorrelationConfig(),
        beta=LogUniformBetaConfig(low=low, high=high) if multi_rate else ConstantBetaConfig(),
        optimizer=AdamConfig(lr=1e-3),
        batch_size=2048,
        epochs=50,
        evaluation=_evaluation(gating, train=multi_rate),
        checkpoint=CheckpointConfig(every_steps=1000),
    )


def _images() -> list[Recipe]:
    recipes = []
    for data, net in product(_IMAGES, _NETS):
        variants: dict[str, tuple[BetaConfig, GatingConfig | None, str]] = {
            f"beta-vae-{net}": (ConstantBetaConfig(), None, "beta-VAE"),
            f"beta-vae-{net}-warmup": (WarmupBetaConfig(epochs=KL_WARMUP_EPOCHS), None, "beta-VAE with KL warm-up"),
            f"mr-vae-{net}": (MULTI_RATE, GATING, "multi-rate VAE: every beta in [0.01, 10] in one run"),
        }
        for name, (beta, gating, what) in variants.items():
            if gating is None and (data, f"beta-vae-{net}") in _SAID:
                continue
            build = partial(image_vae, data, net, beta, gating)
            recipes.append(_of_c2(data, name, f"{what}, {_WORDS[net]}", build))
    return recipes


_WORDS = {"cnn": "benchmark CNN", "resnet": "benchmark ResNet"}
_SAID = {(data, "beta-vae-cnn") for data in _DATA}  # recipes of their own, below
_ABLATIONS: dict[str, GatingConfig] = {
    "mlp": GatingConfig(network="mlp"),
    "mlp-shared": GatingConfig(network="mlp-shared"),
    "mlp-5": GatingConfig(network="mlp-5"),
    "sigmoid": GatingConfig(decoder="sigmoid"),
    "sqrt": GatingConfig(encoder="sqrt"),
    "film": GatingConfig(encoder="film", decoder="film"),
}

RECIPES = (
    *(_recipe(data, warmup=False) for data in _DATA),
    *(_recipe(data, warmup=True) for data in _WARMED_UP),
    *_images(),
    *(
        recipe(
            f"omniglot/mr-vae-resnet-{name}",
            "MR-VAE",
            "appendix D, figure 9",
            f"multi-rate VAE, {name} gates",
            partial(image_vae, "omniglot", "resnet", MULTI_RATE, gating),
        )
        for name, gating in _ABLATIONS.items()
    ),
    *(
        recipe(
            f"{data}/mr-vae-cnn-batch-norm",
            "MR-VAE",
            "table 1; the paper's code",
            "multi-rate VAE, with the gates and batch norms that table 1 counts",
            partial(image_vae, data, "cnn", MULTI_RATE, table_1_gating(data)),
        )
        for data in _REPEATED
    ),
    recipe("mnist/linear-vae", "MR-VAE", "appendix C.1", "linear VAE", partial(linear_vae, multi_rate=False)),
    recipe(
        "mnist/mr-linear-vae", "MR-VAE", "appendix C.1", "multi-rate linear VAE", partial(linear_vae, multi_rate=True)
    ),
    recipe("dsprites/beta-tcvae", "MR-VAE", "appendix C.2.1", "beta-TCVAE", partial(tcvae, multi_rate=False)),
    recipe("dsprites/mr-tcvae", "MR-VAE", "appendix C.2.1", "multi-rate TCVAE", partial(tcvae, multi_rate=True)),
)
