"""hold, release, reprioritize, clone, diff: a job's place in the line, and jobs made of others."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Annotated, Any

import typer

from service.cli import connect, output, own_data
from service.cli.arguments import AsJson, JobId, Overrides
from service.cli.array import expanded

if TYPE_CHECKING:
    from service.client import Client
    from service.queue.jobs import Job

GOING = ("HELD", "QUEUED", "STARTING", "RUNNING", "CANCELLING")
Jobs = Annotated[list[str], typer.Argument(metavar="JOB...", show_default=False)]


def hold(job_ids: Jobs) -> None:
    """Keep waiting jobs, and those of arrays, out of the line until they are released."""
    _each(job_ids, lambda client, job_id: client.order.hold(job_id), ("QUEUED", "HELD"))


def release(job_ids: Jobs) -> None:
    """Let held jobs, and those of arrays, into the line, each at the place of its age."""
    _each(job_ids, lambda client, job_id: client.order.release(job_id), ("HELD",))


def reprioritize(
    job_id: JobId,
    priority: Annotated[int, typer.Argument(metavar="N", min=-1000, max=1000, help="Higher goes first.")],
) -> None:
    """Give a job, or each of an array, another priority. Above 0 is an administrator's alone; a negative one needs
    `--` before it."""
    _each([job_id], lambda client, job_id: client.order.reprioritize(job_id, priority), GOING)


def _each(job_ids: list[str], call: Callable[[Client, str], Job], states: tuple[str, ...]) -> None:
    """Make the call of each job, and of each of an array's that is in one of these states."""
    with connect.client() as client:
        for job_id in expanded(client, job_ids, lambda job: job.state.value in states):
            job = call(client, job_id)
            output.data(f"{job.id}  {job.state.value}")


def clone(
    job_id: JobId,
    overrides: Overrides = None,
    name: Annotated[str | None, typer.Option(help="The new job's name.", show_default=False)] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Print the resolved spec and end.")] = False,
    json: AsJson = False,
) -> None:
    """Submit a job's spec again as a new job, with changes, and print its id."""
    from service import kinds
    from service.cli.submit import print_spec

    with connect.client() as client:
        job = client.job(job_id).job
        with own_data.of_the_service():
            spec = kinds.resolve(job.spec, overrides or (), note=output.note, name=name)
        if dry_run:
            print_spec(spec, json)
            return
        made = client.submit(spec)
    if json:
        output.as_json(made)
        return
    output.data(made.id)
    output.note(f"Submitted. Follow it: vaesvc watch {made.id}")


def diff(
    job_id: JobId,
    other_id: Annotated[str, typer.Argument(metavar="JOB", help="The other one's id.", show_default=False)],
    json: AsJson = False,
) -> None:
    """Show where the specs of two jobs differ, and the metrics that both ended with."""
    with connect.client() as client:
        jobs = [client.job(each).job for each in (job_id, other_id)]
    specs, metrics = ([dict(_flat(part)) for part in parts] for parts in (map(_spec, jobs), map(_metrics, jobs)))
    differences = {path: [spec.get(path) for spec in specs] for path in _paths(specs) if _differ(path, specs)}
    measured = {path: [each.get(path) for each in metrics] for path in _paths(metrics)}
    if json:
        output.as_json({"jobs": [job.id for job in jobs], "spec": differences, "metrics": measured})
        return
    header = ("PATH", *(job.id for job in jobs))
    if not differences:
        output.note("The specs are the same.")
    for table in (differences, measured):
        if table:
            output.table(header, [(path, *map(_cell, values)) for path, values in table.items()])


def _spec(job: Job) -> Mapping[str, Any]:
    """Return the spec, with the priority that the job has now."""
    return {**job.spec, "priority": job.priority}


def _metrics(job: Job) -> Mapping[str, Any]:
    metrics: Mapping[str, Any] = job.result.get("metrics") or {}
    return metrics


def _flat(value: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    """Yield every number and text of nested mappings and lists, with its path."""
    if isinstance(value, Mapping | list) and value:
        named = value.items() if isinstance(value, Mapping) else enumerate(value)
        for name, part in named:
            yield from _flat(part, f"{path}.{name}" if path else str(name))
    else:
        yield path, value


def _paths(parts: list[dict[str, Any]]) -> list[str]:
    return list(dict.fromkeys(path for part in parts for path in part))


def _differ(path: str, parts: list[dict[str, Any]]) -> bool:
    ours, theirs = (part.get(path, parts) for part in parts)  # what is nowhere is not what is null
    return bool(ours != theirs)


def _cell(value: Any) -> str:
    if value is None:
        return "-"
    return f"{value:.6g}" if isinstance(value, float) else str(value)
