"""SVG-LP (Denton and Fergus 2018), with its loss and with sigma-VAE's decoder (Rybkin et al. 2020, appendix B).

SVG's commands (github.com/edenton/svg, train_svg_lp.py): features of 128, a predictor of two LSTM layers of 256 units,
posterior and prior of one; Adam, learning rate 0.002, batches of 100, 300 epochs of 600 batches; its loss of a video is
sum_t MSE_t + beta sum_t KL_t with beta = 1e-4, where MSE_t is the mean over the D elements of frame t. Moving MNIST:
DCGAN's nets, z of 10 dimensions, 5 frames given and 10 predicted, 64x64x1. BAIR: VGG's nets, z of 64, 2 and 10,
64x64x3.

That loss is the bound's with a Gaussian of variance D / 2, whose -log p(x_t|.) is |x_t - mean|^2 / D and a constant:
`published` has sigma = sqrt(D / 2) and beta = 1e-4, so its gradients are the published ones (sigma = 1 with
beta = 1e-4 D / 2, of moving MNIST 0.2048, has D / 2 times these). No number of such a likelihood is to be compared with
another's: the best checkpoint is by the squared error. sigma-VAE: the variance of maximum likelihood, and beta = 1.
Ours: batch norms over all frames of a batch at once; moving MNIST of digits that are divided into three splits; BAIR
for as many steps as moving MNIST; the small ones, of scikit-learn's digits.
"""

from __future__ import annotations

import math
from functools import partial

from vae_models.config.run import CheckpointConfig, EvaluationConfig
from vae_models.config.train import TrainConfig
from vae_models.control.specs import ConstantBetaConfig
from vae_models.data.config import DataConfig
from vae_models.likelihoods.specs import GaussianConfig
from vae_models.optimization.specs import AdamConfig
from vae_models.recipes.recipe import ours, recipe
from vae_models.topologies.video.frame_specs import DcganConfig, VggConfig
from vae_models.topologies.video.specs import VideoConfig

BETA = 1e-4  # of the mean squared error
OPTIMAL = GaussianConfig(fit="mle", link="sigmoid")  # sigma-VAE's
MOVING_MNIST = VideoConfig(latent=10, context=5)
BAIR = VideoConfig(latent=64, context=2, frame_net=VggConfig())
TINY = VideoConfig(
    latent=6, context=3, hidden=64, frame_net=DcganConfig(channels=(16, 32), features=32)
)  # of 16x16 pixels


def published(data: DataConfig) -> GaussianConfig:
    """Return the Gaussian whose -log p is the mean squared error of a frame, and a constant."""
    return GaussianConfig(sigma=math.sqrt(math.prod(data.facts.shape[1:]) / 2), link="sigmoid")


def svg_lp(
    data: str, model: VideoConfig, *, optimal: bool, steps: int, batch_size: int = 100, every: float = 5
) -> TrainConfig:
    """Return SVG-LP. optimal: with sigma-VAE's decoder and beta = 1; every: epochs between evaluations."""
    of_data = DataConfig(name=data)
    likelihood = OPTIMAL if optimal else published(of_data)
    return TrainConfig(
        data=of_data,
        model=model.model_copy(update={"likelihood": likelihood}),
        beta=ConstantBetaConfig(value=1.0 if optimal else BETA),
        optimizer=AdamConfig(lr=2e-3),
        batch_size=batch_size,
        steps=steps,
        evaluation=EvaluationConfig(batch_size=100, every_epochs=every),
        checkpoint=CheckpointConfig(every_steps=1000, metric="val/elbo" if optimal else "val/squared_error"),
    )


_STEPS = 180_000  # 300 epochs of 600 batches
_SIGMA = "appendix B, figure 8"

RECIPES = (
    recipe(
        "moving-mnist/svg-lp", "SVG", "section 5.1", "SVG-LP, mean squared error, beta 1e-4",
        partial(svg_lp, "moving-mnist", MOVING_MNIST, optimal=False, steps=_STEPS),
    ),
    ours(
        "moving-mnist/sigma-svg-lp", "sigma-VAE", _SIGMA, "SVG-LP, one decoder variance by maximum likelihood, beta 1",
        partial(svg_lp, "moving-mnist", MOVING_MNIST, optimal=True, steps=_STEPS),
    ),
    recipe(
        "bair/svg-lp", "SVG", "section 5.3", "SVG-LP, mean squared error, beta 1e-4",
        partial(svg_lp, "bair-12", BAIR, optimal=False, steps=_STEPS),
    ),
    recipe(
        "bair/sigma-svg-lp", "sigma-VAE", _SIGMA, "SVG-LP, one decoder variance by maximum likelihood, beta 1",
        partial(svg_lp, "bair-12", BAIR, optimal=True, steps=_STEPS),
    ),
    ours(
        "moving-digits/svg-tiny", "SVG", "section 5.1", "narrow SVG-LP, mean squared error, minutes on one core",
        partial(svg_lp, "moving-digits", TINY, optimal=False, steps=2000, batch_size=50, every=5),
    ),
    ours(
        "moving-digits/sigma-svg-tiny", "sigma-VAE", _SIGMA, "narrow SVG-LP, one decoder variance, beta 1, minutes",
        partial(svg_lp, "moving-digits", TINY, optimal=True, steps=2000, batch_size=50, every=5),
    ),
)  # fmt: skip
