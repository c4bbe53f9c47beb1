"""Evaluators of the latent space, as data."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Literal

from pydantic import Field

from vae_models import bounds
from vae_models.config.run import RunConfig
from vae_models.data.spec import LabelSpec
from vae_models.evaluation.specs import EvaluatorSpec

if TYPE_CHECKING:
    from vae_models.evaluation.latent.angle import AngleEvaluator
    from vae_models.evaluation.latent.disentanglement import DisentanglementEvaluator
    from vae_models.evaluation.latent.information import InformationEvaluator
    from vae_models.evaluation.latent.probes import ProbesEvaluator
    from vae_models.evaluation.latent.scatter import ScatterEvaluator
    from vae_models.evaluation.latent.smoothness import SmoothnessEvaluator
    from vae_models.evaluation.latent.units import UnitsEvaluator


def _one_latent(config: RunConfig) -> Iterator[str]:
    """Yield why the model is none of one latent vector."""
    latents = config.model.latents()
    if len(latents) != 1 or any(len(shape) != 1 for shape in latents.values()):
        yield f"it needs a model of one latent vector, and {config.model.kind} has {', '.join(latents)}"


class LatentEvaluation(EvaluatorSpec):
    """Active units, KL and variances of each dimension; of a hierarchical prior's inner latent too. Of a model of
    several latents the rate of each, and of a ladder's its active units.
    """

    kind: Literal["latent"] = "latent"
    variance: bounds.PositiveReal = Field(
        default=0.01, description="of the posterior means over data: an active unit has more (Burda et al. 2016)"
    )
    kl: bounds.PositiveReal = Field(
        default=0.01, description="of a dimension, nats: an active unit by its KL has more (VHP D.2)"
    )

    def refusals(self, config: RunConfig) -> Iterator[str]:
        """Yield why a model of several latents has no rates."""
        if any(True for _ in _one_latent(config)) and not config.model.bound:
            yield "a latent without a density has no rate"

    def build(self) -> UnitsEvaluator:
        """Return the evaluator: see `UnitsEvaluator`."""
        from vae_models.evaluation.latent.units import UnitsEvaluator

        return UnitsEvaluator(variance=self.variance, kl=self.kl)


class MutualInformationEvaluation(EvaluatorSpec):
    """I(x; z) by the aggregate posterior with and without the self term, by AR-ELBO (D.1), and the rate above it."""

    kind: Literal["mutual-information"] = "mutual-information"
    data: int = Field(
        default=10_000,
        ge=2,
        le=100_000,
        description="at most so many data make up q(z): N x N densities; D.1 has 10,000",
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


class AngleEvaluation(EvaluatorSpec):
    """Whether a latent plane has found the angle that is the data's label: circle and OLS of VHP B.3."""

    kind: Literal["angle"] = "angle"

    def refusals(self, config: RunConfig) -> Iterator[str]:
        """Yield why there is no angle, or no plane."""
        yield from _one_latent(config)
        labels = config.data.facts.labels
        if labels is None or labels.unit != "rad" or not isinstance(labels.name, str):
            yield f"it needs data whose one label is an angle in rad, and {config.data.name} has {_said(labels)}"
        if config.model.dimensions() != 2:
            yield f"it needs a latent of 2 dimensions, and there are {config.model.dimensions()}"

    def build(self) -> AngleEvaluator:
        """Return the evaluator: see `AngleEvaluator`."""
        from vae_models.evaluation.latent.angle import AngleEvaluator

        return AngleEvaluator()


class DisentanglementEvaluation(EvaluatorSpec):
    """Whether dimensions and known factors go together one by one: MIG, DCI and SAP."""

    kind: Literal["disentanglement"] = "disentanglement"
    data: int = Field(default=2_000, ge=20, le=bounds.DATA, description="at most so many data, of the evaluated split")
    learner: Literal["random-forest", "gradient-boosting", "lasso"] = Field(
        default="random-forest",
        description="of DCI, whose importances it takes; lasso: of classes a logistic regression with an L1 penalty",
    )
    trees: int = Field(default=50, ge=1, le=10_000, description="of a random forest, or rounds of gradient boosting")

    def refusals(self, config: RunConfig) -> Iterator[str]:
        """Yield why there are no two factors."""
        yield from _one_latent(config)
        labels = config.data.facts.labels
        if labels is None or isinstance(labels.name, str) or len(labels.name) < 2:
            yield f"it compares two factors or more, and the labels of {config.data.name} are {_said(labels)}"

    def build(self) -> DisentanglementEvaluator:
        """Return the evaluator: see `DisentanglementEvaluator`."""
        from vae_models.evaluation.latent.disentanglement import DisentanglementEvaluator

        return DisentanglementEvaluator(data=self.data, learner=self.learner, trees=self.trees)


class ProbesEvaluation(EvaluatorSpec):
    """How well a linear and a nearest-neighbour learner read the labels off the posterior means."""

    kind: Literal["probes"] = "probes"
    data: int = Field(
        default=10_000, ge=2, le=bounds.DATA, description="at most so many data of each split, to learn from and to ask"
    )
    neighbours: int = Field(default=10, ge=1, le=1_000, description="of the nearest-neighbour probe")
    iterations: int = Field(default=200, ge=1, le=100_000, description="at most, of the logistic regression")

    def refusals(self, config: RunConfig) -> Iterator[str]:
        """Yield why there is nothing to read off."""
        yield from _one_latent(config)
        if config.data.facts.labels is None:
            yield f"it needs labels, and {config.data.name} has none"

    def build(self) -> ProbesEvaluator:
        """Return the evaluator: see `ProbesEvaluator`."""
        from vae_models.evaluation.latent.probes import ProbesEvaluator

        return ProbesEvaluator(data=self.data, neighbours=self.neighbours, iterations=self.iterations)


class ScatterEvaluation(EvaluatorSpec):
    """Pictures of the latent by principal components and t-SNE, coloured by label, with samples of the prior."""

    kind: Literal["scatter"] = "scatter"
    data: int = Field(default=1_000, ge=3, le=2_000, description="points at most: t-SNE of 1,000 takes seconds")
    prior: int = Field(
        default=300, ge=0, le=2_000, description="samples of the prior beside them, at most as many as data"
    )
    tsne: bool = Field(default=True, description="of latents of more than two dimensions, at beta = 1")
    perplexity: float = Field(default=30.0, ge=1, le=500, description="of t-SNE: less where there are few points")

    def refusals(self, config: RunConfig) -> Iterator[str]:
        """Yield why the model has not one latent vector."""
        yield from _one_latent(config)

    def build(self) -> ScatterEvaluator:
        """Return the evaluator: see `ScatterEvaluator`."""
        from vae_models.evaluation.latent.scatter import ScatterEvaluator

        return ScatterEvaluator(data=self.data, prior=self.prior, tsne=self.tsne, perplexity=self.perplexity)


def _said(labels: LabelSpec | None) -> str:
    """Return what the labels are, in words."""
    if labels is None:
        return "none"
    names = labels.name if isinstance(labels.name, str) else ", ".join(labels.name)
    return f"{names} [{labels.unit}]" if labels.unit else names


OURS = (
    LatentEvaluation,
    MutualInformationEvaluation,
    SmoothnessEvaluation,
    AngleEvaluation,
    DisentanglementEvaluation,
    ProbesEvaluation,
    ScatterEvaluation,
)
