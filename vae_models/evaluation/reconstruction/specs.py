"""Evaluators of reconstructions, as data."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Literal

from pydantic import Field

from vae_models import bounds
from vae_models.config.run import RunConfig
from vae_models.evaluation.specs import EvaluatorSpec

if TYPE_CHECKING:
    from vae_models.evaluation.reconstruction.evaluator import ReconstructionEvaluator


class ReconstructionEvaluation(EvaluatorSpec):
    """Squared errors as the papers scale them, SSIM of images, and the variances of x given z and of E[x|z]."""

    kind: Literal["reconstruction"] = "reconstruction"
    variance_data: int = Field(default=64, ge=1, le=bounds.DATA, description="data whose variances are computed")
    variance_samples: int = Field(default=16, ge=2, le=1024, description="posterior samples of each of them")

    def refusals(self, config: RunConfig) -> Iterator[str]:
        """Yield that tokens have no squared error."""
        if config.data.support == "tokens":
            yield f"{config.data.name} has tokens, which have no squared error: leave it out"

    def build(self) -> ReconstructionEvaluator:
        """Return the evaluator: see `ReconstructionEvaluator`."""
        from vae_models.evaluation.reconstruction.evaluator import ReconstructionEvaluator

        return ReconstructionEvaluator(variance_data=self.variance_data, variance_samples=self.variance_samples)
