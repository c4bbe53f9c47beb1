"""Samplers fitted to a subject, once each."""

from __future__ import annotations

from functools import partial

from vae_models.collectives import PeerError
from vae_models.evaluation.fitting.fitted import Fitted, weights_digest
from vae_models.evaluation.subject import Inapplicable, Subject
from vae_models.protocols import Sampler
from vae_models.samplers.specs import FittedSamplerSpec, SamplerSpec


def law_of(subject: Subject, sampler: SamplerSpec, beta: float | None = None) -> Sampler:
    """Return the law of z by which samples are made, fitted to the subject where it has to be."""
    if not isinstance(sampler, FittedSamplerSpec):
        return sampler.build()
    fitted = fit(subject, sampler, beta)
    return subject.once(f"law of {_key(sampler, beta)}", lambda: fitted.law(subject.device))


def fit(subject: Subject, sampler: FittedSamplerSpec, beta: float | None = None) -> Fitted:
    """Return the sampler fitted to the posteriors of the subject's training data, with the plan's seed: fitted once.

    All workers call it together. beta: of a multi-rate model. Raise Inapplicable where the model has several latents,
    or where the data are too few.
    """

    def make() -> Fitted:
        posteriors = subject.posteriors("train", beta)
        tell = partial(subject.tell, f"fitting {sampler.called()}")
        try:
            tensors = sampler.fitter().fit(posteriors, seed=subject.plan.seed, device=subject.device, tell=tell)
        except ValueError as error:
            raise Inapplicable(f"{sampler.called()} cannot be fitted: {error}") from error
        except PeerError as error:
            raise Inapplicable(f"{sampler.called()} cannot be fitted: worker 0 says why") from error
        return Fitted(
            sampler=sampler,
            tensors=tensors,
            weights=subject.once("weights", lambda: weights_digest(subject.module)),
            beta=beta,
            seed=subject.plan.seed,
            count=len(posteriors.mean),
        )

    return subject.once(f"fit of {_key(sampler, beta)}", make)


def _key(sampler: SamplerSpec, beta: float | None) -> str:
    return f"{sampler.model_dump_json()} at {beta}"
