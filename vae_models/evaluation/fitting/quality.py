"""The evaluator of samplers: how well each law of z has the latents of data, and what its samples look like."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from torch import Tensor

from vae_models.evaluation.drawing import drawn, name_of
from vae_models.evaluation.findings import Findings, Picture, Value
from vae_models.evaluation.fitting.fit import fit, law_of
from vae_models.evaluation.fitting.fitted import packed
from vae_models.evaluation.pictures.style import grid
from vae_models.evaluation.subject import Subject
from vae_models.protocols import HasDensity, LatentSpace
from vae_models.samplers.specs import FittedSamplerSpec, SamplerSpec

COLUMNS = 10


@dataclass(frozen=True, kw_only=True)
class SamplersEvaluator:
    """Of each sampler of the plan: the log-density at posterior means, pictures of samples, and what was fitted.

    latent_log_density/SAMPLER is the mean over the plan's split of log q(z) at z = E[z|x], nats, q the sampler's law;
    latent_log_density_train/SAMPLER is that over the training split, to which it was fitted: the first lies below the
    second by what the law has learned by heart. Where a law has a lower bound on its density alone, it is of the bound.
    """

    shown: int

    def __call__(self, subject: Subject) -> Findings:
        """Return the findings of all the samplers. Raise Inapplicable where one cannot be fitted."""
        found = Findings()
        for sampler in subject.plan.samplers:
            found += Findings(
                values=tuple(_densities(subject, sampler)), pictures=tuple(self._pictures(subject, sampler))
            )
            if isinstance(sampler, FittedSamplerSpec):
                fitted = fit(subject, sampler)
                found += Findings(tensors=packed(fitted), notes=fitted.notes())
        return found

    def _pictures(self, subject: Subject, sampler: SamplerSpec) -> Iterator[Picture]:
        name = name_of(sampler)
        yield grid(
            f"means/{name}", drawn(subject, sampler, self.shown), COLUMNS, caption=f"Means E[x|z], z from {name}"
        )
        if subject.model.sampled:
            samples = drawn(subject, sampler, self.shown, form="samples")
            yield grid(f"samples/{name}", samples, COLUMNS, caption=f"Samples x ~ p(x|z), z from {name}")


def _densities(subject: Subject, sampler: SamplerSpec) -> Iterator[Value]:
    """Yield the log-density at the plan's posterior means and, of a fitted law, at those of the training data."""
    law, name = law_of(subject, sampler), name_of(sampler)
    if not isinstance(law, HasDensity) or not isinstance(subject.module, LatentSpace):
        return
    yield _value(f"latent_log_density/{name}", log_densities(subject, law, subject.plan.split))
    if sampler.fitted and subject.plan.split != "train":
        yield _value(f"latent_log_density_train/{name}", log_densities(subject, law, "train"))


def log_densities(subject: Subject, law: HasDensity, split: str, beta: float | None = None) -> Tensor:
    """Return log q(z) at each posterior mean of the split, float64 [n], nats."""
    means, specs, gates = subject.posteriors(split, beta).mean, law.density_noise(subject.model), subject.gates(beta)

    def batch(start: int, end: int) -> Mapping[str, Tensor]:
        noise = subject.draw(specs, end - start, stream=f"{split}/density", first=start)
        z = means[start:end].to(subject.device)
        return {"log": law.log_prob(subject.model, z, noise, gates).double()}

    return subject.spread(batch, len(means), size=subject.plan.batch_size, what="latents' densities")["log"]


def _value(name: str, per_datum: Tensor) -> Value:
    n = len(per_datum)
    error = float(per_datum.std()) / math.sqrt(n) if n > 1 else None
    return Value(
        name=name, value=float(per_datum.mean()), error=error, unit="nats", mode="max", measure="density", count=n,
        note="log q(z) of the sampler's law at posterior means, a density of z",
    )  # fmt: skip
