"""What evaluators of the latent share: a latent of each datum, a share of the data, every beta of the plan."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from vae_models import random
from vae_models.evaluation.findings import Findings, NotFinite, Value
from vae_models.evaluation.subject import Inapplicable, Rows, Subject
from vae_models.measures import Mode, prefix
from vae_models.metrics.estimate import Estimate
from vae_models.protocols import LatentLayer
from vae_models.records import NoiseSpec


@dataclass(frozen=True, kw_only=True)
class Sampled:
    """One z ~ q(z|x) of each datum, in the data's order, on the CPU.

    sample, mean, log_std: [n, latent], float64; rate, log_prior: [n], nats
    """

    sample: Tensor
    mean: Tensor
    log_std: Tensor
    rate: Tensor
    log_prior: Tensor


def layer(subject: Subject) -> tuple[str, LatentLayer]:
    """Return the one latent's name, and its prior and posterior."""
    return next(iter(subject.model.latents().items()))


def sampled(subject: Subject, beta: float | None) -> Sampled:
    """Return a latent of each datum with its rate; q(z|x) has a density. Raise NotFinite where one is not."""
    space, gates = subject.space, subject.gates(beta)
    name, parts = layer(subject)
    noise = {"z": NoiseSpec(shape=parts.shape)} | {f"prior/{key}": spec for key, spec in parts.prior.noise().items()}

    def of(x: Tensor) -> tuple[Tensor, Tensor]:
        encoding = space.encode(x, gates)
        assert encoding.log_std is not None, "priors that read the encoder have posteriors with a density"
        return encoding.mean, encoding.log_std

    def draw(rows: Rows) -> dict[str, Tensor]:
        encoding = space.encode(rows.x, gates)
        own = {key.removeprefix("prior/"): value for key, value in rows.noise.items() if key.startswith("prior/")}
        raw = encoding.raw
        latent = parts.posterior.latent(name, encoding.mean, raw, rows.noise["z"], parts.prior.bind(of, own))
        z = latent.mean.double() + torch.exp(latent.log_std.double()) * rows.noise["z"].double()
        tensors = {"sample": z, "mean": latent.mean, "log_std": latent.log_std, "rate": latent.rate}
        return {key: value.double() for key, value in tensors.items()} | {"log_prior": latent.log_p.double()}

    made = subject.map(draw, what="latents", noise=noise, stream="latents")
    finite(*made.values())
    return Sampled(**made)


def means(subject: Subject, split: str | None = None, beta: float | None = None) -> Tensor:
    """Return the posterior means of a split, float64 [n, latent]. Raise NotFinite where one is not."""
    posterior_means = subject.posteriors(split, beta).mean.double()
    finite(posterior_means)
    return posterior_means


def finite(*tensors: Tensor, what: str = "the posterior") -> None:
    """Raise NotFinite unless all numbers are finite. tensors: a row for each datum; what: of which they are."""
    rows = torch.stack(
        [tensor.isfinite().flatten(1).all(1) if tensor.ndim > 1 else tensor.isfinite() for tensor in tensors]
    )
    wrong = int((~rows.all(0)).sum())
    if wrong:
        raise NotFinite(
            f"{what} of {wrong:,} of {rows.shape[1]:,} data is not finite, so nothing can be said of it: take an "
            "earlier checkpoint"
        )


def at_least(count: int, needed: int) -> None:
    """Raise Inapplicable for too few data."""
    if count < needed:
        raise Inapplicable(
            f"this needs at least {needed} data, and there are {count}: raise limit, or name another split"
        )


def chosen(subject: Subject, total: int, limit: int | None) -> Tensor:
    """Return at most `limit` of 0 .. total - 1, ascending: the same for a seed, spread over the whole split."""
    if limit is None or limit >= total:
        return torch.arange(total)
    order = random.permutation(total, seed=subject.plan.seed, epoch=0, stream="evaluation/latent/chosen")
    return order[:limit].sort().values


def how_many(count: int, total: int) -> str:
    """Return a note on a share of the data; empty where it is all of them."""
    return "" if count == total else f"of {count:,} of {total:,} data, drawn by the plan's seed"


def value_of(name: str, per_datum: Tensor, *, unit: str, mode: Mode | None = None, note: str = "") -> Value:
    """Return the mean over data with its standard error."""
    return estimated(name, Estimate.mean(per_datum), len(per_datum), unit=unit, mode=mode, note=note)


def estimated(
    name: str, estimate: Estimate, count: int, *, unit: str, mode: Mode | None = None, note: str = ""
) -> Value:
    """Return the estimate as a value."""
    return Value(name=name, value=estimate.value, error=estimate.error, unit=unit, mode=mode, count=count, note=note)


def at_each_beta(subject: Subject, find: Callable[[float | None], Findings]) -> Findings:
    """Return what `find` finds at beta = 1 and, of a multi-rate model, at the plan's, named `beta_<beta>/...`."""
    findings = find(None)
    if subject.config.model.beta_range() is not None:
        for beta in subject.plan.betas:
            findings += _renamed(find(beta), prefix(beta))
    return findings


def _renamed(findings: Findings, first: str) -> Findings:
    return Findings(
        values=tuple(replace(value, name=first + value.name) for value in findings.values),
        tables=tuple(replace(table, name=first + table.name) for table in findings.tables),
        pictures=tuple(replace(picture, name=first + picture.name) for picture in findings.pictures),
        tensors={first + name: tensor for name, tensor in findings.tensors.items()},
        notes=tuple(f"{first.rstrip('/')}: {note}" for note in findings.notes),
    )
