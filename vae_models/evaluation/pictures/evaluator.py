"""What a trained model sees, and what it has in mind: pictures of data, of its latent, and of its training."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from vae_models.evaluation.findings import Findings, Picture
from vae_models.evaluation.pictures.histories import Series, histories
from vae_models.evaluation.pictures.nearest import nearest
from vae_models.evaluation.pictures.reconstructions import over_betas, reconstructions
from vae_models.evaluation.pictures.traversals import traversals
from vae_models.evaluation.pictures.variance_maps import variance_maps
from vae_models.evaluation.subject import Subject
from vae_models.protocols import LatentSpace

if TYPE_CHECKING:
    from vae_models.evaluation.pictures.specs import PicturesEvaluation


@dataclass(frozen=True)
class PicturesEvaluator:
    """Pictures with captions that say what is drawn, each of the first data of the plan's split.

    nearest_train_distance/SAMPLER: of samples E[x|z], the mean distance to the nearest training datum, units of x;
    nearest_train_distance/reconstructions: the same of the split's E[x|z], z ~ q(z|x), as smooth as samples: samples
                                    that are much nearer are copies
    """

    spec: PicturesEvaluation

    def __call__(self, subject: Subject) -> Findings:
        """Return what there is to be seen; traversals and variance maps of models of one latent vector."""
        findings = Findings(pictures=(*self._pictures(subject), *histories(_moving(subject))))
        if subject.config.data.facts.lengths or subject.config.model.continues:
            return findings
        return findings + nearest(
            subject, compared=self.spec.compared, rows=self.spec.samples, neighbours=self.spec.nearest
        )

    def _pictures(self, subject: Subject) -> Iterator[Picture]:
        spec = self.spec
        yield reconstructions(subject, columns=spec.columns, rows=spec.rows)
        if subject.config.model.beta_range() is not None:
            yield over_betas(subject, columns=spec.columns, betas=spec.betas)
        if isinstance(subject.module, LatentSpace):
            yield traversals(subject, dimensions=spec.dimensions, steps=spec.steps)
            yield from variance_maps(subject, columns=spec.columns)


def _moving(subject: Subject) -> dict[str, Series]:
    """Return the run's history without the beta that a multi-rate model draws for each datum: it goes nowhere."""
    drawn = ("train/beta",) if subject.config.model.beta_range() is not None else ()
    return {metric: series for metric, series in subject.history.items() if metric not in drawn}
