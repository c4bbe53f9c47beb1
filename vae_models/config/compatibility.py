"""Which parts go together: every rule, with its reason, checked when a spec is read.

A rule reads what the parts declare of themselves and names none of them: a part that comes later is checked, too.

What depends on the data's shape and number is checked then for the set that `data.name` names, and again for the data
that a run is given.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING

from vae_models import bounds, measures
from vae_models.backbones.specs import BACKBONES, BackboneSpec
from vae_models.config import size
from vae_models.control.specs import BETAS
from vae_models.data.sources import SOURCES
from vae_models.data.spec import DataSpec, Support
from vae_models.likelihoods.specs import LIKELIHOODS, LikelihoodSpec
from vae_models.objectives.specs import OBJECTIVES, ObjectiveSpec
from vae_models.open_union import has_foreign
from vae_models.parts import found_in
from vae_models.posteriors.specs import POSTERIORS, PosteriorSpec
from vae_models.priors.specs import PRIORS, PriorSpec
from vae_models.strict import DataShape, parts_within
from vae_models.topologies.specs import TOPOLOGIES

if TYPE_CHECKING:
    from vae_models.config.run import RunConfig


def check(config: RunConfig) -> None:
    """Raise ValueError with every reason why these parts cannot be trained together."""
    if has_foreign(config):
        return  # what a part of a job's own code declares is known where that code is
    facts = config.data.facts
    _refuse([*_reasons(config), *_data_reasons(config, facts.shape, facts.sizes[0])])


def check_data(config: RunConfig, data_shape: DataShape, data_size: int) -> None:
    """Raise ValueError with every reason why they cannot be trained on data of this shape and
    number (of training data).
    """
    _refuse(list(_data_reasons(config, data_shape, data_size)))


def _refuse(reasons: list[str]) -> None:
    if reasons:
        raise ValueError("; ".join(reasons))


def _reasons(config: RunConfig) -> Iterator[str]:
    return (reason for rule in RULES for reason in rule(config))


def _data_reasons(config: RunConfig, data_shape: DataShape, data_size: int) -> Iterator[str]:
    return (reason for rule in DATA_RULES for reason in rule(config, data_shape, data_size))


def model_takes_the_data(config: RunConfig, data_shape: DataShape, data_size: int) -> Iterator[str]:
    """Yield why the networks cannot take the data;
    networks for other axes are not asked about the lengths along them.
    """
    refusals = list(_axes_refusals(config, data_shape))
    yield from refusals or config.model.data_refusals(data_shape, config.batch_size)


def _axes_refusals(config: RunConfig, data_shape: DataShape) -> Iterator[str]:
    name, axes = config.data.name, config.data.facts.axes
    if len(data_shape) != len(axes):
        yield (
            f"data of {name} are {list(config.data.facts.shape)} ({', '.join(axes)}), and the data given have the "
            f"shape {list(data_shape)}: give data of as many dimensions"
        )
        return
    for path, backbone in found_in(config.model, BackboneSpec, "model"):
        if backbone.axes not in (None, axes):
            others = [kind for kind, spec in BACKBONES.all().items() if spec.axes in (None, axes)]
            yield (
                f"{path} {backbone.kind} takes data of {', '.join(backbone.axes or ())}, and those of {name} are of "
                f"{', '.join(axes)}: choose {_or(others)}"
            )


def some_objectives_need_distinct_data(config: RunConfig, data_shape: DataShape, data_size: int) -> Iterator[str]:
    """Yield why the objective cannot have such a batch:
    estimates of q(z), for one, take it for M different of N data.
    """
    kind = config.objective.kind
    others = [other for other, spec in _objectives(config) if spec.rate and not spec.distinct]
    if config.objective.distinct and config.batch_size > data_size:
        yield (
            f"objective {kind} takes a batch for different ones of the training data, and batch_size "
            f"{config.batch_size} is more than there are, {data_size}: set batch_size to at most {data_size}"
            if data_size > 1
            else f"objective {kind} compares training data, and there is one: give at least two, or choose "
            f"{_or(others)}"
        )


def only_bytes_are_binarized(config: RunConfig) -> Iterator[str]:
    noisy = config.data.noise.support is not None
    bytes_ = config.data.facts.support in ("bytes", "bits") and not noisy
    if config.data.binarize != "none" and not bytes_:
        what = f"{config.data.name} with noise" if noisy else config.data.name
        yield (
            f"data.binarize={config.data.binarize} needs values in [0, 1] to compare or to draw from, "
            f"and those of {what} are unbounded; set it to none"
        )


def noise_finds_its_labels(config: RunConfig) -> Iterator[str]:
    if config.data.noise.labels is None:
        return
    (label, why), name = config.data.noise.labels, config.data.name
    if not _has_labels(config.data.facts, label):
        others = ", ".join(key for key, source in SOURCES.all().items() if _has_labels(source.facts, label))
        yield f"data.noise {why}, and {name} has no {label}s; leave it out, or choose one of {others}"


def _has_labels(facts: DataSpec, name: str) -> bool:
    return facts.labels is not None and facts.labels.name == name


def likelihoods_take_the_values(config: RunConfig) -> Iterator[str]:
    """Yield why a likelihood cannot take x: a mass over levels needs data on them,
    a density on an interval data inside.
    """
    support = config.data.support
    for path, likelihood in found_in(config.model, LikelihoodSpec, "model"):
        if support not in likelihood.supports:
            others = [kind for kind, spec in LIKELIHOODS.all().items() if support in spec.supports]
            choice = f"choose {_or(others)}" if others else "choose another model, such as one of vaesvc parts topology"
            back = config.data.binarize != "none" and "bytes" in likelihood.supports
            taken = _or(VALUES[each] for each in VALUES if each in likelihood.supports)
            yield (
                f"{path} {likelihood.kind} takes x that is {taken}, and x here is "
                f"{VALUES[support]}: {choice}{', or data.binarize none' if back else ''}"
            )


# what x is, for people, by support
VALUES: Mapping[Support, str] = MappingProxyType(
    {
        "bits": "binary",
        "bytes": "the levels k/255 of grey or coloured images",
        "unit": "real in [0, 1]",
        "reals": "real and unbounded",
        "tokens": "tokens",
    }
)


def _or(words: Iterable[str]) -> str:
    """Return the words as "a, b or c"."""
    *first, last = words
    return f"{', '.join(first)} or {last}" if first else last


def bounds_need_densities(config: RunConfig) -> Iterator[str]:
    """Yield where a rate needs the density that q(z|x) lacks, or an autoencoder would let q(z|x) shrink to nothing."""
    objective = config.objective
    for path, posterior in found_in(config.model, PosteriorSpec, "model"):
        if objective.rate:
            if not posterior.bound:
                without = [kind for kind, spec in _objectives(config) if not spec.rate]
                yield (
                    f"objective {objective.kind} needs the density of q(z|x), which {posterior.kind} has not: choose "
                    f"{_or(without)}"
                )
        elif objective.deterministic and posterior.bound:
            without = [kind for kind, spec in POSTERIORS.all().items() if not spec.bound]
            yield f"objective {objective.kind} is of a deterministic encoder: set {path}.kind={_or(without)}"
        elif posterior.trains_scale():
            untrained = [spec.untrained for spec in POSTERIORS.all().values() if spec.untrained is not None]
            yield (
                f"objective {objective.kind} has no rate, so a scale of q(z|x) that is trained shrinks to nothing: set "
                f"{path} to {_or(sorted(untrained))}"
            )


def autoencoders_train_no_prior(config: RunConfig) -> Iterator[str]:
    for path, prior in found_in(config.model, PriorSpec, "model"):
        if not config.objective.rate and prior.trained:
            fixed = [kind for kind, spec in PRIORS.all().items() if not spec.trained]
            yield f"objective {config.objective.kind} trains no prior: {path} must be {_or(fixed)}, not {prior.kind}"


def some_objectives_have_no_beta(config: RunConfig) -> Iterator[str]:
    if not config.objective.beta and config.beta.constant() != 1:
        yield f"objective {config.objective.kind} has no beta: leave beta at the constant 1"


def metrics_need_a_bound(config: RunConfig) -> Iterator[str]:
    metric = config.checkpoint.metric
    if not config.model.bound and measures.has_bound(metric):
        without = [part.kind for _, part in found_in(config.model, PosteriorSpec, "model") if not part.bound]
        yield (
            f"checkpoint.metric {metric} is of a bound, and a {_or(without or ['deterministic'])} posterior has "
            f"none: choose {' or '.join(measures.evaluated(bound=False))}"
        )


def some_objectives_compare_data(config: RunConfig) -> Iterator[str]:
    if config.objective.compares and config.batch_size < 2:
        yield f"objective {config.objective.kind} compares the data of a batch: batch_size must be at least 2"


def padding_is_left_out(config: RunConfig) -> Iterator[str]:
    """Yield the parts that would count the padding of data with lengths of their own."""
    if not config.data.facts.lengths:
        return
    if not config.model.masks:
        yield f"data of {config.data.name} have lengths of their own, and model {config.model.kind} takes no padding"
    for path, likelihood in found_in(config.model, LikelihoodSpec, "model"):
        if not likelihood.masks:
            others = [kind for kind, spec in LIKELIHOODS.all().items() if spec.masks]
            yield (
                f"data of {config.data.name} have lengths of their own, and {path} {likelihood.kind} would count their "
                f"padding: choose {_or(others)}"
            )


def buckets_are_of_lengths(config: RunConfig) -> Iterator[str]:
    """Yield why there are no data of like lengths."""
    if config.data.buckets and not config.data.facts.lengths:
        yield (
            f"data.buckets puts data of like lengths into one batch, and those of {config.data.name} all have one "
            "length: leave it out"
        )


def some_objectives_are_of_one_latent(config: RunConfig) -> Iterator[str]:
    objective, latents = config.objective, list(config.model.latents())
    if objective.one_latent and len(latents) > 1:
        several = [kind for kind, spec in _objectives(config) if spec.rate and not spec.one_latent]
        yield (
            f"objective {objective.kind} is of one latent, and model {config.model.kind} has {len(latents)} "
            f"({', '.join(latents)}): choose {_or(several)}"
        )


def models_read_the_beta_that_is_drawn(config: RunConfig) -> Iterator[str]:
    """Yield where gates do not read each datum's beta, drawn from their own range, or nothing reads the beta drawn."""
    reads, drawn = config.model.beta_range(), config.beta.range()
    if reads is None:
        if config.beta.per_datum:
            yield (
                f"beta {config.beta.kind} trains a multi-rate model, and nothing here reads beta: set model.gating too"
            )
        if config.evaluation.betas:
            yield "evaluation.betas are for a multi-rate model: set model.gating too, or leave them out"
        return
    low, high = reads
    if drawn != reads:
        kinds = [kind for kind, spec in BETAS.all().items() if spec.per_datum]
        yield (
            f"model.gating needs the beta that it is gated by: set beta to {_or(kinds)} with the same range, "
            f"low {low:g} and high {high:g}"
        )
    outside = [f"{value:g}" for value in config.evaluation.betas if not low <= value <= high]
    if outside:
        yield f"evaluation.betas {', '.join(outside)} are outside the gates' range, {low:g} to {high:g}"


def _objectives(config: RunConfig) -> Iterator[tuple[str, type[ObjectiveSpec]]]:
    """Yield the objectives that find in the model what they need, by kind."""
    return ((kind, spec) for kind, spec in OBJECTIVES.all().items() if spec.needs <= config.model.offers())


def objectives_find_what_they_need(config: RunConfig) -> Iterator[str]:
    """Yield why the objective cannot read of the model what it needs."""
    missing = config.objective.needs - config.model.offers()
    if missing:
        others = [kind for kind, _ in _objectives(config)]
        yield (
            f"objective {config.objective.kind} needs a model with {', '.join(sorted(missing))}, which "
            f"{config.model.kind} here does not offer: choose {_or(others)}"
        )


def parts_of_the_model_go_together(config: RunConfig) -> Iterator[str]:
    yield from config.model.refusals()


def parts_run_in_the_precision(config: RunConfig) -> Iterator[str]:
    if config.precision == "float32":
        return
    if config.dtype != "float32":
        yield (
            f"precision {config.precision} computes products with fewer digits than float32 has, and dtype "
            f"{config.dtype} asks for more: set precision to float32, or dtype to float32"
        )
    if config.precision == "bf16":
        parts = (part for root in (config.model, config.objective) for part in parts_within(root))
        for reason in filter(None, (part.against_bf16() for part in parts)):
            yield f"precision bf16: {reason}: set precision to float32 or tf32"


def batches_may_be_taken_in_parts(config: RunConfig) -> Iterator[str]:
    if config.micro_batch is None or config.micro_batch >= config.batch_size:
        return
    parts = (part for root in (config.model, config.objective) for part in parts_within(root))
    for reason in filter(None, (part.against_micro_batch() for part in parts)):
        yield f"micro_batch {config.micro_batch}: {reason}, and would be given a part of it: leave micro_batch out"


def some_models_are_recomputed(config: RunConfig) -> Iterator[str]:
    if config.recompute and not config.model.recomputed:
        others = [kind for kind, spec in TOPOLOGIES.all().items() if spec.recomputed]
        yield (
            f"recompute is of models with cells, {_or(others)}, and {config.model.kind} has none: leave it out, or set "
            "micro_batch to save memory"
        )


def steps_may_be_compiled(config: RunConfig) -> Iterator[str]:
    if config.graph != "off" and config.compile == "off":
        yield f"graph {config.graph} replays a compiled step, and compile is off: set compile to step, or graph to off"
    if config.compile == "off":
        return
    parts = (part for root in (config.model, config.objective) for part in parts_within(root))
    for reason in filter(None, (part.against_compile() for part in parts)):
        yield f"compile {config.compile}: {reason}: set compile to off"
    if config.recompute:
        yield "compile step chooses by itself what is computed again: leave recompute out, or set compile to off"


def weights_are_bounded(config: RunConfig) -> Iterator[str]:
    if (weights := size.weights(config)) > bounds.WEIGHTS:
        yield (
            f"model: about {weights:,} weights, more than the {bounds.WEIGHTS:,} that are taken: choose smaller "
            "widths, fewer layers or a smaller model.latent"
        )


def steps_are_bounded(config: RunConfig) -> Iterator[str]:
    """Yield why the run has too many steps, or one step too many outputs."""
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
RULES: tuple[Callable[[RunConfig], Iterator[str]], ...] = (
    only_bytes_are_binarized,
    noise_finds_its_labels,
    likelihoods_take_the_values,
    bounds_need_densities,
    autoencoders_train_no_prior,
    some_objectives_have_no_beta,
    metrics_need_a_bound,
    some_objectives_compare_data,
    some_objectives_are_of_one_latent,
    padding_is_left_out,
    buckets_are_of_lengths,
    models_read_the_beta_that_is_drawn,
    objectives_find_what_they_need,
    parts_of_the_model_go_together,
    parts_run_in_the_precision,
    batches_may_be_taken_in_parts,
    some_models_are_recomputed,
    steps_may_be_compiled,
    weights_are_bounded,
    steps_are_bounded,
)
DATA_RULES: tuple[Callable[[RunConfig, DataShape, int], Iterator[str]], ...] = (
    model_takes_the_data,
    some_objectives_need_distinct_data,
)
