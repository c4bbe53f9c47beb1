"""What a kind of job does where it says nothing else."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

from pydantic import ValidationError

from service import spec_schema
from service.errors import UsageError
from service.mistakes import listed
from service.queue.policy import Policy
from service.spec_errors import explain
from service.specs import overrides
from service.specs.given import plain
from service.specs.job import JobSpec, OpenSpec, refuse_large, with_name

if TYPE_CHECKING:
    from service.queue.jobs import Checkpoint, Job
    from service.specs.given import Given

S = TypeVar("S", bound=JobSpec)


def resolve(
    given: Given, changes: Sequence[str], fields: Mapping[str, Any], note: Callable[[str], None], spec: type[S]
) -> S:
    """The spec of a file or a mapping, with `path=value` on top; a path begins with one of the spec's fields."""
    problems: list[str] = []
    whole = spec_schema.with_kinds(spec, given.fields)
    for override in overrides.split(changes, problems, example="resources.workers=2"):
        if override.path[0] not in spec.model_fields and spec.model_config.get("extra") != "allow":
            near = spec_schema.nearest(override.path[0], list(spec.model_fields))
            hint = f"; did you mean {near}?" if near else ""
            roots = ", ".join(spec.model_fields)
            problems.append(f"{override.written}: there is no such path; it starts with one of: {roots}{hint}")
            continue
        try:
            overrides.put(whole, override.path, overrides.value(spec, override.path, override.text, whole))
        except ValueError as error:
            problems.append(overrides.not_a_value(override, error))
    extra = {name: plain(value) for name, value in fields.items() if value is not None}
    whole = with_name(overrides.merge(whole, extra), given.name or str(whole.get("kind", "unnamed")))
    problems += [f"{path}: true and false are not numbers" for path in spec_schema.truths_for_numbers(spec, whole)]
    try:
        resolved = spec.model_validate(whole)
    except ValidationError as error:
        raise UsageError(listed([*problems, *explain(error, spec)])) from None
    if problems:
        raise UsageError(listed(problems))
    refuse_large(resolved)
    return resolved


def policy(spec: JobSpec) -> Policy:
    """Nothing but what every job has."""
    return Policy()


def config(data: Mapping[str, Any]) -> Mapping[str, Any]:
    """It is about no training configuration."""
    return {}


def choose(job: Job, result: Mapping[str, Any], checkpoints: Callable[[], Sequence[Checkpoint]]) -> None:
    """Nothing becomes a model."""
    return


def run(assignment: object, spec: OpenSpec) -> dict[str, Any]:
    """Refuse a job whose kind is installed neither here nor by its own code."""
    from service.kinds import KINDS

    raise UsageError(
        f"there is no job-kind {spec.kind!r} on the cluster{KINDS.hint(spec.kind)}. The job's own code brings one as "
        f"the entry point job-kind.{spec.kind} of the group vaesvc.parts"
    )
