"""Which dimensions of z a model uses: active units, and the KL and the variances of each dimension."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Protocol, runtime_checkable

import torch
from torch import Tensor

from vae_models.evaluation.findings import Findings, Picture, Table, Value
from vae_models.evaluation.latent.encoded import Sampled, at_each_beta, at_least, layer, means, sampled, value_of
from vae_models.evaluation.latent.layers import FLOOR, used_latents
from vae_models.evaluation.pictures.style import plot
from vae_models.evaluation.subject import Subject
from vae_models.metrics.active_units import active_units, each_dimension_kl
from vae_models.priors.standard_normal import StandardNormal
from vae_models.protocols import LatentSpace

if TYPE_CHECKING:
    from matplotlib.axes import Axes

DIMENSIONS = "dimensions"


@runtime_checkable
class HasInnerPosterior(Protocol):
    """A hierarchical prior: p(z) is the integral of p(z|zeta) under N(zeta; 0, I), with a q(zeta|z) of its own."""

    def inner_posterior(self, z: Tensor) -> tuple[Tensor, Tensor]:
        """Return mean and log standard deviation of q(zeta|z), [n, inner] each."""
        ...


@dataclass(frozen=True, kw_only=True)
class UnitsEvaluator:
    """Active units by the variance of the posterior means and by KL, and a table of the dimensions, largest KL first.

    The KL of a dimension is E KL(q(z_j|x) || p(z_j)), of priors N(0, I) alone; of a hierarchical prior it is that of
    q(zeta|z) at z ~ q(z|x) (VHP D.2), with names that begin with `inner_`.
    """

    variance: float
    kl: float

    def __call__(self, subject: Subject) -> Findings:
        """Return active_units, posterior_mean_variance and, where q(z|x) has a density, posterior_std and KLs; of a
        model of several latents `used_latents`.
        """
        if isinstance(subject.module, LatentSpace):
            return at_each_beta(subject, lambda beta: self._at(subject, beta))
        return at_each_beta(subject, lambda beta: used_latents(subject, beta, self.kl))

    def _at(self, subject: Subject, beta: float | None) -> Findings:
        at_least(subject.count(), 2)
        if not subject.model.bound:
            note = "q(z|x) has no density: no KL, and a unit is active by a variance that no prior gives a unit to"
            return self._of("", means(subject, beta=beta), None) + Findings(notes=(note,))
        latent, prior = sampled(subject, beta), layer(subject)[1].prior
        own = self._of("", latent.mean, latent.log_std, kl=isinstance(prior, StandardNormal))
        if isinstance(prior, HasInnerPosterior):
            return own + self._of("inner_", *_inner(subject, prior, latent))
        if isinstance(prior, StandardNormal):
            return own
        return own + Findings(notes=("no KL of each dimension: the prior is no product of one-dimensional ones",))

    def _of(self, prefix: str, mean: Tensor, log_std: Tensor | None, *, kl: bool = True) -> Findings:
        """Return what there is of a latent with these posteriors, [n, latent] each; names begin with the prefix."""
        spread, count = mean.var(0), len(mean)
        note = f"variance of the posterior means over data above {self.variance:g}"
        units = _counted(f"{prefix}active_units", active_units(mean, self.variance), count, note)
        findings = Findings(values=(units, _variance(prefix, spread, count)))
        if log_std is None:
            return replace(findings, tables=(_table(prefix, spread),))
        findings, std = findings + Findings(values=(_deviation(prefix, log_std.exp()),)), log_std.exp().mean(0)
        if not kl:
            return replace(findings, tables=(_table(prefix, spread, std),))
        divergence = each_dimension_kl(mean, log_std)
        above = int((divergence > self.kl).sum())
        return findings + Findings(
            values=(_counted(f"{prefix}active_units_kl", above, count, f"KL above {self.kl:g} nats"),),
            tables=(_table(prefix, spread, std, divergence),),
            pictures=(self._spectrum(prefix, divergence),),
        )

    def _spectrum(self, prefix: str, kl: Tensor) -> Picture:
        """Return the dimensions' KL, largest first, on a logarithmic scale, as VHP's figure 20 has it."""
        from matplotlib.ticker import MaxNLocator

        ordered = kl.sort(descending=True).values.clamp(min=FLOOR)

        def draw(axes: Axes) -> None:
            axes.bar(range(1, len(ordered) + 1), ordered.tolist(), width=0.9)
            axes.axhline(self.kl, color="black", linestyle="--", linewidth=1, label=f"active: above {self.kl:g} nats")
            axes.set_yscale("log")
            axes.xaxis.set_major_locator(MaxNLocator(integer=True))
            axes.set_xlabel("latent dimension, by its KL")
            axes.set_ylabel("KL [nats per datum]")
            axes.legend()

        what = "KL(q(ζ|z) || N(0, I))" if prefix else "KL(q(z|x) || N(0, I))"
        return plot(f"{prefix}kl_spectrum", draw, caption=f"{what} of each dimension, mean over data.")


def _counted(name: str, active: int, count: int, note: str) -> Value:
    return Value(name=name, value=active, unit=DIMENSIONS, count=count, note=note)


def _variance(prefix: str, spread: Tensor, count: int) -> Value:
    """Return the mean over dimensions of the means' variance over data."""
    name, note = f"{prefix}posterior_mean_variance", "over data, mean over the dimensions"
    return Value(name=name, value=float(spread.mean()), unit="units of z squared", count=count, note=note)


def _deviation(prefix: str, std: Tensor) -> Value:
    """Return the mean over data and dimensions of the posterior's standard deviation, with its error over data."""
    note = f"sigma of {'q(ζ|z)' if prefix else 'q(z|x)'}, mean over the dimensions"
    return value_of(f"{prefix}posterior_std", std.mean(1), unit="units of z", note=note)


def _inner(subject: Subject, prior: HasInnerPosterior, latent: Sampled) -> tuple[Tensor, Tensor]:
    """Return mean and log std of q(zeta|z) at every datum's z."""
    parts = []
    with torch.no_grad():
        for z in torch.split(latent.sample, subject.plan.batch_size):
            parts.append(prior.inner_posterior(z.to(device=subject.device, dtype=subject.dtype)))
    mean, log_std = (torch.cat([part[place] for part in parts]).double().cpu() for place in (0, 1))
    return mean, log_std


def _table(prefix: str, spread: Tensor, std: Tensor | None = None, kl: Tensor | None = None) -> Table:
    """Return the dimensions, largest KL first; where there is none, largest variance first."""
    order = (spread if kl is None else kl).argsort(descending=True, stable=True).tolist()
    columns = {"dimension": torch.arange(len(spread)), "variance of the means [z²]": spread}
    columns |= {} if std is None else {"mean sigma [z]": std}
    columns |= {} if kl is None else {"KL [nats]": kl}
    lists = [column.tolist() for column in columns.values()]
    rows = tuple(tuple(column[place] for column in lists) for place in order)
    return Table(name=f"{prefix}dimensions", columns=tuple(columns), rows=rows)
