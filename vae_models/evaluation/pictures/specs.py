"""The evaluator of pictures, as data."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Literal

from pydantic import Field

from vae_models.config.run import RunConfig
from vae_models.evaluation.specs import EvaluatorSpec

if TYPE_CHECKING:
    from vae_models.evaluation.pictures.evaluator import PicturesEvaluator


class PicturesEvaluation(EvaluatorSpec):
    """Reconstructions, traversals, variance maps, nearest training data beside samples, and the run's history.

    Of data that are no images each datum is a column of colours. What samples look like is the evaluator samplers'.
    """

    kind: Literal["pictures"] = "pictures"
    columns: int = Field(default=10, ge=1, le=64, description="data beside one another")
    rows: int = Field(default=3, ge=1, le=64, description="rows of originals over reconstructions")
    dimensions: int = Field(
        default=10, ge=1, le=256, description="latent dimensions that are traversed: the most active"
    )
    steps: int = Field(default=9, ge=2, le=64, description="of a traversal")
    samples: int = Field(default=8, ge=1, le=64, description="whose nearest training data are shown")
    nearest: int = Field(default=5, ge=1, le=64, description="training data beside each sample")
    compared: int = Field(default=64, ge=1, le=1024, description="samples, and data, whose nearest are measured")
    betas: int = Field(default=5, ge=2, le=64, description="of a multi-rate model, where the plan names none")

    def refusals(self, config: RunConfig) -> Iterator[str]:
        """Yield that text is no picture."""
        if config.data.support == "tokens":
            yield f"{config.data.name} has tokens, of which there is no picture: leave it out"

    def build(self) -> PicturesEvaluator:
        """Return the evaluator: see `PicturesEvaluator`."""
        from vae_models.evaluation.pictures.evaluator import PicturesEvaluator

        return PicturesEvaluator(self)
