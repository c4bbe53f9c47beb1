"""Which latents a model of several uses: the rate of each, and how many of its units have one."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from torch import Tensor

from vae_models.evaluation.findings import Findings, Picture, Table, Value
from vae_models.evaluation.latent.encoded import finite
from vae_models.evaluation.pictures.style import plot
from vae_models.evaluation.subject import Rows, Subject
from vae_models.metrics.estimate import Estimate

if TYPE_CHECKING:
    from matplotlib.axes import Axes

TERMS = "/terms"  # after a latent's name: the terms of its rate, summed over a batch, a row for each batch
FLOOR = 1e-6  # nats: what pictures show of a latent, or a dimension, that has collapsed: nothing or rounding is left


def used_latents(subject: Subject, beta: float | None, kl: float) -> Findings:
    """Return the rate of each latent of a pass, given those above it, with standard errors over data: a table and a
    picture in the model's order, nearest to x first, and `active_latents`, the number of rates above `kl` nats.

    Where the model tells the terms of a rate, the table has the units whose term is above `kl` nats in the mean over
    data, and `active_units_kl` is their number in all latents.
    """
    gates, count = subject.gates(beta), subject.count()

    def rates(rows: Rows) -> dict[str, Tensor]:
        trace = subject.model(rows.x, rows.noise, gates, rows.mask)
        rates = {latent.name: latent.rate.double() for latent in trace.latents}
        terms = {latent.name: latent.rates for latent in trace.latents if latent.rates is not None}
        return rates | {f"{name}{TERMS}": each.double().flatten(1).sum(0, keepdim=True) for name, each in terms.items()}

    made = subject.map(rates, what="latents", noise=subject.model.noise(), stream="latents")
    per_datum = {name: each for name, each in made.items() if not name.endswith(TERMS)}
    finite(*per_datum.values(), what="the rate")
    means = {name: Estimate.mean(each) for name, each in per_datum.items()}
    units = {
        name: int((made[f"{name}{TERMS}"].sum(0) / count > kl).sum()) for name in means if f"{name}{TERMS}" in made
    }
    active = sum(mean.value > kl for mean in means.values())
    note = f"rate above {kl:g} nats"
    values = [Value(name="active_latents", value=active, unit="latents", count=count, note=note)]
    if units:
        values.append(
            Value(name="active_units_kl", value=sum(units.values()), unit="dimensions", count=count, note=note)
        )
    return Findings(values=tuple(values), tables=(_table(subject, means, units),), pictures=(_picture(means),))


def _table(subject: Subject, means: dict[str, Estimate], units: dict[str, int]) -> Table:
    shapes = subject.config.model.latents()
    rows = tuple(
        (name, math.prod(shapes[name]), mean.value, mean.error, *([units[name]] if name in units else []))
        for name, mean in means.items()
    )
    columns = ("latent", "dimensions", "rate [nats]", "standard error [nats]", *(["active units"] if units else []))
    return Table(name="latents", columns=columns, rows=rows, note="nearest to x first")


def _picture(means: dict[str, Estimate]) -> Picture:
    def draw(axes: Axes) -> None:
        axes.bar(list(means), [max(mean.value, FLOOR) for mean in means.values()])
        axes.set_yscale("log")
        axes.tick_params("x", rotation=90 if len(means) > 12 else 0)
        axes.set_xlabel("latent, nearest to x first")
        axes.set_ylabel("rate [nats per datum]")

    return plot("latent_rates", draw, caption="Rate of each latent given those above it, mean over data.")
