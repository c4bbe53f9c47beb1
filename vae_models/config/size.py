"""How large a configuration is, from its numbers alone: no part is built, and torch is not loaded.

Widths multiply, so bounds on each of them bound nothing; a model too large for any machine should be refused when its
specification is read, and not by the memory of the machine that builds it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise
from typing import TYPE_CHECKING

from vae_models.data.catalogue import CATALOGUE

if TYPE_CHECKING:
    from vae_models.backbones.specs import BackboneConfig
    from vae_models.config.train import TrainConfig
    from vae_models.likelihoods.specs import LikelihoodConfig
    from vae_models.priors.specs import PriorConfig
    from vae_models.strict import DataShape
    from vae_models.topologies.vae.specs import GatingConfig, ModelConfig

PUBLISHED_FEATURES = 2**14  # before the heads, of nets without a width of choice
KERNEL = 16  # weights of a convolution from one channel to one: those here have 3 x 3 to 6 x 6


def weights(config: TrainConfig) -> int:
    """Trained numbers of the model, about: of fully connected parts exactly, of convolutions to a factor of a few, of
    nets that are as published (up to 1.4e8) only what the size of the latent space adds."""
    model, shape = config.model, CATALOGUE[config.data.name].shape
    found = _of_backbone(model, shape) + _of_prior(model.prior, model.latent, shape)
    return found if model.gating is None else found + _of_gates(model.gating, _widths(model.backbone))


def outputs(config: TrainConfig) -> int:
    """Numbers that the decoder gives in one step, over all workers."""
    samples = config.objective.samples if config.objective.kind == "iwae" else 1
    return (
        config.batch_size
        * samples
        * math.prod(CATALOGUE[config.data.name].shape)
        * per_element(config.model.likelihood)
    )


def steps(config: TrainConfig) -> float:
    """Optimizer steps of a run, whichever way its length is given."""
    if config.steps is not None:
        return config.steps
    return (config.epochs or 0.0) * CATALOGUE[config.data.name].sizes[0] / config.batch_size


def per_element(likelihood: LikelihoodConfig) -> int:
    """Outputs of the decoder for each element of x: what the built likelihood's `parameters_per_element` says."""
    if likelihood.kind == "logistic-mixture":
        return 3 * likelihood.components
    if likelihood.kind in ("gaussian", "discretized"):
        return 2 if likelihood.fit == "predicted" else 1
    return {"categorical": 256, "bitwise": 8, "beta": 2}.get(likelihood.kind, 1)


def _dense(widths: Sequence[int]) -> int:
    """Weights and biases of linear layers between each two of `widths`."""
    return sum((before + 1) * after for before, after in pairwise(widths))


def _of_backbone(model: ModelConfig, shape: DataShape) -> int:
    backbone, latent, elements = model.backbone, model.latent, math.prod(shape)
    heads = latent if model.posterior.kind in ("delta", "isotropic-normal") else 2 * latent
    if backbone.kind == "mlp":
        decoder = backbone.hidden[::-1] if backbone.decoder_hidden is None else backbone.decoder_hidden
        return _dense([elements, *backbone.hidden, heads]) + _dense(
            [latent, *decoder, elements * per_element(model.likelihood)]
        )
    widths = _widths(backbone)
    # each convolution halves height and width
    features = widths[-1] * max(1, math.prod(shape[1:]) >> 2 * len(widths)) if widths else PUBLISHED_FEATURES
    convolutions = 2 * KERNEL * sum(before * after for before, after in pairwise((shape[0], *widths)))
    return convolutions + features * (heads + latent)


def _widths(backbone: BackboneConfig) -> tuple[int, ...]:
    """Of the encoder's hidden layers; none for nets that are as published."""
    if backbone.kind == "mlp":
        return backbone.hidden
    if backbone.kind == "conv":
        return backbone.channels
    if backbone.kind == "resnet":
        return (backbone.channels,) * 4
    if backbone.kind == "sigma-vae":
        return (backbone.channels, 2 * backbone.channels, 4 * backbone.channels)
    return ()


def _of_prior(prior: PriorConfig, latent: int, shape: DataShape) -> int:
    if prior.kind == "vampprior":
        return prior.components * math.prod(shape)
    if prior.kind == "vhp":
        inner, gated = prior.inner or latent, 2 if prior.gated else 1
        ends = ((latent, inner), (inner, latent))
        last = [prior.hidden[-1] if prior.hidden else None] * 2
        return sum(
            gated * _dense([start, *prior.hidden]) + _dense([wide or start, 2 * end])
            for (start, end), wide in zip(ends, last, strict=True)
        )
    return 0


def _of_gates(gating: GatingConfig, widths: Sequence[int]) -> int:
    """One network from u for each hidden layer, and two for each batch norm: see `vae_models.nn.gates`."""
    hidden = {"affine": [], "mlp-5": [gating.hidden] * 4}.get(gating.network, [gating.hidden])
    both = (*(widths or (1024,)), *(widths or (1024,)))
    of_layers = sum(_dense([1, *hidden, width]) for width in both) if gating.place != "batch-norm" else 0
    of_norms = sum(2 * _dense([1, gating.hidden, width]) for width in both) if gating.place != "gates" else 0
    return of_layers + of_norms
