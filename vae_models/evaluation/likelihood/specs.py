"""Evaluators of the likelihood, as data."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import Field

from vae_models import bounds
from vae_models.config.run import RunConfig
from vae_models.evaluation.likelihood.scale import scale_of
from vae_models.evaluation.specs import EvaluatorSpec

if TYPE_CHECKING:
    from vae_models.evaluation.likelihood.bound import BoundEvaluator
    from vae_models.evaluation.likelihood.curve import CurveEvaluator
    from vae_models.evaluation.likelihood.nll import NllEvaluator


class LikelihoodEvaluation(EvaluatorSpec):
    """ELBO, rate and distortion with their standard errors; bits per dimension where the likelihood is a mass."""

    kind: Literal["likelihood"] = "likelihood"

    def build(self) -> BoundEvaluator:
        """Return the evaluator: see `BoundEvaluator`."""
        from vae_models.evaluation.likelihood.bound import BoundEvaluator

        return BoundEvaluator()


class NllEvaluation(EvaluatorSpec):
    """-log p(x) by importance sampling from q(z|x): Burda et al.'s bound of so many samples."""

    standard: ClassVar[bool] = False  # each sample costs a pass through the decoder

    kind: Literal["nll"] = "nll"
    samples: int = Field(default=500, ge=1, le=bounds.SAMPLES, description="k: samples of q(z|x) for each datum")

    def refusals(self, config: RunConfig) -> Iterator[str]:
        """Yield why there is no log p(x): q(z|x) without a density, or a cross-entropy in a likelihood's place."""
        if not config.model.bound:
            yield "a deterministic encoder has no q(z|x) to draw samples from: leave it out for autoencoders"
        if (scale := scale_of(config)).measure is None:
            yield f"there is no log p(x): {scale.note}"

    def build(self) -> NllEvaluator:
        """Return the evaluator: see `NllEvaluator`."""
        from vae_models.evaluation.likelihood.nll import NllEvaluator

        return NllEvaluator(samples=self.samples)


class RateDistortionEvaluation(EvaluatorSpec):
    """The rate-distortion curve of a multi-rate model: both at betas spaced evenly in log beta over its range."""

    kind: Literal["rate-distortion"] = "rate-distortion"
    betas: int = Field(default=10, ge=2, le=bounds.LISTED, description="how many, the ends of the range among them")

    def refusals(self, config: RunConfig) -> Iterator[str]:
        """Yield why there is no curve: the model reads no beta, or q(z|x) has no density."""
        if config.model.beta_range() is None:
            yield "a model of one beta is one point: the curve is of multi-rate models (model.gating)"
        if not config.model.bound:
            yield "a deterministic encoder has no rate"

    def build(self) -> CurveEvaluator:
        """Return the evaluator: see `CurveEvaluator`."""
        from vae_models.evaluation.likelihood.curve import CurveEvaluator

        return CurveEvaluator(betas=self.betas)


OURS = (LikelihoodEvaluation, NllEvaluation, RateDistortionEvaluation)
