"""The evaluator of samplers, as data."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Literal

from pydantic import Field

from vae_models.config.run import RunConfig
from vae_models.evaluation.specs import EvaluatorSpec, without_samples

if TYPE_CHECKING:
    from vae_models.evaluation.fitting.quality import SamplersEvaluator


class SamplersEvaluation(EvaluatorSpec):
    """Fits the plan's samplers and keeps what was fitted; how likely the latents of data are by each; samples."""

    kind: Literal["samplers"] = "samplers"
    shown: int = Field(default=60, ge=1, le=1000, description="samples in a picture")

    def refusals(self, config: RunConfig) -> Iterator[str]:
        """Yield why nothing is sampled from the model."""
        yield from without_samples(config)

    def build(self) -> SamplersEvaluator:
        """Return the evaluator: see `SamplersEvaluator`."""
        from vae_models.evaluation.fitting.quality import SamplersEvaluator

        return SamplersEvaluator(shown=self.shown)
