"""The rate-distortion curve of a multi-rate model (Bae et al. 2023, "Multi-Rate VAE")."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from vae_models.evaluation.findings import Findings, Picture, Table, Value
from vae_models.evaluation.likelihood import statistics
from vae_models.evaluation.likelihood.bound import terms
from vae_models.evaluation.likelihood.scale import scale_of
from vae_models.evaluation.pictures import style
from vae_models.evaluation.subject import Inapplicable, Subject

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from torch import Tensor

NAME = "rate_distortion"
COLUMNS = (
    "beta",
    "rate [nats per datum]",
    "error of the rate",
    "distortion [nats per datum]",
    "error of the distortion",
    "distortion + beta x rate [nats per datum]",
    "ELBO [nats per datum]",
)
Row = tuple[float | None, ...]


@dataclass(frozen=True, kw_only=True)
class CurveEvaluator:
    """Rate and distortion at betas spaced evenly in log beta, from the same posterior noise at each."""

    betas: int

    def __call__(self, subject: Subject) -> Findings:
        """Return the curve as a table and as a picture. Raise Inapplicable where the model reads no beta, NotFinite
        where a term is NaN or infinite of a datum.
        """
        span = subject.config.model.beta_range()
        if span is None:
            raise Inapplicable("a model of one beta is one point: the curve is of multi-rate models (model.gating)")
        scale, split = scale_of(subject.config), subject.plan.split
        betas = spaced(*span, self.betas)
        rows = tuple(_row(beta, measured) for beta, measured in zip(betas, terms(subject, betas), strict=True))
        what = scale.measure or "no log-likelihood"
        note = f"{split} split, {subject.count()} data; errors are standard errors over data; distortion: {what}"
        return Findings(
            tables=(Table(name=NAME, columns=COLUMNS, rows=rows, note=note),), pictures=(_picture(rows, note),)
        )


def spaced(low: float, high: float, count: int) -> tuple[float, ...]:
    """Return so many betas from low to high, evenly spaced in log beta."""
    step = math.log(high / low) / (count - 1)
    return (low, *(low * math.exp(place * step) for place in range(1, count - 1)), high)


def _row(beta: float, measured: Mapping[str, Tensor]) -> Row:
    """Return a row of the table, of the ELBO's terms of each datum at this beta: see `COLUMNS`."""
    rate, distortion = (
        statistics.mean(name, measured[name], unit=statistics.NATS, mode="min") for name in ("rate", "distortion")
    )
    own = distortion.value + beta * rate.value
    return (beta, *_with_error(rate), *_with_error(distortion), own, -(rate.value + distortion.value))


def _with_error(value: Value) -> tuple[float, float | None]:
    return value.value, value.error


def _picture(rows: Sequence[Row], note: str) -> Picture:
    betas, rates, rate_errors, distortions, distortion_errors, *_ = zip(*rows, strict=True)
    known = None not in rate_errors

    def draw(axes: Axes) -> None:
        xerr, yerr = (rate_errors, distortion_errors) if known else (None, None)
        axes.errorbar(rates, distortions, xerr=xerr, yerr=yerr, marker="o", elinewidth=0.8)
        for place in {0, len(rows) // 2, len(rows) - 1}:
            where = (rates[place], distortions[place])
            axes.annotate(f"beta {betas[place]:.3g}", where, xytext=(6, 6), textcoords="offset points")
        axes.set_xlabel("rate [nats per datum]")
        axes.set_ylabel("distortion [nats per datum]")

    caption = f"Rate and distortion of one model at {len(rows)} betas: {note}."
    return style.plot(NAME, draw, caption=caption)
