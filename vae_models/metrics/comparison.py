"""Log-likelihoods with their measure: those of a density, of two and of 256 levels are never compared."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from jaxtyping import Float
from torch import Tensor

from vae_models.likelihoods.intervals import normal_log_mass
from vae_models.normal import sum_per_datum
from vae_models.protocols import Measure

if TYPE_CHECKING:
    from vae_models.likelihoods.specs import LikelihoodConfig


class Incomparable(TypeError):  # noqa: N818 - says what is the case
    """Two log-likelihoods of different measures: their difference means nothing."""


@dataclass(frozen=True, kw_only=True)
class LogLikelihood:
    """nats per datum (a value or a bound), with what they are the logarithm of. Larger is better.

    Densities change with the unit of x (on [0, 1] data and on 0..255 by d log 255), masses do not: on 256 levels a
    density on [0, 1] and a mass differ by about d log 256. levels: 2, 256, or None of a density.
    """

    nats: float
    measure: Measure
    levels: int | None

    @classmethod
    def of(cls, nats: float, likelihood: LikelihoodConfig) -> LogLikelihood:
        return cls(nats=nats, measure=likelihood.measure, levels=likelihood.levels)

    def __sub__(self, other: LogLikelihood) -> float:
        """Return the difference in nats. Raise Incomparable if the two are of different measures."""
        self._check(other)
        return self.nats - other.nats

    def __lt__(self, other: LogLikelihood) -> bool:
        return self - other < 0

    def __gt__(self, other: LogLikelihood) -> bool:
        return self - other > 0

    def _check(self, other: LogLikelihood) -> None:
        if (self.measure, self.levels) != (other.measure, other.levels):
            raise Incomparable(
                f"a {self} and a {other} cannot be compared: integrate the density over the levels first "
                "(gaussian_log_mass), or compare models of one kind of likelihood"
            )

    def __str__(self) -> str:
        kind = self.measure if self.levels is None else f"{self.measure} of {self.levels} levels"
        return f"log-{kind} ({self.nats:.2f} nats)"


def gaussian_log_mass(
    x: Float[Tensor, "batch *data"], mean: Float[Tensor, "batch *data"], log_sigma: Tensor
) -> Float[Tensor, " batch"]:
    """Return log P of the levels x = k/255 under a Gaussian decoder: its density integrated over each level's interval.

    It is sigma-VAE's "-log p" column of decoders that were trained with a density; nats per datum. log_sigma
    broadcasts.
    """
    return sum_per_datum(normal_log_mass(x, mean, log_sigma.expand_as(mean)))
