"""Samplers fitted to a subject, once each."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from functools import partial
from pathlib import Path

from torch import Tensor

from vae_models.collectives import PeerError, broadcast_integers, broadcast_tensors, on_first_rank, rank
from vae_models.evaluation.findings import Findings
from vae_models.evaluation.fitting.fitted import Fitted, UnfitSampler, named, unpacked, weights_digest
from vae_models.evaluation.latent.encoded import finite
from vae_models.evaluation.subject import Inapplicable, Subject
from vae_models.protocols import Sampler
from vae_models.samplers.specs import FittedSamplerSpec, SamplerSpec


def law_of(subject: Subject, sampler: SamplerSpec, beta: float | None = None) -> Sampler:
    """Return the law of z by which samples are made, fitted to the subject where it has to be."""
    if not isinstance(sampler, FittedSamplerSpec):
        return subject.once(f"law of {_key(sampler, None)}", sampler.build)
    fitted = fit(subject, sampler, beta)
    return subject.once(f"law of {_key(sampler, beta)}", lambda: fitted.law(subject.device))


def fit(subject: Subject, sampler: FittedSamplerSpec, beta: float | None = None) -> Fitted:
    """Return the sampler fitted to the posteriors of the subject's training data, with the plan's seed: fitted once.

    The same fit is taken from the subject's folder of samplers, or from an earlier attempt's findings, where it is
    there. All workers call it together. beta: of a multi-rate model. Raise Inapplicable where the model has several
    latents, or where the data are too few, and NotFinite where a posterior is not.
    """
    return subject.once(f"fit of {_key(sampler, beta)}", lambda: _stored_or_made(subject, sampler, beta))


def _stored_or_made(subject: Subject, sampler: FittedSamplerSpec, beta: float | None) -> Fitted:
    stored = _stored(subject, sampler, beta) if rank() == 0 else None
    (is_stored,) = broadcast_integers([int(stored is not None)], subject.device)
    if is_stored:
        tensors = broadcast_tensors({} if stored is None else stored.tensors, subject.device)
        return _of(subject, sampler, beta, tensors)
    fitted, folder = _of(subject, sampler, beta, _made(subject, sampler, beta)), subject.samplers
    if folder is not None:
        on_first_rank(partial(_save, fitted, folder), subject.device)
    return fitted


def _save(fitted: Fitted, folder: Path) -> None:
    fitted.save(folder)


def _of(subject: Subject, sampler: FittedSamplerSpec, beta: float | None, tensors: Mapping[str, Tensor]) -> Fitted:
    weights = subject.once("weights", lambda: weights_digest(subject.module))
    return Fitted(
        sampler=sampler, tensors=tensors, weights=weights, beta=beta, seed=subject.plan.seed,
        count=subject.count("train"),
    )  # fmt: skip


def offer(subject: Subject, findings: Findings) -> None:
    """Take what an earlier attempt has fitted and kept in its findings, on the first worker: it is not made again."""
    _offered(subject).update(unpacked(findings.tensors))


def _offered(subject: Subject) -> dict[str, Fitted]:
    return subject.once("samplers of an earlier attempt", dict[str, Fitted])


def _stored(subject: Subject, sampler: FittedSamplerSpec, beta: float | None) -> Fitted | None:
    """Return the same fit where it was offered or lies in the subject's folder; None where it has to be made."""
    name = named(sampler, beta)
    stored = _offered(subject).get(name)
    if stored is None and subject.samplers is not None:
        with suppress(UnfitSampler):  # it is made again
            stored = Fitted.load(subject.samplers / name)
    if stored is None or stored.about() != _of(subject, sampler, beta, stored.tensors).about():
        return None
    return stored


def _made(subject: Subject, sampler: FittedSamplerSpec, beta: float | None) -> Mapping[str, Tensor]:
    posteriors = subject.posteriors("train", beta)
    finite(posteriors.mean, *(() if posteriors.log_std is None else (posteriors.log_std,)))
    tell = partial(subject.tell, f"fitting {sampler.called()}")
    try:
        return sampler.fitter().fit(posteriors, seed=subject.plan.seed, device=subject.device, tell=tell)
    except ValueError as error:
        raise Inapplicable(f"{sampler.called()} cannot be fitted: {error}") from error
    except PeerError as error:
        raise Inapplicable(f"{sampler.called()} cannot be fitted: worker 0 says why") from error


def _key(sampler: SamplerSpec, beta: float | None) -> str:
    return f"{sampler.model_dump_json()} at {beta}"
