"""The fields of a whole run. Whether they go together is asked where they are read: `vae_models.config.train`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field, ValidationInfo, field_validator, model_validator

from vae_models import bounds, measures
from vae_models.control.specs import BetaConfig, ConstantBetaConfig
from vae_models.data.config import DataConfig
from vae_models.measures import Goal, Mode
from vae_models.objectives.specs import ElboConfig, ObjectiveConfig
from vae_models.optimization.specs import AdamConfig, ConstantScheduleConfig, OptimizerConfig, ScheduleConfig
from vae_models.samplers.specs import SAMPLERS, PriorSamplerConfig, SamplerSpec, UnfittedSamplerConfig
from vae_models.strict import Strict
from vae_models.topologies.specs import TOPOLOGIES, TopologySpec
from vae_models.topologies.vae.specs import ModelConfig

if TYPE_CHECKING:
    TopologyConfig = TopologySpec
else:
    TopologyConfig = TOPOLOGIES.union(meant="vae")


class EvaluationConfig(Strict):
    """On the validation split, during and after training; `test` and `train` add splits at the end."""

    every_epochs: float = Field(default=1.0, gt=0, le=bounds.EPOCHS)
    batch_size: int = Field(default=500, ge=1, le=bounds.BATCH)
    limit: int | None = Field(
        default=None, ge=1, le=bounds.DATA, description="at most this many data; none: the whole split"
    )
    betas: tuple[bounds.PositiveReal, ...] = Field(
        default=(),
        max_length=bounds.LISTED,
        description="a multi-rate model is evaluated at these beta too: metrics <split>/beta_<beta>/<name>",
    )
    betas_at_end_only: bool = Field(
        default=False, description="at `betas` in the last evaluation only: each costs as much as the evaluation itself"
    )
    test: bool = True
    train: bool = Field(
        default=False,
        description="at the end on the training split too, at beta = 1 as everywhere: metrics train_eval/<name>",
    )
    pictures: bool = True
    sampler: UnfittedSamplerConfig = Field(default=PriorSamplerConfig(), description="whose samples the pictures show")
    measures: tuple[bounds.Name, ...] = Field(
        default=(),
        max_length=bounds.MEASURES,
        description="what is measured beside elbo, rate, distortion and squared_error: measures of installed packages "
        "(vaesvc parts measure)",
    )

    @model_validator(mode="after")
    def _pictures_need_no_fit(self) -> EvaluationConfig:
        if isinstance(self.sampler, SamplerSpec) and self.sampler.fitted:  # else it is of a package that is not here
            unfitted = [kind for kind, spec in SAMPLERS.all().items() if not spec.fitted]
            raise ValueError(
                f"sampler {self.sampler.kind} is fitted to a trained model, and pictures are drawn while it trains: "
                f"choose {' or '.join(unfitted)} here, and evaluate the trained model with {self.sampler.kind}"
            )
        return self

    @model_validator(mode="after")
    def _measures_are_there(self) -> EvaluationConfig:
        measures.asked_for(self.measures)
        return self


class CheckpointConfig(Strict):
    """When checkpoints are written, and which are kept: the last, and the best evaluations by `metric`."""

    every_steps: int = Field(default=500, ge=1, le=bounds.STEPS)
    keep_best: int = Field(default=1, ge=1, le=bounds.KEPT, description="how many of the best are kept beside the last")
    metric: str = Field(
        default="val/elbo", max_length=bounds.TEXT, description=f"one of {', '.join(measures.SELECTABLE)}"
    )
    mode: Mode = Field(
        default_factory=lambda given: measures.direction(given.get("metric", "")) or "max",
        description="which way the metric is better; left out: as it is, and the other is refused",
    )

    @model_validator(mode="before")
    @classmethod
    def _as_the_measure_is(cls, given: Any, info: ValidationInfo) -> Any:
        return measures.own_mode(given, cls.model_fields["metric"].default) if measures.is_stored(info) else given

    @model_validator(mode="after")
    def _looks_for_the_best(self) -> CheckpointConfig:
        if measures.direction(self.metric) not in (None, self.mode):
            raise ValueError(measures.contradiction(self.metric, self.mode))
        return self

    @property
    def goal(self) -> Goal:
        """Return the goal by which the best checkpoint is chosen."""
        return Goal(metric=self.metric, mode=self.mode)


LATER = (
    "precision",
    "micro_batch",
    "recompute",
    "compile",
    "graph",
)  # fields that came after studies had been run: see `RunConfig.identity`


class RunConfig(Strict):
    """Everything that a run's result depends on, each right by itself: what the rules of `compatibility` read."""

    data: DataConfig
    model: TopologyConfig = ModelConfig()
    objective: ObjectiveConfig = ElboConfig()
    beta: BetaConfig = ConstantBetaConfig()
    optimizer: OptimizerConfig = AdamConfig()
    schedule: ScheduleConfig = ConstantScheduleConfig()
    batch_size: int = Field(
        default=128, ge=1, le=bounds.BATCH, description="global: the same whatever the number of workers"
    )
    epochs: float | None = Field(
        default=None, gt=0, le=bounds.EPOCHS, description="passes over the training split; this or steps"
    )
    steps: int | None = Field(default=None, ge=1, le=bounds.STEPS, description="optimizer steps; this or epochs")
    seed: bounds.Seed = 0
    dtype: Literal["float32", "float64"] = "float32"
    precision: Literal["float32", "tf32", "bf16"] = Field(
        default="float32",
        description="of the networks' products in training: float32 as dtype says; tf32 on NVIDIA GPUs; bf16. Weights, "
        "densities, sums and evaluations are float32",
    )
    micro_batch: int | None = Field(
        default=None,
        ge=1,
        le=bounds.BATCH,
        description="at most so many data go through a worker's networks at a time, their gradients added up: less "
        "memory; none: a worker's whole share of the batch",
    )
    recompute: bool = Field(
        default=False,
        description="keep no activations inside of a deep model's cells, and compute them again in the backward pass: "
        "less memory for about a third more time",
    )
    compile: Literal["off", "step"] = Field(
        default="off",
        description="the training step by torch.compile: a minute before the first step, then faster; of one worker",
    )
    graph: Literal["off", "auto"] = Field(
        default="off", description="replay the compiled step as CUDA graphs where there is a GPU; elsewhere it is off"
    )
    log_every_steps: int = Field(default=50, ge=1, le=bounds.STEPS)
    evaluation: EvaluationConfig = EvaluationConfig()
    checkpoint: CheckpointConfig = CheckpointConfig()

    @field_validator("model")
    @classmethod
    def _suited(cls, model: Any, info: ValidationInfo) -> Any:
        """Return the model with what it takes from the data's facts filled in; `data` comes before it."""
        data = info.data.get("data")
        return model.suited(data.facts) if isinstance(model, TopologySpec) and data is not None else model

    @property
    def shortest(self) -> int | None:
        """Return the fewest places along "time" that a batch is cut to: see `Masks`. None: batches are not cut."""
        return self.model.shortest if self.data.trim and self.data.facts.lengths else None

    def determining(self) -> dict[str, Any]:
        """Return what the result depends on, as plain data: everything but where the data are kept while it runs."""
        return self.model_dump(exclude={"data": {"residency"}})

    def identity(self) -> str:
        """Return the text that identifies this configuration, which names a study's trial.

        Fields that earlier versions did not have count only where they are not at their default: older trials keep
        their names. Facts follow from the set's name or digest, and where the data are kept determines nothing.
        """
        data, fields = {"facts", "residency"}, type(self.evaluation).model_fields
        if self.data.digest is None:
            data.add("digest")
        defaults = type(self.data).model_fields
        data |= {name for name in ("trim", "buckets") if getattr(self.data, name) == defaults[name].default}
        later = {name for name in ("sampler", "measures") if getattr(self.evaluation, name) == fields[name].default}
        defaults = type(self).model_fields
        unset: dict[str, Any] = {name: True for name in LATER if getattr(self, name) == defaults[name].default}
        return self.model_dump_json(exclude={"data": data, "evaluation": later, **unset})

    def metrics(self) -> tuple[str, ...]:
        """Return the metrics that a run of this configuration reports and can be judged by, known before it starts.

        They are those of its evaluations on val and, if requested, on the training split, and `train/` with the loss's
        terms.
        """
        bound = self.model.bound
        splits = ("val", measures.ON_TRAIN) if self.evaluation.train else ("val",)
        at = ("", *(f"/{measures.of_beta(beta)}" for beta in self.evaluation.betas))
        where = [f"{split}{beta}" for split in splits for beta in at]
        terms = [name for name in self.objective.reported if bound or not measures.has_bound(name)]
        evaluated = measures.evaluated(bound=bound, where=where, more=self.evaluation.measures)
        return (*evaluated, *(f"train/{name}" for name in ("loss", *terms)))
