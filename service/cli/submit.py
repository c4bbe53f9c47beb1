"""submit."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from service.cli import array as arrays
from service.cli import connect, follow, output, own_data, times
from service.cli.arguments import AsJson, Labels, Overrides, by_name
from service.cli.array import Array, Lines
from service.cli.code import Code, bring, ref
from service.cli.own_data import Data
from service.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from service.client import Client
    from service.specs.job import JobSpec

Sources = Annotated[
    list[str],
    typer.Argument(
        metavar="RECIPE|FILE...",
        help="A recipe's name (`vaesvc recipes`), a search's (`vaesvc searches`) or a YAML/JSON file. Several: jobs "
        "that are queued together, all of them or none.",
        show_default=False,
    ),
]


def submit(
    sources: Sources,
    overrides: Overrides = None,
    workers: Annotated[int | None, typer.Option(help="Processes that train together.", show_default=False)] = None,
    cpus_per_worker: Annotated[float | None, typer.Option(help="CPU cores each.", show_default=False)] = None,
    gpus_per_worker: Annotated[float | None, typer.Option(help="GPUs each.", show_default=False)] = None,
    priority: Annotated[int | None, typer.Option(help="Higher goes first.", show_default=False)] = None,
    name: Annotated[str | None, typer.Option(help="The job's name.", show_default=False)] = None,
    key: Annotated[
        str | None, typer.Option(help="Submitting again with this key gives the same job.", show_default=False)
    ] = None,
    wait: Annotated[bool, typer.Option("--wait", help="Follow it; exit code 1 if it fails.")] = False,
    then: Annotated[
        list[str] | None,
        typer.Option(
            metavar="KIND", help="Submit this when it has succeeded: evaluate; repeatable.", show_default=False
        ),
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Print the resolved spec and end.")] = False,
    notify: Annotated[
        list[str] | None,
        typer.Option(
            metavar="WHERE",
            help="Tell of its end: webhook:https://..., slack:https://..., mail:you@example.org; repeatable.",
            show_default=False,
        ),
    ] = None,
    after: Annotated[
        list[str] | None,
        typer.Option(
            metavar="JOB[:WHEN]",
            help="Start after this job has succeeded, failed or ended (JOB:failed, JOB:ended); repeatable.",
            show_default=False,
        ),
    ] = None,
    start_from: Annotated[
        str | None,
        typer.Option(
            "--from",
            metavar="JOB|MODEL",
            help="Begin with this model's weights: NAME@best, NAME/3, a job.",
            show_default=False,
        ),
    ] = None,
    array: Array = None,
    lines: Lines = None,
    max_time: Annotated[
        str | None, typer.Option(metavar="2h", help="Cancel it when it has run so long in all.", show_default=False)
    ] = None,
    attempt_time: Annotated[
        str | None, typer.Option(metavar="30m", help="End an attempt after so long.", show_default=False)
    ] = None,
    deadline: Annotated[
        str | None, typer.Option(metavar="TIME", help="Cancel it then: 2026-11-30T08:00.", show_default=False)
    ] = None,
    labels: Labels = None,
    notes: Annotated[
        str | None, typer.Option("--note", help="For people, shown with the job.", show_default=False)
    ] = None,
    data: Data = None,
    code: Code = None,
    json: AsJson = False,
) -> None:
    """Put a training job, or a study of many, into the queue and print its id."""
    wheel = bring(code)
    from service import kinds
    from service.kinds import named
    from service.kinds.kind import loaded

    asked = {"workers": workers, "cpus_per_worker": cpus_per_worker, "gpus_per_worker": gpus_per_worker}
    resources = {field: value for field, value in asked.items() if value is not None}
    if len(sources) > 1 and (key is not None or name is not None or wait or notify):
        raise UsageError("--key, --name, --wait and --notify are of one job: submit it alone, or leave them out")
    from service.cli.notify import request  # pydantic, which `--help` needs not

    notices = [request(where) for where in notify or ()]
    if array is not None and (len(sources) > 1 or wait):
        raise UsageError("--array: is of one spec, and is not followed: leave --wait out")
    if lines is not None and array is None:
        raise UsageError("--lines: says what the jobs of an --array change: --array 0-9 --lines FILE")

    limits = _limits(max_time, attempt_time, deadline)

    def resolved(source: str, changes: Sequence[str] | None) -> JobSpec:
        return kinds.resolve(
            source, own_data.changes(data, changes), note=output.note, resources=resources or None,
            priority=priority, name=name, code=ref(wheel), then=then or None, after=after or None,
            labels=by_name(labels), notes=notes, limits=limits,
            **({} if start_from is None else {"start_from": {"of": start_from}}),
        )  # fmt: skip

    # resolved here, so that a mistake is found before anything is sent
    with own_data.of_the_service():
        if array is not None:
            numbers = arrays.read(array)
            changes = arrays.overrides_of(numbers, lines, overrides or ())
            specs = arrays.specs(numbers, lambda index: resolved(sources[0], changes[index]), key)
        else:
            specs = [resolved(source, overrides) for source in sources]
    if dry_run:
        for spec in specs:
            plan = named(spec.kind).plan
            if plan is not None and not json:
                loaded(plan)(spec)
            else:
                print_spec(spec, json)
        return
    with connect.client() as client:
        if wheel is not None:
            client.put_code(wheel)
        if array is not None or len(specs) > 1:
            _submit_all(client, specs, json, key)
            return
        (spec,) = specs
        job = client.submit(spec, key=key, notify=notices)
        if not json:
            output.data(job.id)
        if wait:
            job = follow.wait(client, job.id)
        if json:
            output.as_json(job)
        if wait:
            raise typer.Exit(follow.exit_code(job))
    if not json:
        output.note(f"Submitted. Follow it: vaesvc watch {job.id}")


def _limits(max_time: str | None, attempt_time: str | None, deadline: str | None) -> dict[str, float] | None:
    """Return the limits that were given, in seconds; None for none. Raises UsageError."""
    asked = {
        "max_seconds": max_time and times.seconds(max_time, "--max-time"),
        "attempt_seconds": attempt_time and times.seconds(attempt_time, "--attempt-time"),
        "deadline": deadline and times.moment(deadline, "--deadline"),
    }
    return {name: float(value) for name, value in asked.items() if value} or None


def _submit_all(client: Client, specs: list[JobSpec], json: bool, key: str | None) -> None:
    """Submit jobs together. key: of an array, whose jobs each get one made of it."""
    jobs = client.submit_all(specs, keys=None if key is None else [f"{key}/{spec.name}" for spec in specs])
    if json:
        output.as_json(jobs)
        return
    if (array := jobs[0].array) is not None:
        output.data(array)
        output.note(f"Submitted {len(jobs)} jobs. See them: vaesvc jobs --array {array}")
        return
    for job in jobs:
        output.data(job.id)
    output.note(f"Submitted {len(jobs)} jobs. See them: vaesvc jobs")


def print_spec(spec: JobSpec, json: bool) -> None:
    """Print a resolved spec, as YAML or as JSON."""
    if json:
        output.as_json(spec)
        return
    import yaml

    output.data(yaml.safe_dump(spec.model_dump(mode="json"), sort_keys=False), end="")
