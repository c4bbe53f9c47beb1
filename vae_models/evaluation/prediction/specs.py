"""The evaluator of predictions, as data."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import Field

from vae_models.config.run import RunConfig
from vae_models.data.spec import AXES
from vae_models.evaluation.specs import EvaluatorSpec

if TYPE_CHECKING:
    from vae_models.evaluation.prediction.evaluator import PredictionEvaluator


class PredictionEvaluation(EvaluatorSpec):
    """Frames predicted after a video's beginning: SSIM and PSNR of the best of many samples, frame by frame.

    It decodes all samples of each video, which takes minutes of large ones: it is asked for.
    """

    standard: ClassVar[bool] = False

    kind: Literal["prediction"] = "prediction"
    samples: int = Field(default=20, ge=1, le=1000, description="predictions of each video, of which the best counts")
    frames: int | None = Field(
        default=None, ge=1, le=10_000, description="that are predicted; none: all that follow the beginning"
    )
    shown: int = Field(default=6, ge=1, le=64, description="videos in the pictures")

    def refusals(self, config: RunConfig) -> Iterator[str]:
        """Yield that the model predicts nothing, or that the data are no videos with values in [0, 1]."""
        if not config.model.continues:
            yield f"model {config.model.kind} predicts no frames after a beginning: leave it out, or train model video"
        elif config.data.facts.axes != ("time", *AXES) or config.data.reals:
            yield f"SSIM and PSNR are of videos with values in [0, 1], and {config.data.name} has none: leave it out"

    def build(self) -> PredictionEvaluator:
        """Return the evaluator: see `PredictionEvaluator`."""
        from vae_models.evaluation.prediction.evaluator import PredictionEvaluator

        return PredictionEvaluator(samples=self.samples, frames=self.frames, shown=self.shown)
