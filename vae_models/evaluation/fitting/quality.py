"""The evaluator of samplers: how well each law of z has the latents of data, and what its samples look like."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace

from torch import Tensor

from vae_models.evaluation.averages import mean
from vae_models.evaluation.drawing import drawn, name_of
from vae_models.evaluation.findings import Findings, Picture, Value
from vae_models.evaluation.fitting.fit import fit, law_of
from vae_models.evaluation.fitting.fitted import packed
from vae_models.evaluation.pictures.shown import tiles
from vae_models.evaluation.subject import Subject
from vae_models.protocols import HasDensity, LatentSpace
from vae_models.records import NoiseSpec
from vae_models.samplers.specs import FittedSamplerSpec, SamplerSpec

COLUMNS = 10


@dataclass(frozen=True, kw_only=True)
class SamplersEvaluator:
    """Of each sampler of the plan: the log-density at data's latents, pictures of samples, and what was fitted.

    latent_log_density/SAMPLER          the mean over the plan's split of log q(z), nats, q the law, at z = E[z|x]
    latent_log_density_train/SAMPLER    that over the training split: by what it lies above, the law knows them by heart
    latent_log_density_of_draws/SAMPLER at a z ~ q(z|x) of each datum of the plan's split

    A mixture is fitted to means, a second stage to draws, and each is better at its own. Where a law has a lower bound
    on its density alone, it is of the bound.
    """

    shown: int

    def __call__(self, subject: Subject) -> Findings:
        """Return the findings of all the samplers. Raise Inapplicable where one cannot be fitted."""
        findings = Findings()
        for sampler in subject.plan.samplers:
            findings += Findings(
                values=tuple(_densities(subject, sampler)), pictures=tuple(self._pictures(subject, sampler))
            )
            if isinstance(sampler, FittedSamplerSpec):
                fitted = fit(subject, sampler)
                findings += Findings(tensors=packed(fitted), notes=fitted.notes())
        return findings

    def _pictures(self, subject: Subject, sampler: SamplerSpec) -> Iterator[Picture]:
        name, config, means = name_of(sampler), subject.config, drawn(subject, sampler, self.shown)
        yield tiles(f"means/{name}", config, means, COLUMNS, caption=f"Means E[x|z], z from {name}")
        if subject.model.sampled:
            samples = drawn(subject, sampler, self.shown, form="samples")
            yield tiles(f"samples/{name}", config, samples, COLUMNS, caption=f"Samples x ~ p(x|z), z from {name}")


def _densities(subject: Subject, sampler: SamplerSpec) -> Iterator[Value]:
    """Yield the law's log-densities at the latents of data, where both are known."""
    law = law_of(subject, sampler)
    if not isinstance(law, HasDensity) or not isinstance(subject.module, LatentSpace):
        return
    for what, z, at in _latents(subject, trained_on=sampler.fitted):
        log = log_densities(subject, law, z, stream=f"density{what}")
        yield _value(f"latent_log_density{what}/{name_of(sampler)}", log, f"log q(z) of the sampler's law at {at}")


def _latents(subject: Subject, *, trained_on: bool) -> Iterator[tuple[str, Tensor, str]]:
    """Yield latents [n, latent] with their names in a value and in words. trained_on: those of training, too."""
    split = subject.plan.split
    posteriors = subject.posteriors(split)
    yield "", posteriors.mean, "posterior means"
    if trained_on and split != "train":
        yield "_train", subject.posteriors("train").mean, "posterior means of the training data"
    if posteriors.log_std is not None:
        spec = NoiseSpec(shape=tuple(posteriors.mean.shape[1:]))
        noise = subject.draw({"z": spec}, len(posteriors.mean), stream=f"{split}/posteriors")["z"].cpu()
        yield "_of_draws", posteriors.mean + posteriors.log_std.exp() * noise, "draws of the posteriors"


def log_densities(subject: Subject, law: HasDensity, z: Tensor, *, stream: str) -> Tensor:
    """Return log q(z) of each z [n, latent], float64 [n], nats. stream: of the noise of a law that estimates it."""
    specs = law.density_noise(subject.model)

    def batch(start: int, end: int) -> Mapping[str, Tensor]:
        noise = subject.draw(specs, end - start, stream=stream, first=start)
        return {"log": law.log_prob(subject.model, z[start:end].to(subject.device), noise).double()}

    return subject.spread(batch, len(z), size=subject.plan.batch_size, what="latents' densities")["log"]


def _value(name: str, per_datum: Tensor, note: str) -> Value:
    return replace(mean(name, per_datum, unit="nats", mode="max", note=note), measure="density")
