"""What a model's nats are of: a density, or a mass over so many values of x. The two are never compared."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from vae_models.config.run import RunConfig
from vae_models.likelihoods.specs import LikelihoodSpec
from vae_models.parts import found_in

if TYPE_CHECKING:
    from vae_models.protocols import Measure


@dataclass(frozen=True, kw_only=True)
class Scale:
    """measure: None where -log p(x|z) is no log-likelihood, and `note` says why. levels: of a mass."""

    measure: Measure | None
    levels: int | None = None
    note: str = ""


def scale_of(config: RunConfig) -> Scale:
    """Return what log p(x|z) of such a model on such data is the logarithm of."""
    likelihoods = [likelihood for _, likelihood in found_in(config.model, LikelihoodSpec, "model")]
    measures = {(likelihood.measure, likelihood.levels) for likelihood in likelihoods}
    if len(measures) != 1:
        return Scale(measure=None, note=f"{config.model.kind} has {len(measures)} likelihoods of different measures")
    ((measure, levels),) = measures
    if measure == "mass" and levels == 2 and not config.data.bits:
        return Scale(
            measure=None,
            note=f"the {likelihoods[0].kind} likelihood of x that is not 0 or 1 is a cross-entropy: "
            "binarize the data (data.binarize)",
        )
    return Scale(measure=measure, levels=levels)
