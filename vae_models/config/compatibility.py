"""Which parts go together: every rule about two parts, with its reason, checked when a spec is read."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

from vae_models.data.catalogue import CATALOGUE

if TYPE_CHECKING:
    from vae_models.config.train import TrainConfig


def check(config: TrainConfig) -> None:
    """ValueError with every reason why these parts cannot be trained together."""
    reasons = [reason for rule in RULES for reason in rule(config)]
    if reasons:
        raise ValueError("; ".join(reasons))


def backbone_takes_the_data(config: TrainConfig) -> Iterator[str]:
    try:
        config.model.backbone.check(CATALOGUE[config.data.name].shape)
    except ValueError as error:
        yield str(error)


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


# a rule yields a sentence for each thing that is wrong: what, why, and what to choose instead
RULES: tuple[Callable[[TrainConfig], Iterator[str]], ...] = (
    backbone_takes_the_data,
    only_bytes_are_binarized,
    noise_patterns_need_digits,
    levels_need_bytes,
    bernoulli_needs_the_unit_interval,
)
