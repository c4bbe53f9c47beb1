"""Samples of a trained model, by any sampler: the same rows for any number of workers and any size of a batch."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal, cast

from torch import Tensor

from vae_models.evaluation.fitting.fit import law_of
from vae_models.evaluation.memory import room
from vae_models.evaluation.subject import Inapplicable, Subject
from vae_models.protocols import HasPrediction, Model
from vae_models.records import NoiseSpec
from vae_models.samplers.laws import tempered, x_noise
from vae_models.samplers.specs import SamplerSpec

Form = Literal["means", "samples"]


def name_of(sampler: SamplerSpec) -> str:
    """Return the sampler's name in metrics, tables and folders: prior, gmm-10."""
    return sampler.called()


def drawn(
    subject: Subject,
    sampler: SamplerSpec,
    count: int,
    *,
    form: Form = "means",
    temperature: float = 1.0,
    beta: float | None = None,
    stream: str = "samples",
) -> Tensor:
    """Return `count` samples, [count, *data], on the CPU, the same on every worker.

    form:        means: E[x|z] of each z; samples: x ~ p(x|z)
    temperature: by which the standard deviations of the law of z are multiplied (`samplers.laws.tempered`); the noise
                 of x stays as it is
    beta:        of a multi-rate model; None: 1

    Sample i is a function of the plan's seed, the stream and i, up to rounding. Means and samples of one stream are of
    the same z, and samplers that name their noise alike read the same. Raise Inapplicable where x cannot be drawn,
    and of a model that samples nothing without a beginning.
    """
    if isinstance(subject.model, HasPrediction):
        raise Inapplicable("this model continues a beginning that it is given: nothing is sampled without one")
    law, model, gates = law_of(subject, sampler, beta), subject.model, subject.gates(beta)
    of_x = _x_noise(subject) if form == "samples" else {}
    of_z = law.noise(model)
    make = law.draws if form == "samples" else law.means

    def batch(start: int, end: int) -> Mapping[str, Tensor]:
        z = tempered(subject.draw(of_z, end - start, stream=stream, first=start), of_z, temperature)
        x = subject.draw(of_x, end - start, stream=stream, first=start)
        return {"x": make(model, {**z, **x}, gates)}

    return subject.spread(batch, count, size=room(subject, batch), what=f"samples of {name_of(sampler)}")["x"]


def latents(
    subject: Subject,
    sampler: SamplerSpec,
    count: int,
    *,
    temperature: float = 1.0,
    beta: float | None = None,
    stream: str = "samples",
) -> Tensor:
    """Return the z of `drawn`'s samples, [count, latent], on the CPU. Raise Inapplicable of a model of several."""
    model, law, gates = cast(Model, subject.space), law_of(subject, sampler, beta), subject.gates(beta)
    specs = law.noise(model)

    def batch(start: int, end: int) -> Mapping[str, Tensor]:
        noise = tempered(subject.draw(specs, end - start, stream=stream, first=start), specs, temperature)
        return {"z": law.z(model, noise, gates)}

    return subject.spread(batch, count, size=subject.plan.batch_size, what=f"latents of {name_of(sampler)}")["z"]


def _x_noise(subject: Subject) -> Mapping[str, NoiseSpec]:
    if not subject.model.sampled:
        raise Inapplicable(
            "x cannot be drawn from this likelihood, whose parameters are known only beside an x: ask for means"
        )
    return x_noise(subject.model)
