"""What is evaluated of a trained model, as data."""

from __future__ import annotations

import json
from abc import abstractmethod
from collections.abc import Iterator, Mapping
from hashlib import sha256
from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import Field, model_validator

from vae_models import bounds
from vae_models.config.run import RunConfig
from vae_models.parts import Seam, spec_of
from vae_models.samplers.specs import PriorSamplerConfig, SamplerConfig, SamplerSpec
from vae_models.strict import Strict

if TYPE_CHECKING:
    from vae_models.evaluation.subject import Evaluator


class EvaluatorSpec(Strict):
    """One thing to find out about a trained model, as data. Importing it loads no torch.

    What it needs of a model or of data is told by `refusals`, from the configuration alone, so that a plan is refused
    before anything is computed; what only the data can tell it raises as `subject.Inapplicable`.

    standard: whether a plan that names no evaluator has it: one that costs minutes, or needs a file, is asked for
    """

    standard: ClassVar[bool] = True

    if TYPE_CHECKING:
        kind: str

    def refusals(self, config: RunConfig) -> Iterator[str]:
        """Yield a sentence for each reason why it cannot be found out about such a model on such data."""
        return iter(())

    @abstractmethod
    def build(self) -> Evaluator:
        """Return the evaluator; torch is loaded here."""


def without_one_latent(config: RunConfig) -> Iterator[str]:
    """Yield why the model is none of one latent vector, for `EvaluatorSpec.refusals`."""
    latents = config.model.latents()
    if [len(shape) for shape in latents.values()] != [1]:
        yield f"it needs a model of one latent vector, and {config.model.kind} has {', '.join(latents)}: leave it out"


def without_samples(config: RunConfig) -> Iterator[str]:
    """Yield why nothing is sampled from the model, for `EvaluatorSpec.refusals`."""
    if config.model.continues:
        yield (
            f"model {config.model.kind} continues a beginning that it is given, and samples nothing without one: leave "
            "it out"
        )


EVALUATORS = Seam[type[EvaluatorSpec]](
    "evaluator",
    [
        "vae_models.evaluation.likelihood.specs:OURS",
        "vae_models.evaluation.latent.specs:OURS",
        "vae_models.evaluation.reconstruction.specs:ReconstructionEvaluation",
        "vae_models.evaluation.prediction.specs:PredictionEvaluation",
        "vae_models.evaluation.fitting.specs:SamplersEvaluation",
        "vae_models.evaluation.interpolation.specs:InterpolationEvaluation",
        "vae_models.evaluation.distances.specs:FidEvaluation",
        "vae_models.evaluation.distances.specs:InterpolationFidEvaluation",
        "vae_models.evaluation.pictures.specs:PicturesEvaluation",
    ],
    check=spec_of(EvaluatorSpec),
    summary="what is found out about a trained model",
)

if TYPE_CHECKING:
    EvaluatorConfig = EvaluatorSpec
else:
    EvaluatorConfig = EVALUATORS.union()


class EvaluationPlan(Strict):
    """What is evaluated, on what, and how much memory it may take. Results do not depend on the last two."""

    evaluators: tuple[EvaluatorConfig, ...] = Field(
        default=(),
        max_length=bounds.LISTED,
        description="what is found out; none: all standard ones that suit model and data",
    )
    split: Literal["train", "val", "test"] = Field(
        default="test", description="the data; numbers of the test split never choose a model"
    )
    limit: int | None = Field(
        default=None, ge=1, le=bounds.DATA, description="at most this many data; none: the whole split"
    )
    betas: tuple[bounds.PositiveReal, ...] = Field(
        default=(), max_length=bounds.LISTED, description="of a multi-rate model: beta beside 1, at which it is asked"
    )
    samplers: tuple[SamplerConfig, ...] = Field(
        default=(PriorSamplerConfig(),), min_length=1, max_length=16, description="how samples are made"
    )
    seed: bounds.Seed = 0
    batch_size: int = Field(default=512, ge=1, le=bounds.BATCH)
    memory_mib: int = Field(default=1024, ge=16, le=2**20, description="for what is computed at a time, MiB")

    @model_validator(mode="after")
    def _samplers_have_names(self) -> EvaluationPlan:
        here = [sampler for sampler in self.samplers if isinstance(sampler, SamplerSpec)]  # not of an absent package
        names = [sampler.called() for sampler in here]
        if double := sorted({name for name in names if names.count(name) > 1}):
            raise ValueError(f"samplers: {double[0]} is there twice, and its metrics could not be told apart")
        return self


ASIDE = {"evaluators", "batch_size", "memory_mib"}  # of a plan: no finding depends on these


def chosen(plan: EvaluationPlan, config: RunConfig) -> Mapping[str, EvaluatorSpec]:
    """Return what is evaluated, by key: the plan's, or all standard ones that suit the model and its data.

    Raise ValueError with a line for each evaluator of the plan that does not suit.
    """
    if plan.evaluators:
        problems = [f"{spec.kind}: {reason}" for spec in plan.evaluators for reason in spec.refusals(config)]
        if problems:
            raise ValueError("\n".join(problems))
        return {key(spec, plan): spec for spec in plan.evaluators}
    every = (part.model_validate({}) for part in EVALUATORS.all().values() if part.standard)
    return {key(spec, plan): spec for spec in every if not any(True for _ in spec.refusals(config))}


def key(spec: EvaluatorSpec, plan: EvaluationPlan) -> str:
    """Return a name, such as a folder may have, for all that the findings depend on beside model and data."""
    said = {"evaluator": spec.model_dump(mode="json"), "plan": plan.model_dump(mode="json", exclude=ASIDE)}
    digest = sha256(json.dumps(said, sort_keys=True).encode()).hexdigest()
    return f"{spec.kind}-{plan.split}-{digest[:12]}"
