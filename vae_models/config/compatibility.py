"""Which parts go together: every rule about two parts, with its reason, checked when a spec is read.

What depends on the data's shape and number is checked then for the set that `data.name` names, and again for the data
that a run is given.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

from vae_models import bounds, measures
from vae_models.config import size
from vae_models.data.catalogue import CATALOGUE
from vae_models.strict import DataShape

if TYPE_CHECKING:
    from vae_models.config.train import TrainConfig


def check(config: TrainConfig) -> None:
    """ValueError with every reason why these parts cannot be trained together."""
    facts = CATALOGUE[config.data.name]
    _refuse([*_reasons(config), *_data_reasons(config, facts.shape, facts.sizes[0])])


def check_data(config: TrainConfig, data_shape: DataShape, data_size: int) -> None:
    """ValueError with every reason why they cannot be trained on data of this shape and number (of training data)."""
    _refuse(list(_data_reasons(config, data_shape, data_size)))


def _refuse(reasons: list[str]) -> None:
    if reasons:
        raise ValueError("; ".join(reasons))


def _reasons(config: TrainConfig) -> Iterator[str]:
    return (reason for rule in RULES for reason in rule(config))


def _data_reasons(config: TrainConfig, data_shape: DataShape, data_size: int) -> Iterator[str]:
    return (reason for rule in DATA_RULES for reason in rule(config, data_shape, data_size))


def backbone_takes_the_data(config: TrainConfig, data_shape: DataShape, data_size: int) -> Iterator[str]:
    try:
        config.model.backbone.check(data_shape)
    except ValueError as error:
        yield str(error)


def batch_norm_needs_two_values(config: TrainConfig, data_shape: DataShape, data_size: int) -> Iterator[str]:
    """Of one value there is no variance. Its statistics are the global batch's, however many workers share it."""
    backbone, prior = config.model.backbone, config.model.prior
    values = backbone.normed_values(data_shape)
    if not values or values > 1:
        return
    size = f"{data_shape[1]} x {data_shape[2]}"
    why = f"the {backbone.kind} backbone's batch norm has one value per channel of a {size} image, and needs two in a"
    mend = "or choose a backbone without batch norm (mlp, or infogan with norm false)"
    if config.batch_size < 2:
        yield f"{why} batch: set batch_size to 2 or more, {mend}"
    if prior.kind == "vampprior" and prior.components < 2:
        yield f"{why} batch of vampprior's pseudo-inputs: set model.prior.components to 2 or more, {mend}"


def variances_need_two_errors(config: TrainConfig, data_shape: DataShape, data_size: int) -> Iterator[str]:
    """The likelihood of one squared error under its own maximum-likelihood variance has no largest value."""
    likelihood = config.model.likelihood
    if likelihood.kind != "gaussian" or likelihood.fit != "mle" or likelihood.softclip is not None:
        return
    of_elements = math.prod(data_shape) if likelihood.tie == "iso" else 1
    errors = of_elements * (config.batch_size if likelihood.per == "dataset" else 1)
    if errors < 2 and likelihood.epsilon == 0:
        yield (
            f"model.likelihood fits each variance to one squared error ({likelihood.tie}, per {likelihood.per}, "
            f"{math.prod(data_shape)} elements, batch_size {config.batch_size}), which has no largest likelihood: set "
            "epsilon (1e-6) or softclip, or a larger batch_size"
        )


def total_correlation_needs_distinct_data(config: TrainConfig, data_shape: DataShape, data_size: int) -> Iterator[str]:
    """Both estimates of q(z) take the batch for M different ones of the N training data."""
    if config.objective.kind == "tc" and config.batch_size > data_size:
        yield (
            f"objective tc takes a batch for different ones of the training data, and batch_size {config.batch_size} "
            f"is more than there are, {data_size}: set batch_size to at most {data_size}"
            if data_size > 1
            else "objective tc compares training data, and there is one: give at least two, or choose elbo"
        )


def only_bytes_are_binarized(config: TrainConfig) -> Iterator[str]:
    if config.data.binarize != "none" and config.data.reals:
        what = f"{config.data.name} with noise" if config.data.noise.kind != "none" else config.data.name
        yield (
            f"data.binarize={config.data.binarize} needs values in [0, 1] to compare or to draw from, "
            f"and those of {what} are unbounded; set it to none"
        )


def noise_patterns_need_digits(config: TrainConfig) -> Iterator[str]:
    name = config.data.name
    if config.data.noise.kind != "none" and CATALOGUE[name].label_name != "digit":
        digits = ", ".join(key for key, facts in CATALOGUE.items() if facts.label_name == "digit")
        yield (
            f"data.noise tells digits 0-4 from 5-9 by their labels, and {name} has no digits; "
            f"leave it out, or choose one of {digits}"
        )


def levels_need_bytes(config: TrainConfig) -> Iterator[str]:
    """A mass over the 256 levels k/255, and the Beta density on their range, are of grey or coloured bytes."""
    likelihood = config.model.likelihood
    if likelihood.levels != 256 and likelihood.kind != "beta":
        return
    if config.data.reals or config.data.bits:
        yield (
            f"model.likelihood {likelihood.kind} is of the levels k/255 of grey or coloured images, and x here is "
            f"{'unbounded' if config.data.reals else 'binary'}: choose "
            f"{'gaussian' if config.data.reals else 'bernoulli'}, or data.binarize none on grey images"
        )


def bernoulli_needs_the_unit_interval(config: TrainConfig) -> Iterator[str]:
    if config.model.likelihood.levels == 2 and config.data.reals:
        yield (
            f"model.likelihood {config.model.likelihood.kind} takes x for a probability, and x here is unbounded: "
            "choose gaussian"
        )


AUTOENCODERS = ("ae", "wae-mmd", "rae")  # objectives without a rate


def bounds_need_densities(config: TrainConfig) -> Iterator[str]:
    """Objectives with a rate need q(z|x) to have a density; autoencoders would let it shrink to nothing."""
    objective, posterior = config.objective.kind, config.model.posterior
    if objective not in AUTOENCODERS:
        if posterior.kind == "delta":
            yield f"objective {objective} needs the density of q(z|x), which delta has not: choose ae, wae-mmd or rae"
    elif objective != "wae-mmd" and posterior.kind != "delta":
        yield f"objective {objective} is of a deterministic encoder: set model.posterior.kind=delta"
    elif posterior.kind == "diagonal-normal" or (posterior.kind == "isotropic-normal" and posterior.fit == "trained"):
        yield (
            f"objective {objective} has no rate, so a scale of q(z|x) that is trained shrinks to nothing: set "
            "model.posterior to delta, or to isotropic-normal with fit fixed"
        )


def autoencoders_train_no_prior(config: TrainConfig) -> Iterator[str]:
    prior = config.model.prior.kind
    if config.objective.kind in AUTOENCODERS and prior != "standard-normal":
        yield f"objective {config.objective.kind} trains no prior: model.prior must be standard-normal, not {prior}"


def some_objectives_have_no_beta(config: TrainConfig) -> Iterator[str]:
    fixed = config.beta.kind == "constant" and config.beta.value == 1
    if config.objective.kind in ("iwae", *AUTOENCODERS) and not fixed:
        yield f"objective {config.objective.kind} has no beta: leave beta at the constant 1"


def metrics_need_a_bound(config: TrainConfig) -> Iterator[str]:
    posterior, metric = config.model.posterior, config.checkpoint.metric
    if not posterior.bound and measures.has_bound(metric):
        yield (
            f"checkpoint.metric {metric} is of a bound, and a {posterior.kind} posterior has none: choose "
            f"{' or '.join(measures.evaluated(bound=False))}"
        )


def some_objectives_compare_data(config: TrainConfig) -> Iterator[str]:
    if config.objective.kind in ("tc", "wae-mmd") and config.batch_size < 2:
        yield f"objective {config.objective.kind} compares the data of a batch: batch_size must be at least 2"


def gating_goes_with_its_beta(config: TrainConfig) -> Iterator[str]:
    """Gates read the beta of each datum, so beta must be drawn from their range; and nothing else can read it."""
    gating, beta = config.model.gating, config.beta
    if gating is None:
        if beta.kind == "log-uniform":
            yield "beta log-uniform trains a multi-rate model, and nothing here reads beta: set model.gating too"
        if config.evaluation.betas:
            yield "evaluation.betas are for a multi-rate model: set model.gating too, or leave them out"
        return
    if beta.kind != "log-uniform" or (beta.low, beta.high) != (gating.low, gating.high):
        yield (
            "model.gating needs the beta that it is gated by: set beta to log-uniform with the same range, "
            f"low {gating.low:g} and high {gating.high:g}"
        )
    outside = [f"{value:g}" for value in config.evaluation.betas if not gating.low <= value <= gating.high]
    if outside:
        yield f"evaluation.betas {', '.join(outside)} are outside the gates' range, {gating.low:g} to {gating.high:g}"


def gating_needs_layers(config: TrainConfig) -> Iterator[str]:
    gating, backbone = config.model.gating, config.model.backbone
    if gating is None:
        return
    if config.model.prior.kind == "vampprior":
        yield "model.gating and vampprior do not go together: the pseudo-inputs have no beta for the encoder's gates"
    linear = backbone.kind == "mlp" and not backbone.hidden and not backbone.decoder_hidden
    if gating.place == "gates" and linear and not gating.heads:
        yield "model.gating has nothing to gate in a backbone without hidden layers: set model.backbone.hidden"
    normed = backbone.kind == "conv" or (backbone.kind == "infogan" and backbone.norm)
    if gating.place != "gates" and not normed:
        yield (
            f"model.gating.place={gating.place} needs a backbone with batch norm, and {backbone.kind} has none: "
            "use gates"
        )
    if gating.repeated is not None:
        most = len(backbone.channels) - 1 if backbone.kind == "conv" else -1
        if gating.place == "batch-norm" or gating.repeated > most:
            allowed = f"0 to {most} here" if most >= 0 else f"which {backbone.kind} has not: leave it out"
            yield f"model.gating.repeated is of a gate after one of the conv backbone's convolutions, {allowed}"


def weights_are_bounded(config: TrainConfig) -> Iterator[str]:
    if (weights := size.weights(config)) > bounds.WEIGHTS:
        yield (
            f"model: about {weights:,} weights, more than the {bounds.WEIGHTS:,} that are taken: choose smaller "
            "widths, fewer layers or a smaller model.latent"
        )


def steps_are_bounded(config: TrainConfig) -> Iterator[str]:
    """Of a run, and the size of each."""
    if (steps := size.steps(config)) > bounds.STEPS:
        yield (
            f"epochs: {config.epochs:,g} at batch_size {config.batch_size:,} are {steps:,.0f} steps, more than the "
            f"{bounds.STEPS:,} that are taken"
        )
    if (outputs := size.outputs(config)) > bounds.OUTPUTS:
        yield (
            f"batch_size: the decoder gives {outputs:,} numbers in a step, more than the {bounds.OUTPUTS:,} that are "
            "taken: choose a smaller batch_size, fewer objective.samples or a likelihood with fewer parameters"
        )


# a rule yields a sentence for each thing that is wrong: what, why, and what to choose instead
RULES: tuple[Callable[[TrainConfig], Iterator[str]], ...] = (
    only_bytes_are_binarized,
    noise_patterns_need_digits,
    levels_need_bytes,
    bernoulli_needs_the_unit_interval,
    bounds_need_densities,
    autoencoders_train_no_prior,
    some_objectives_have_no_beta,
    metrics_need_a_bound,
    some_objectives_compare_data,
    gating_goes_with_its_beta,
    gating_needs_layers,
    weights_are_bounded,
    steps_are_bounded,
)
DATA_RULES: tuple[Callable[[TrainConfig, DataShape, int], Iterator[str]], ...] = (
    backbone_takes_the_data,
    batch_norm_needs_two_values,
    variances_need_two_errors,
    total_correlation_needs_distinct_data,
)
