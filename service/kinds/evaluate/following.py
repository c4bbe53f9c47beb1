"""An evaluation that follows a job: `then: evaluate`, or what is evaluated more exactly."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field, ValidationError

from service import kinds
from service.code.reference import absent
from service.errors import UsageError
from service.kinds.evaluate import plans
from service.kinds.kind import loaded
from service.kinds.plain import trained as one_model
from service.mistakes import listed
from service.queue.jobs import Job, Resources
from service.spec_errors import explain
from service.specs.job import JobSpec
from vae_models.config.train import TrainConfig
from vae_models.evaluation.specs import EvaluationPlan
from vae_models.measures import STORED
from vae_models.strict import Strict

if TYPE_CHECKING:
    from service.kinds.house import House


class EvaluateNext(Strict):
    """What stands in `then` of another job's spec. trials: of a study, its winner or every trial, a job each."""

    kind: Literal["evaluate"] = "evaluate"
    plan: EvaluationPlan = EvaluationPlan()
    trials: Literal["winner", "all"] = "winner"
    resources: Resources | None = Field(default=None, description="its gang; default: as that of the job before")


def read(before: JobSpec, given: Mapping[str, Any]) -> dict[str, Any]:
    """Return what was written, whole. Raises UsageError with a line for each mistake.

    before: the spec that it stands in; whether the evaluators suit is known where that trains one model
    """
    plan = given.get("plan")
    plain = {**given, "plan": plans.named(plan)} if isinstance(plan, Mapping) else dict(given)
    try:
        asked = EvaluateNext.model_validate(plain)
    except ValidationError as error:
        raise UsageError(listed(f"then.{line}" for line in explain(error, EvaluateNext))) from None
    kind = kinds.named(before.kind)
    several = loaded(kind.trained) is not one_model
    if asked.trials == "all":
        _check_all(before, several=several)
    config = {} if several or absent(before.code) else kinds.config(before.model_dump(mode="json"))
    if config:
        plans.fitting(asked.plan, TrainConfig.model_validate(config, context=STORED))
    return asked.model_copy(update={"resources": asked.resources or before.resources}).model_dump(mode="json")


def _check_all(before: JobSpec, *, several: bool) -> None:
    """Raise UsageError where a job has not, or does not keep, the models of all its trials."""
    if not several:
        raise UsageError(f"then.trials: all is of a study, and this is {kinds.named(before.kind).called}")
    if getattr(before, "keep", "all") != "all":
        raise UsageError("then.trials: all needs `keep: all`: else the weights of all but the winner are deleted")


def specs(job: Job, given: Mapping[str, Any], house: House) -> list[dict[str, Any]]:
    """Return the evaluations of the models that the job came to."""
    models = [job.id]
    if given["trials"] == "all":
        models = [f"{job.id}/{name}" for name in loaded(kinds.named(job.kind).trained)(job, house.artifacts)]
    shared = {name: given[name] for name in ("plan", "resources")} | {
        "priority": job.priority, "code": job.spec.get("code"), "retry": job.spec.get("retry"),
    }  # fmt: skip
    return [{"kind": "evaluate", "of": of, **{k: v for k, v in shared.items() if v is not None}} for of in models]
