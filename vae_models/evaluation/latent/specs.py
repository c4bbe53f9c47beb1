"""Evaluators of the latent space, as data."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Literal

from pydantic import Field

from vae_models import bounds
from vae_models.config.run import RunConfig
from vae_models.evaluation.specs import EvaluatorSpec

if TYPE_CHECKING:
    from vae_models.evaluation.latent.information import InformationEvaluator
    from vae_models.evaluation.latent.smoothness import SmoothnessEvaluator
    from vae_models.evaluation.latent.units import UnitsEvaluator


def _one_latent(config: RunConfig) -> Iterator[str]:
    """Yield why the model is none of one latent vector."""
    latents = config.model.latents()
    if len(latents) != 1 or any(len(shape) != 1 for shape in latents.values()):
        yield f"it needs a model of one latent vector, and {config.model.kind} has {', '.join(latents)}"


class LatentEvaluation(EvaluatorSpec):
    """Active units, KL and variances of each dimension; of a hierarchical prior's inner latent too."""

    kind: Literal["latent"] = "latent"
    variance: bounds.PositiveReal = Field(
        default=0.01, description="of the posterior means over data: an active unit has more (Burda et al. 2016)"
    )
    kl: bounds.PositiveReal = Field(
        default=0.01, description="of a dimension, nats: an active unit by its KL has more (VHP D.2)"
    )

    def refusals(self, config: RunConfig) -> Iterator[str]:
        """Yield why the model has not one latent vector."""
        yield from _one_latent(config)

    def build(self) -> UnitsEvaluator:
        """Return the evaluator: see `UnitsEvaluator`."""
        from vae_models.evaluation.latent.units import UnitsEvaluator

        return UnitsEvaluator(variance=self.variance, kl=self.kl)


class MutualInformationEvaluation(EvaluatorSpec):
    """I(x; z) by the aggregate posterior with and without the self term, by AR-ELBO (D.1), and the rate above it."""

    kind: Literal["mutual-information"] = "mutual-information"
    data: int = Field(
        default=10_000, ge=2, le=10**6, description="at most so many data make up q(z): N x N densities; D.1 has 10,000"
    )
    variance: bounds.PositiveReal | None = Field(
        default=None,
        description="of a deterministic encoder alone: q(z|x) is taken for a normal with this variance about the mean",
    )

    def refusals(self, config: RunConfig) -> Iterator[str]:
        """Yield why q(z|x) has no density, or has one and is given another."""
        yield from _one_latent(config)
        if not config.model.bound and self.variance is None:
            yield (
                "q(z|x) of a deterministic encoder has no density, and its information is without limit: set variance "
                "to that of the noise that z is thought to have"
            )
        if config.model.bound and self.variance is not None:
            yield "q(z|x) has a variance of its own: leave variance out"

    def build(self) -> InformationEvaluator:
        """Return the evaluator: see `InformationEvaluator`."""
        from vae_models.evaluation.latent.information import InformationEvaluator

        return InformationEvaluator(data=self.data, variance=self.variance)


class SmoothnessEvaluation(EvaluatorSpec):
    """How much the decoder's output moves with z: expected gap and expected local smoothness (AR-ELBO 4.2)."""

    kind: Literal["smoothness"] = "smoothness"
    variances: tuple[bounds.PositiveReal, ...] = Field(
        default=(1e-2, 1e-3), max_length=16, description="s^2 of the expected gap's perturbations"
    )
    method: Literal["auto", "exact", "probes"] = Field(
        default="auto",
        description="of the local smoothness: exact, a product with the Jacobian for each latent axis; by random "
        "probes, without bias and with their error; auto: exact up to 64 axes",
    )
    probes: int = Field(default=16, ge=1, le=bounds.SAMPLES, description="products for each datum, of method probes")
    data: int = Field(default=1_000, ge=1, le=bounds.DATA, description="at most so many data")

    def refusals(self, config: RunConfig) -> Iterator[str]:
        """Yield why the model has not one latent vector."""
        yield from _one_latent(config)

    def build(self) -> SmoothnessEvaluator:
        """Return the evaluator: see `SmoothnessEvaluator`."""
        from vae_models.evaluation.latent.smoothness import SmoothnessEvaluator

        return SmoothnessEvaluator(variances=self.variances, method=self.method, probes=self.probes, data=self.data)


OURS = (LatentEvaluation, MutualInformationEvaluation, SmoothnessEvaluation)
