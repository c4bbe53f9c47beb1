"""ELBO, rate and distortion of a split, with standard errors over its data."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from vae_models.evaluation.findings import Findings, Value
from vae_models.evaluation.likelihood import statistics
from vae_models.evaluation.likelihood.scale import Scale, scale_of
from vae_models.evaluation.subject import Inapplicable, Rows, Subject
from vae_models.measures import QUANTITIES, prefix
from vae_models.protocols import HasGiven, Model
from vae_models.records import Trace
from vae_models.topologies.over_betas import OverBetas

LOG_LIKELIHOODS = ("elbo", "distortion")
NO_LIKELIHOOD = "no log-likelihood: {}"


@dataclass(frozen=True, kw_only=True)
class BoundEvaluator:
    """Means over data of the ELBO's two terms, one posterior sample each: nats per datum.

    The ELBO's beta is always 1. What a multi-rate model's gates read is 1 too, and of `beta_0.5/elbo` 0.5: for each of
    the plan's betas the same values once more, from the same posterior noise.
    """

    def __call__(self, subject: Subject) -> Findings:
        """Return elbo and rate, where q(z|x) has a density, distortion, squared_error, and of a mass bits_per_dim.
        Raise NotFinite where one is NaN or infinite of a datum.
        """
        scale = scale_of(subject.config)
        at = (None, *betas(subject))
        measured = zip(at, terms(subject, at), strict=True)
        values = [value for beta, terms_of in measured for value in _values(subject, beta, terms_of, scale)]
        return Findings(values=tuple(values))


def betas(subject: Subject) -> tuple[float, ...]:
    """Return the plan's betas. Raise Inapplicable where the model reads none, or one is outside of its range."""
    named, span = subject.plan.betas, subject.config.model.beta_range()
    if named and span is None:
        raise Inapplicable("betas are of a multi-rate model (model.gating), and this one reads none: leave them out")
    if named and span is not None and not all(span[0] <= beta <= span[1] for beta in named):
        raise Inapplicable(f"betas must be within the range that the gates are for, {span[0]:g} to {span[1]:g}")
    return named


def dimensions(rows: Rows, model: Model) -> Tensor:
    """Return how many elements of each datum p(x) is of, float64 [batch]: no padding, and nothing that is given. A
    datum that is shorter than what is given has none."""
    given = model.given if isinstance(model, HasGiven) else 0
    if rows.mask is None:
        count = float(math.prod(rows.x.shape[1:])) - given
        return torch.full((len(rows),), count, dtype=torch.float64, device=rows.x.device)
    return (rows.mask.expand_as(rows.x).flatten(1).sum(1).double() - given).clamp(min=0)


def terms(subject: Subject, betas: Sequence[float | None]) -> list[dict[str, Tensor]]:
    """Return the ELBO's terms of each datum where the gates read each beta, None 1: float64 [data], on the CPU.

    The names are those of the values, and `dimensions`. The posterior noise is the same at every beta, all beta are
    computed in one pass, and what was returned before is not computed again.
    """
    known = subject.once("the ELBO's terms by beta", dict[float, dict[str, Tensor]])
    at = [1.0 if beta is None else beta for beta in betas]
    known |= _measured(subject, [beta for beta in dict.fromkeys(at) if beta not in known])
    return [
        {name: statistics.finite(f"{prefix(beta)}{name}", each, subject) for name, each in known[place].items()}
        for beta, place in zip(betas, at, strict=True)
    ]


def _measured(subject: Subject, betas: Sequence[float]) -> dict[float, dict[str, Tensor]]:
    others = [beta for beta in betas if beta != 1]
    gates = torch.tensor(others, dtype=subject.dtype, device=subject.device)
    at_others = OverBetas(subject.module, gates, rows=subject.plan.batch_size) if others else None

    def of_trace(trace: Trace) -> dict[str, Tensor]:
        rate, distortion = trace.rate.double(), trace.distortion.double()
        bound = {"elbo": -(rate + distortion), "rate": rate} if subject.model.bound else {}
        return {**bound, "distortion": distortion, "squared_error": trace.squared_error.double()}

    def of(rows: Rows) -> Mapping[str, Tensor]:
        terms = {"dimensions": dimensions(rows, subject.model)}
        if 1.0 in betas:
            at_1 = of_trace(subject.model(rows.x, rows.noise, None, rows.mask))
            terms |= {f"1.0/{name}": each for name, each in at_1.items()}
        if at_others is not None:
            for name, each in at_others(of_trace, rows.x, rows.noise, rows.mask).items():
                terms |= {f"{beta!r}/{name}": at for beta, at in zip(others, each.unbind(0), strict=True)}
        return terms

    if not betas:
        return {}
    measured = subject.map(of, what="ELBO", noise=subject.model.noise(), stream="elbo", trim=True)
    counted = measured.pop("dimensions")
    by_beta: dict[float, dict[str, Tensor]] = {beta: {} for beta in betas}
    for key, each in measured.items():
        beta, _, name = key.partition("/")
        by_beta[float(beta)][name] = each
    return {beta: {**named, "dimensions": counted} for beta, named in by_beta.items()}


def _values(subject: Subject, beta: float | None, terms_of: Mapping[str, Tensor], scale: Scale) -> Iterator[Value]:
    measured = dict(terms_of)
    counted = measured.pop("dimensions")
    note = NO_LIKELIHOOD.format(scale.note) if scale.measure is None else ""
    for name, per_datum in measured.items():
        quantity, likelihood = QUANTITIES[name], name in LOG_LIKELIHOODS
        yield statistics.mean(
            f"{prefix(beta)}{name}",
            per_datum,
            unit=quantity.unit,
            mode=quantity.mode,
            scale=scale if likelihood else None,
            note=note if likelihood else "",
        )
    if scale.measure == "mass" and "elbo" in measured:
        yield statistics.bits_per_dim(f"{prefix(beta)}bits_per_dim", -measured["elbo"], counted, scale)
    if subject.config.data.support == "tokens" and "elbo" in measured:
        yield statistics.perplexity(f"{prefix(beta)}perplexity", -measured["elbo"], counted, scale)
