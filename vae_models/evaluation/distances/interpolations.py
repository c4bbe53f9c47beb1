"""Distances of pictures that lie between data: whether the way from one z to another stays among images."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from vae_models.evaluation.distances.values import all_distances, check_enough
from vae_models.evaluation.features.compute import batch_size, checked, features_of, reference
from vae_models.evaluation.features.extractor import Extractor
from vae_models.evaluation.features.specs import FeaturesSpec
from vae_models.evaluation.findings import Findings, Value
from vae_models.evaluation.subject import Subject
from vae_models.measures import prefix
from vae_models.metrics.paths import slerp
from vae_models.records import NoiseSpec


@dataclass(frozen=True, kw_only=True)
class Pairs:
    """Pairs of different data, [count] each, and a place between the two, uniform on [0, 1)."""

    first: Tensor
    second: Tensor
    place: Tensor


@dataclass(frozen=True, kw_only=True)
class InterpolationDistances:
    """Distances of E[x|z] from the data, z by spherical interpolation between the posterior means of random pairs.

    Half way (interpolation_midpoint), and at a uniform place of each pair's own (interpolation_random): AR-ELBO 6.2.
    """

    features: FeaturesSpec
    count: int

    def __call__(self, subject: Subject) -> Findings:
        """Return the values. Raise Inapplicable for too few data, and for images that are not finite."""
        check_enough(subject)
        extractor = self.features.build(subject.device)
        data = reference(subject, extractor, self.count)
        pairs = drawn_pairs(subject, self.count)
        ways = {"interpolation_midpoint": torch.full_like(pairs.place, 0.5), "interpolation_random": pairs.place}
        values: list[Value] = []
        for beta in (None, *subject.plan.betas):
            for name, place in ways.items():
                features = self._features(subject, extractor, pairs, place, beta)
                values += all_distances(data, features, f"{self.features.called()}/{name}", prefix(beta))
        return Findings(values=tuple(values))

    def _features(
        self, subject: Subject, extractor: Extractor, pairs: Pairs, place: Tensor, beta: float | None
    ) -> Tensor:
        means, gates = subject.posteriors(beta=beta).mean, subject.gates(beta)

        def between(start: int, end: int) -> Mapping[str, Tensor]:
            some = slice(start, end)
            z = slerp(means[pairs.first[some]], means[pairs.second[some]], place[some].to(means.dtype))
            return features_of(extractor, subject.space.decode(z.to(subject.device), gates))

        what, size = "features of interpolations", batch_size(subject, extractor)
        return checked(subject.spread(between, self.count, size=size, what=what), what)


def drawn_pairs(subject: Subject, count: int) -> Pairs:
    """Return random pairs of the split's data; pair i is a function of the plan's seed and i alone."""
    uniform = NoiseSpec(shape=(3,), kind="uniform")
    draws = subject.draw({"pair": uniform}, count, stream="interpolation")["pair"].double().cpu()
    total = subject.count()
    first = (draws[:, 0] * total).long()
    second = (first + 1 + (draws[:, 1] * (total - 1)).long()) % total
    return Pairs(first=first, second=second, place=draws[:, 2])
