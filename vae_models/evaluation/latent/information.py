"""How much z tells of x."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, fields

import torch
from torch import Tensor

from vae_models.evaluation.findings import Findings, Value
from vae_models.evaluation.latent.encoded import (
    Sampled,
    at_each_beta,
    at_least,
    chosen,
    estimated,
    how_many,
    layer,
    means,
    sampled,
    value_of,
)  # fmt: skip
from vae_models.evaluation.subject import Rows, Subject
from vae_models.metrics.estimate import Estimate
from vae_models.metrics.mutual_information import (
    AggregatePosterior,
    aggregate_posterior,
    marginal_kl,
    minus_entropy,
    mutual_information,
)  # fmt: skip
from vae_models.records import NoiseSpec

NATS = "nats per datum"
SELF = "with the self term: at most log N = {limit:.2f}, a lower bound in expectation"
NO_SELF = "without the self term: an upper bound in expectation, without limit"
PAPER = "AR-ELBO (D.1), latent / 2 for d_x / 2, without the self term"


@dataclass(frozen=True, kw_only=True)
class InformationEvaluator:
    """Estimates of I(x; z), each by its name, and of KL(q(z) || p(z)); one sample of q(z|x) for each datum.

    mi_with_self, mi_without_self: `metrics.mutual_information`. mi_ar_elbo: AR-ELBO's table 1. rate: E KL(q(z|x) ||
    p(z)), which no mutual information exceeds: rate = I(x; z) + KL(q(z) || p(z)), exactly for the estimates where the
    rate is one of the same samples. Errors are over data, which count as samples and as parts of q(z).
    """

    data: int
    variance: float | None

    def __call__(self, subject: Subject) -> Findings:
        """Return the estimates."""
        at_least(subject.count(), 2)
        return at_each_beta(subject, lambda beta: _with_note(tuple(self._at(subject, beta))))

    def _at(self, subject: Subject, beta: float | None) -> Iterator[Value]:
        whole = sampled(subject, beta) if self.variance is None else None
        z, mean, log_std = (whole.sample, whole.mean, whole.log_std) if whole else self._perturbed(subject, beta)
        rows = chosen(subject, len(z), self.data)
        at = subject.device
        aggregate = aggregate_posterior(
            z[rows].to(at), mean[rows].to(at), log_std[rows].to(at), memory_mib=subject.plan.memory_mib
        )
        aggregate = AggregatePosterior(
            **{field.name: getattr(aggregate, field.name).cpu() for field in fields(aggregate)}
        )
        share = how_many(len(rows), len(z))
        yield from _information(aggregate, log_std[rows], share)
        if whole is not None:
            yield value_of("mi_rate", whole.rate, unit=NATS, note="the rate: no mutual information exceeds it")
            yield from _marginal(aggregate, whole, rows, share)

    def _perturbed(self, subject: Subject, beta: float | None) -> tuple[Tensor, Tensor, Tensor]:
        """Return (z, mean, log std) of a deterministic encoder with noise of the given variance."""
        assert self.variance is not None
        spec = NoiseSpec(shape=layer(subject)[1].shape)

        def noise(rows: Rows) -> dict[str, Tensor]:
            return {"z": rows.noise["z"].double()}

        mean = means(subject, beta=beta)
        drawn = subject.map(noise, what="latents", noise={"z": spec}, stream="latents")["z"]
        log_std = torch.full_like(mean, 0.5 * math.log(self.variance))
        return mean + log_std.exp() * drawn, mean, log_std


def _with_note(values: tuple[Value, ...]) -> Findings:
    """Return the values, with a note where the estimate without the self term cannot be an information."""
    by_name = {value.name: value for value in values}
    above, rate = by_name["mi_without_self"], by_name.get("mi_rate")
    if rate is None or above.value <= rate.value:
        return Findings(values=values)
    note = (
        f"mi_without_self, {above.value:.1f}, exceeds the rate, {rate.value:.1f}, as no information does: the "
        f"posteriors of {above.count:,} data hardly overlap. I(x; z) is between mi_with_self and the rate"
    )
    return Findings(values=values, notes=(note,))


def _information(aggregate: AggregatePosterior, log_std: Tensor, share: str) -> Iterator[Value]:
    count = len(log_std)
    without = aggregate.log_without_self, aggregate.weight_without_self
    limited = mutual_information(aggregate.log_own, aggregate.log_with_self, aggregate.weight_with_self)
    yield _value("mi_with_self", limited, count, SELF.format(limit=math.log(count)), share)
    yield _value("mi_without_self", mutual_information(aggregate.log_own, *without), count, NO_SELF, share)
    yield _value("mi_ar_elbo", mutual_information(minus_entropy(log_std), *without), count, PAPER, share)


def _marginal(aggregate: AggregatePosterior, latent: Sampled, rows: Tensor, share: str) -> Iterator[Value]:
    log_prior, what = latent.log_prior[rows], "KL(q(z) || p(z)), q(z)"
    both = marginal_kl(aggregate.log_with_self, aggregate.weight_with_self, log_prior)
    yield _value("marginal_kl_with_self", both, len(rows), f"{what} with the self term", share)
    others = marginal_kl(aggregate.log_without_self, aggregate.weight_without_self, log_prior)
    yield _value("marginal_kl_without_self", others, len(rows), f"{what} without the self term", share)


def _value(name: str, estimate: Estimate, count: int, *notes: str) -> Value:
    return estimated(name, estimate, count, unit=NATS, note="; ".join(note for note in notes if note))
