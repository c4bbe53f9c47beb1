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


# a rule yields a sentence for each thing that is wrong: what, why, and what to choose instead
RULES: tuple[Callable[[TrainConfig], Iterator[str]], ...] = (backbone_takes_the_data,)
