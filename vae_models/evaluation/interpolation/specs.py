"""The evaluator of interpolations, as data."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Literal

from pydantic import Field, model_validator

from vae_models.config.run import RunConfig
from vae_models.evaluation.specs import EvaluatorSpec, without_one_latent
from vae_models.samplers.specs import PriorSamplerConfig, SamplerConfig

if TYPE_CHECKING:
    from vae_models.evaluation.interpolation.evaluator import InterpolationEvaluator


class InterpolationEvaluation(EvaluatorSpec):
    """Ways between the posterior means of pairs of data: how long their pictures are, and whether any step jumps.

    VHP's graphs (table 3) have 1,000 nodes and 18 neighbours (pendulum), 2,530 and 15 (CMU), 10,000 and 18 (Faces).
    """

    kind: Literal["interpolation"] = "interpolation"
    pairs: int = Field(default=16, ge=1, le=10_000, description="of data, drawn by the plan's seed")
    steps: int = Field(default=11, ge=3, le=1000, description="pictures of a way, both ends among them")
    nodes: int = Field(default=300, ge=2, le=100_000, description="of the graph: samples of z")
    neighbours: int = Field(default=12, ge=1, le=1000, description="nearest nodes that a node or an end is joined to")
    points: int = Field(default=2, ge=1, le=64, description="of an edge, at which the decoder's speed is computed")
    sampler: SamplerConfig = Field(default=PriorSamplerConfig(), description="by which nodes are drawn")
    shown: int = Field(default=4, ge=0, le=64, description="pairs whose ways are drawn")

    @model_validator(mode="after")
    def _enough_nodes(self) -> InterpolationEvaluation:
        if self.neighbours >= self.nodes:
            raise ValueError(f"{self.neighbours} neighbours need more than {self.nodes} nodes: set fewer neighbours")
        return self

    def refusals(self, config: RunConfig) -> Iterator[str]:
        """Yield why there is no way, or none that can be measured."""
        yield from without_one_latent(config)
        if config.data.support == "tokens":
            yield f"{config.data.name} has tokens, between which there is no distance: leave it out"
        if config.data.facts.lengths:
            yield f"data of {config.data.name} have lengths of their own, and so has what is between them: leave it out"
        if not config.model.bound and self.sampler.kind == "prior":
            yield (
                "no prior was fitted to what a deterministic encoder makes of the data, so its samples are no nodes: "
                "set sampler to one that is fitted to the latents"
            )

    def build(self) -> InterpolationEvaluator:
        """Return the evaluator: see `InterpolationEvaluator`."""
        from vae_models.evaluation.interpolation.evaluator import InterpolationEvaluator

        return InterpolationEvaluator(self)
