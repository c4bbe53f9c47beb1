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
from service.wire import JobView, Table

if TYPE_CHECKING:
    from service.artifacts import Artifacts
    from service.attempt.best import Choice
    from service.queue.jobs import Checkpoint, Job
    from service.specs.given import Given

S = TypeVar("S", bound=JobSpec)

# of a result, what is shown elsewhere or is for machines
ASIDE = frozenset({"metrics", "model", "timings", "notes", "run_id", "pictures", "checkpoint", "checkpoint_step"})


def resolve(
    given: Given, changes: Sequence[str], fields: Mapping[str, Any], note: Callable[[str], None], spec: type[S]
) -> S:
    """Return the spec of a file or a mapping, with `path=value` on top; a path begins with one of the spec's fields."""
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
    """Return the policy of a kind with nothing but what every job has."""
    return Policy()


def config(data: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return the empty configuration: the job is about no training configuration."""
    return {}


def choose(job: Job, result: Mapping[str, Any], checkpoints: Callable[[], Sequence[Checkpoint]]) -> None:
    """Return None: nothing becomes a model."""
    return


def trained(job: Job, artifacts: Artifacts) -> dict[str, Choice]:
    """Return none: a job has the model that `choose` names, or none at all."""
    return {}


def run(assignment: object, spec: OpenSpec) -> dict[str, Any]:
    """Raise UsageError for a job whose kind is installed neither here nor by its own code."""
    from service.kinds import KINDS

    raise UsageError(
        f"there is no job-kind {spec.kind!r} on the cluster{KINDS.hint(spec.kind)}. The job's own code brings one as "
        f"the entry point job-kind.{spec.kind} of the group vaesvc.parts"
    )


def progress(progress: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Return every number and every text of the report, by its name."""
    known = (int, float, str)
    return [(name.replace("_", " "), _cell(value)) for name, value in progress.items() if isinstance(value, known)]


def outcome(result: Mapping[str, Any]) -> list[str]:
    """Return the result as tables, after its metrics."""
    from service.cli.output import aligned
    from service.cli.progress import summary

    lines = summary(result.get("metrics") or {})
    for table in _tables(result):
        lines += [*([table.title] if table.title else []), *aligned(table.header, table.rows)]
    return lines


def view(job: Job, artifacts: Artifacts) -> JobView:
    """Return what the job's attempt left, or has reported so far."""
    return JobView(job=job, tables=_tables(job.result or job.progress), detail=job.result or job.progress)


def _tables(result: Mapping[str, Any]) -> tuple[Table, ...]:
    """Return one table of names and values; a list of mappings is a table of its own."""
    rows: list[tuple[str, str]] = []
    tables: list[Table] = []
    for name, value in result.items():
        if name in ASIDE:
            continue
        if isinstance(value, list) and value and all(isinstance(row, Mapping) for row in value):
            columns = tuple(dict.fromkeys(column for row in value for column in row))
            cells = tuple(tuple(_cell(row.get(column)) for column in columns) for row in value)
            tables.append(Table(title=name, header=tuple(column.upper() for column in columns), rows=cells))
        else:
            rows += [(path, _cell(part)) for path, part in _flat(name, value)]
    return (*([Table(header=("RESULT", "VALUE"), rows=tuple(rows))] if rows else []), *tables)


def _flat(name: str, value: Any) -> list[tuple[str, Any]]:
    if not isinstance(value, Mapping):
        return [(name, value)]
    return [pair for key, part in value.items() for pair in _flat(f"{name}.{key}", part)]


def _cell(value: Any) -> str:
    if value is None:
        return "-"
    if isinstance(value, bool) or not isinstance(value, int | float):
        return ", ".join(map(_cell, value)) if isinstance(value, list) else str(value)
    return f"{value:,}" if isinstance(value, int) else f"{value:,.6g}"
