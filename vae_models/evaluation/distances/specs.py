"""Evaluators of distances between images, as data."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import Field

from vae_models.config.run import RunConfig
from vae_models.evaluation.distances.neighbours import FEWEST
from vae_models.evaluation.features.specs import FeaturesConfig, InceptionFeatures
from vae_models.evaluation.specs import EvaluatorSpec, without_samples

if TYPE_CHECKING:
    from vae_models.evaluation.distances.interpolations import InterpolationDistances
    from vae_models.evaluation.distances.samples import SampleDistances


class FidEvaluation(EvaluatorSpec):
    """FID, KID, precision, recall, density and coverage of each sampler's samples, and the FID of reconstructions."""

    standard: ClassVar[bool] = False

    kind: Literal["fid"] = "fid"
    features: FeaturesConfig = Field(default=InceptionFeatures(), description="what the distances are measured on")
    count: int = Field(default=10_000, ge=FEWEST, le=10**6, description="samples of each sampler")
    form: Literal["means", "samples"] = Field(default="means", description="E[x|z], as papers sample, or x ~ p(x|z)")
    reconstructions: bool = Field(default=True, description="whether E[x|z] of z ~ q(z|x) is compared too")

    def refusals(self, config: RunConfig) -> Iterator[str]:
        """Yield what the features refuse, and why nothing is sampled from the model."""
        yield from self.features.refusals(config)
        yield from without_samples(config)

    def build(self) -> SampleDistances:
        """Return the evaluator: see `SampleDistances`."""
        from vae_models.evaluation.distances.samples import SampleDistances

        return SampleDistances(
            features=self.features, count=self.count, form=self.form, reconstructions=self.reconstructions
        )


class InterpolationFidEvaluation(EvaluatorSpec):
    """The distances of `fid`, of pictures between pairs of data: half way, and at a random place (AR-ELBO 6.2)."""

    standard: ClassVar[bool] = False

    kind: Literal["interpolation-fid"] = "interpolation-fid"
    features: FeaturesConfig = Field(default=InceptionFeatures(), description="what the distances are measured on")
    count: int = Field(default=10_000, ge=FEWEST, le=10**6, description="pairs of data")

    def refusals(self, config: RunConfig) -> Iterator[str]:
        """Yield what the features refuse, and models of more than one latent."""
        yield from self.features.refusals(config)
        if len(latents := config.model.latents()) != 1:
            yield f"interpolation needs a model of one latent, and {config.model.kind} has {', '.join(latents)}"

    def build(self) -> InterpolationDistances:
        """Return the evaluator: see `InterpolationDistances`."""
        from vae_models.evaluation.distances.interpolations import InterpolationDistances

        return InterpolationDistances(features=self.features, count=self.count)
