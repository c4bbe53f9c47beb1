"""Distances of samples and of reconstructions from the data."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from torch import Tensor

from vae_models.evaluation.distances.values import all_distances, check_enough, frechet
from vae_models.evaluation.drawing import Form, drawn, name_of
from vae_models.evaluation.features.compute import Reference, of_data, of_images, reference
from vae_models.evaluation.features.extractor import Extractor
from vae_models.evaluation.features.specs import FeaturesSpec
from vae_models.evaluation.findings import Findings, Value
from vae_models.evaluation.subject import Rows, Subject
from vae_models.measures import prefix


@dataclass(frozen=True, kw_only=True)
class SampleDistances:
    """FID, KID, precision, recall, density and coverage of each sampler of the plan, at each beta; the FID of
    reconstructions. Of x ~ p(x|z) in place of E[x|z] the sampler's name has /samples.

    The data are those of the plan's split as the model reads them; images are rounded to 8 bits first, as in files.
    """

    features: FeaturesSpec
    count: int
    form: Form
    reconstructions: bool

    def __call__(self, subject: Subject) -> Findings:
        """Return the values. Raise Inapplicable for too few data, and for images that are not finite."""
        check_enough(subject)
        extractor = self.features.build(subject.device)
        data = reference(subject, extractor, self.count)
        values: list[Value] = []
        for beta in (None, *subject.plan.betas):
            values += self._of_samples(subject, extractor, data, beta)
            if self.reconstructions:
                features = _reconstructions(subject, extractor, beta)
                values.append(frechet(data, features, f"{self.features.called()}/reconstruction", prefix(beta)))
        return Findings(values=tuple(values))

    def _of_samples(
        self, subject: Subject, extractor: Extractor, data: Reference, beta: float | None
    ) -> Iterator[Value]:
        for sampler in subject.plan.samplers:
            name = name_of(sampler)
            images = drawn(subject, sampler, self.count, form=self.form, beta=beta, stream="distances")
            features = of_images(subject, extractor, images, what=f"features of {name}")
            form = "" if self.form == "means" else f"/{self.form}"
            yield from all_distances(data, features, f"{self.features.called()}/{name}{form}", prefix(beta))


def _reconstructions(subject: Subject, extractor: Extractor, beta: float | None) -> Tensor:
    """Return the features of E[x|z], z ~ q(z|x), of each datum."""
    gates = subject.gates(beta)

    def mean(rows: Rows) -> Tensor:
        return subject.model(rows.x, rows.noise, gates, rows.mask).mean

    return of_data(
        subject, extractor, mean, what="features of reconstructions",
        noise=subject.model.noise(), stream="reconstructions",
    )  # fmt: skip
