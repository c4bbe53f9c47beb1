"""What people write of an evaluation becomes an `EvaluationPlan`: names of evaluators and samplers, `path=value`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from pydantic import ValidationError

from service import spec_schema, spec_text
from service.errors import UsageError
from service.mistakes import listed
from service.spec_errors import explain
from service.specs import overrides
from vae_models.config.run import RunConfig
from vae_models.evaluation.specs import EVALUATORS, EvaluationPlan, EvaluatorSpec, chosen
from vae_models.samplers.specs import SAMPLERS


def written(
    changes: Sequence[str] = (),
    *,
    split: str | None = None,
    evaluators: Sequence[str] = (),
    samplers: Sequence[str] = (),
    features: str | None = None,
) -> dict[str, Any]:
    """Return what the options say, as fields of a plan; `read` checks it. Raise UsageError for what cannot be read.

    changes: `path=value` below the plan. evaluators, samplers: a kind, or a mapping in YAML; of a sampler also KIND-N.
    features: a kind, or a mapping in YAML, for each of the evaluators that have such a field.
    """
    problems: list[str] = []
    fields: dict[str, Any] = {}
    for override in overrides.split(changes, problems, example="limit=1000"):
        if override.path[0] not in EvaluationPlan.model_fields:
            problems.append(_unknown(override.written))
            continue
        try:
            value = overrides.value(EvaluationPlan, override.path, override.text, fields)
        except ValueError as error:
            problems.append(overrides.not_a_value(override, error))
            continue
        overrides.put(fields, override.path, value)
    if problems:
        raise UsageError(listed(problems))
    if evaluators:
        fields["evaluators"] = [_part(text) for text in evaluators]
    if features is not None:
        fields["evaluators"] = _measured_on(_part(features), fields.get("evaluators", ()))
    if samplers:
        fields["samplers"] = [_part(text) for text in samplers]
    return fields | ({} if split is None else {"split": split})


def is_of_plan(change: str) -> bool:
    """Return whether `path=value` is of a plan: whether the path begins with one of its fields."""
    return change.partition("=")[0].partition(".")[0].strip() in EvaluationPlan.model_fields


def read(fields: Mapping[str, Any]) -> EvaluationPlan:
    """Return the plan. Raise UsageError with a line for each mistake."""
    plain = named(fields)
    problems = [f"{path}: true and false are not numbers" for path in _truths(plain)]
    try:
        plan = EvaluationPlan.model_validate(plain)
    except ValidationError as error:
        raise UsageError(listed([*problems, *explain(error, EvaluationPlan)])) from None
    if problems:
        raise UsageError(listed(problems))
    return plan


def fitting(plan: EvaluationPlan, config: RunConfig) -> Mapping[str, EvaluatorSpec]:
    """Return what is evaluated, by key. Raise UsageError with a line for each evaluator that does not suit the model or
    its data."""
    try:
        evaluators = chosen(plan, config)
    except ValueError as error:
        raise UsageError(listed(str(error).splitlines())) from None
    if not evaluators:
        raise UsageError(f"no evaluator suits this model: {'; '.join(left_out(config).values())}")
    return evaluators


def left_out(config: RunConfig) -> dict[str, str]:
    """Return why each evaluator is no part of an empty plan for such a model on such data, by its kind."""
    reasons = {}
    for kind, part in EVALUATORS.all().items():
        against = "; ".join(part.model_validate({}).refusals(config))
        asked = "" if part.standard else f"it is asked for: --evaluator {kind}"
        if against or asked:
            reasons[kind] = against or asked
    return reasons


def named(fields: Mapping[str, Any]) -> dict[str, Any]:
    """Return a plan's fields with what was named by its kind alone as a mapping: `evaluators: [likelihood]`."""
    lists = {name: fields[name] for name in ("evaluators", "samplers") if isinstance(fields.get(name), list | tuple)}
    return {**fields, **{name: [_named(part) for part in parts] for name, parts in lists.items()}}


def _named(part: Any) -> Any:
    """Return a part that was named by its kind as a mapping; of a sampler gmm-10 is the kind gmm, with 10 of what it
    counts, as values are named."""
    if not isinstance(part, str):
        return part
    kind, _, number = part.rpartition("-")
    sampler = SAMPLERS.find(kind) if number.isdigit() and SAMPLERS.find(part) is None else None
    counted = [name for name, field in sampler.model_fields.items() if field.annotation is int] if sampler else []
    return {"kind": kind, counted[0]: int(number)} if counted else {"kind": part}


def _part(text: str) -> Any:
    """Return a part as it was named on the command line: as it is, or read where it is a mapping in YAML."""
    return spec_text.parse_value(text) if text.lstrip().startswith("{") else text


def _measured_on(features: Any, evaluators: Sequence[Any]) -> list[Any]:
    """Return the evaluators, those that measure on features with these. Raise UsageError where there are none."""
    given = {"kind": features} if isinstance(features, str) else features
    takers = [kind for kind, part in EVALUATORS.all().items() if "features" in part.model_fields]
    plain = [{"kind": each} if isinstance(each, str) else each for each in evaluators]
    if not any(each.get("kind") in takers for each in plain):
        raise UsageError(f"--features: no evaluator is named that has them: add --evaluator {' or '.join(takers)}")
    return [{**each, "features": given} if each.get("kind") in takers else each for each in plain]


def _unknown(path: str) -> str:
    names = list(EvaluationPlan.model_fields)
    near = spec_schema.nearest(path, names)
    hint = f"; did you mean {near}?" if near else ""
    return f"{path or '(nothing)'}: there is no such path; it starts with one of: {', '.join(names)}{hint}"


def _truths(fields: Mapping[str, Any]) -> list[str]:
    return list(spec_schema.truths_for_numbers(EvaluationPlan, fields))
