"""Evaluators of the likelihood, as data."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from vae_models.evaluation.specs import EvaluatorSpec

if TYPE_CHECKING:
    from vae_models.evaluation.likelihood.bound import BoundEvaluator


class LikelihoodEvaluation(EvaluatorSpec):
    """ELBO, rate and distortion with their standard errors; bits per dimension where the likelihood is a mass."""

    kind: Literal["likelihood"] = "likelihood"

    def build(self) -> BoundEvaluator:
        """Return the evaluator: see `BoundEvaluator`."""
        from vae_models.evaluation.likelihood.bound import BoundEvaluator

        return BoundEvaluator()
