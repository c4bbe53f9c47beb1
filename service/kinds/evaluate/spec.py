"""The spec of an evaluation: which model, named exactly, and what is found out about it."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal

from pydantic import Field

from service.code.reference import absent
from service.errors import UsageError
from service.kinds import plain
from service.kinds.evaluate import plans
from service.specs.given import Given
from service.specs.job import JobSpec
from service.specs.trained import TrainedModel
from vae_models.config.train import TrainConfig
from vae_models.evaluation.specs import EvaluationPlan

Evaluated = TrainedModel  # what it is called here


class EvaluateSpec(JobSpec):
    """kind: evaluate. What the papers measure about a trained model.

    `of` is what somebody wrote: NAME@best, NAME/3, a job's id, JOB/STAGE/NUMBER of a study's trial, or the address of a
    checkpoint. The service reads it once, at submission, and writes down in `model` and `train` what it meant then.
    """

    kind: Literal["evaluate"] = "evaluate"
    of: str = Field(min_length=1, max_length=1000, description="NAME@best, NAME/3, JOB, JOB/STAGE/TRIAL or an address")
    model: Evaluated | None = Field(default=None, description="the model that this means; filled in by the service")
    train: TrainConfig | None = Field(default=None, description="how it was trained; filled in by the service")
    plan: EvaluationPlan = EvaluationPlan()


def resolve_given(
    given: Given,
    changes: Sequence[str],
    fields: Mapping[str, Any],
    note: Callable[[str], None],
    spec: type[EvaluateSpec],
) -> EvaluateSpec:
    """Return the spec, as far as it can be known without the service. Raises UsageError with a line for each mistake.

    A path of `changes` begins with a field of the spec, or of its plan.
    """
    given_plan = given.fields.get("plan")
    whole = {**given.fields, "plan": plans.named(given_plan)} if isinstance(given_plan, Mapping) else given.fields
    if whole.get("name") is None and isinstance(whole.get("of"), str):
        whole = {**whole, "name": _name(str(whole["of"]))}
    at = [f"plan.{each}" if plans.is_of_plan(each) else each for each in changes]
    resolved = plain.resolve(Given(fields=whole, name=given.name, source=given.source), at, fields, note, spec)
    check(resolved)
    return resolved


def check(spec: EvaluateSpec) -> None:
    """Raise UsageError with a line for each evaluator that suits the model or its data not, where both are known."""
    if spec.train is not None and not absent(spec.code):
        plans.fitting(spec.plan, spec.train)


def _name(of: str) -> str:
    """Return a job's name for the evaluation of what was written."""
    return f"evaluate/{re.sub(r'[^A-Za-z0-9._/-]+', '-', of)}"[:100]


def config(data: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return how the model was trained, of a spec as data: so its run is among those that it can be compared with."""
    train: Mapping[str, Any] = data.get("train") or {}
    return train


def whole(spec: EvaluateSpec) -> tuple[Evaluated, TrainConfig]:
    """Return model and configuration of a spec that the service has completed. Raises UsageError for another."""
    if spec.model is None or spec.train is None:
        raise UsageError(
            "model: the service has not written down which model this is: submit it with `vaesvc evaluate`"
        )
    return spec.model, spec.train
