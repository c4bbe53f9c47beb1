"""jobs, show, cancel, retry."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Annotated, Any

import typer

from service.cli import connect, output, progress
from service.cli.arguments import AsJson, JobId, Labels, by_name
from service.cli.array import expanded
from service.cli.times import moment
from service.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from service import wire
    from service.queue.jobs import Event, Job, JobState


def list_jobs(
    state: Annotated[
        list[str] | None,
        typer.Option("--state", help="Only jobs in this state; may be given several times.", show_default=False),
    ] = None,
    limit: Annotated[int, typer.Option("--limit", min=1, max=1000, help="At most so many.")] = 20,
    before: Annotated[
        str | None, typer.Option("--before", metavar="JOB", help="Those older than this one: the next page.")
    ] = None,
    array: Annotated[
        str | None, typer.Option("--array", metavar="ARRAY", help="Only the jobs of this array, each in its line.")
    ] = None,
    owner: Annotated[str | None, typer.Option("--owner", metavar="USER", help="Only theirs.")] = None,
    labels: Labels = None,
    since: Annotated[
        str | None, typer.Option("--since", metavar="TIME", help="Submitted then or later: 2h, 7d, 2026-11-29T14:00.")
    ] = None,
    until: Annotated[
        str | None, typer.Option("--until", metavar="TIME", help="Submitted before: the same forms.")
    ] = None,
    json: AsJson = False,
) -> None:
    """List jobs, newest first, with their position in the queue, when they are expected to start, and why they wait."""
    states = [_state(name) for name in state] if state else None
    by_name(labels)
    together = array is None and states is None  # an array is one line, unless single jobs are asked for
    first, last = (text and moment(text, option) for text, option in ((since, "--since"), (until, "--until")))
    with connect.client() as client:
        listed = client.jobs(
            states=states, limit=limit, before=before, owner=owner, array=array, together=together, labels=labels,
            since=first or None, until=last or None,
        )  # fmt: skip
    if json:
        output.as_json(listed)
        return
    header = (
        "ID", "NAME", "OWNER", "STATE", "POSITION", "STARTS IN [h:mm:ss]", "PRIORITY", "STEP", "ELBO [nats]",
        "AGE [h:mm:ss]", "REASON",
    )  # fmt: skip
    output.table(header, [_row(job) for job in listed])
    if len(listed) == limit:  # of an array the job that stands for it
        output.note(f"There may be more: vaesvc jobs --before {listed[-1].id}")


def _state(name: str) -> JobState:
    from service.queue.jobs import JobState

    try:
        return JobState(name.upper())
    except ValueError:
        raise UsageError(f"--state {name}: no such state; there are {', '.join(JobState)}") from None


def _row(job: Job) -> tuple[str, ...]:
    metrics = job.result.get("metrics") or job.progress.get("metrics") or {}
    elbo = progress.metric(metrics, "elbo")
    if job.states:
        counts = ", ".join(f"{count} {state}" for state, count in sorted(job.states.items()))
        name = job.name.rpartition("/")[0]
        return (
            str(job.array), name, job.owner, "ARRAY", "-", "-", str(job.priority), "-", "-",
            output.since(job.created_at), counts,
        )  # fmt: skip
    return (
        job.id,
        job.name,
        job.owner,
        job.state.value,
        "-" if job.position is None else str(job.position),
        _starts_in(job) or "-",
        str(job.priority),
        output.whole(job.progress.get("step")),
        output.number(elbo),
        output.since(job.created_at),
        job.reason or "",
    )


def _starts_in(job: Job) -> str:
    """Return between how long and how long from now the job is expected to start; empty where nobody knows."""
    if job.expected_start is None:
        return ""
    early, late = (output.duration(at - time.time()) for at in job.expected_start)
    return early if early == late else f"{early} to {late}"


def show(
    job_id: JobId,
    events: Annotated[bool, typer.Option("--events", help="Also everything that happened to it.")] = False,
    json: AsJson = False,
) -> None:
    """Show a job: its state, progress, attempts and checkpoints."""
    with connect.client() as client:
        detail = client.job(job_id)
        happened = client.events(job_id) if events or detail.job.spec.get("then") else []
    if json:
        plain = detail.model_dump(mode="json")
        output.as_json({**plain, "events": happened} if events else plain)
        return
    _print_job(detail.job)
    _print_next(happened)
    _print_attempts(detail)
    if events:
        _print_events(happened)


def _print_job(job: Job) -> None:
    asked = ", ".join(f"{amount:g} {name}" for name, amount in job.resources.bundle().items())
    ended = job.ended_at or None
    labels = job.spec.get("labels") or {}
    took = None if job.started_at is None or ended is None else ended - job.started_at
    lines = [
        ("id", job.id),
        ("name", job.name),
        ("owner", job.owner),
        ("state", progress.state(job)),
        ("priority", str(job.priority)),
        *([("labels", ", ".join(f"{name}={value}" for name, value in labels.items()))] if labels else ()),
        *([("notes", job.spec["notes"])] if job.spec.get("notes") else ()),
        ("resources", f"{_workers(job)} x ({asked})"),
        ("submitted", output.moment(job.created_at)),
        *([("starts in [h:mm:ss]", f"{starts}, four times of five")] if (starts := _starts_in(job)) else ()),
        ("started", output.moment(job.started_at)),
        ("ended", output.moment(ended)),
        ("took [h:mm:ss]", output.duration(took)),
        ("failures", f"{job.failures} of {job.max_attempts} that are allowed"),
        *([("outages", _outages(job))] if job.outages else ()),
        ("MLflow run", job.run_id or "-"),
        *(progress.pieces(job.kind, job.progress) if job.progress else ()),
    ]
    width = max(len(name) for name, _ in lines)
    for name, value in lines:
        output.data(f"{name.ljust(width)}  {value}")
    if left := progress.outcome(job):
        output.data("")
        for line in left:
            output.data(line)


def _workers(job: Job) -> str:
    """Return how many workers the gang has, or what an elastic one may have."""
    fewest, most = job.resources.fewest, job.resources.workers
    return str(most) if fewest == most else f"{fewest} to {most}"


def _print_next(happened: Sequence[Event]) -> None:
    """Print which jobs followed this one, and which did not."""
    for event in happened:
        if event.kind == "followed":
            output.data(f"then {event.detail['what']}: {event.detail['job']}")
        elif event.kind == "not_followed":
            output.data(f"then {event.detail['what']}: not submitted: {event.detail['reason']}")


def _outages(job: Job) -> str:
    return f"{job.outages} in a row: lost with their machines, without a checkpoint in between; they are no failures"


def _print_attempts(detail: wire.JobDetail) -> None:
    if detail.attempts:
        output.data("")
        rows: list[tuple[str, ...]] = [
            (
                str(row.number),
                row.state.value,
                output.moment(row.started_at),
                output.moment(row.ended_at),
                row.error or "",
            )
            for row in detail.attempts
        ]
        output.table(("ATTEMPT", "STATE", "STARTED", "ENDED", "ERROR"), rows)
    if detail.checkpoints:
        output.data("")
        rows = [
            (
                str(row.step),
                str(row.attempt),
                output.moment(row.committed_at),
                output.number(row.bytes / 2**20),
                output.number(progress.metric(row.metrics, "elbo")),
                "best" if row.best else "",
                row.uri,
            )
            for row in detail.checkpoints
        ]
        output.table(("STEP", "ATTEMPT", "COMMITTED", "SIZE [MiB]", "ELBO [nats]", "BEST", "ADDRESS"), rows)


def _print_events(events: Sequence[Event]) -> None:
    output.data("")
    rows = [
        (
            output.moment(event.at),
            "-" if event.attempt is None else str(event.attempt),
            event.kind,
            ", ".join(f"{name}={value}" for name, value in event.detail.items()),
        )
        for event in events
    ]
    output.table(("AT", "ATTEMPT", "EVENT", "DETAIL"), rows)


def cancel(job_ids: Annotated[list[str], typer.Argument(metavar="JOB...", show_default=False)]) -> None:
    """Cancel jobs, and whole arrays. A running one checkpoints, then stops."""
    with connect.client() as client:
        for job_id in expanded(client, job_ids, lambda job: not job.state.final):
            job = client.cancel(job_id)
            output.data(f"{job.id}  {job.state.value}")


def retry(
    job_ids: Annotated[list[str], typer.Argument(metavar="JOB...", show_default=False)],
    overrides: Annotated[
        list[str] | None,
        typer.Option(
            "--set", metavar="epochs=N|steps=N", help="More in all for a run that is over.", show_default=False
        ),
    ] = None,
) -> None:
    """Queue failed or cancelled jobs again, or ended ones for more epochs; they go on from their last checkpoint.

    Of an array: those of its jobs that failed or were cancelled, or all that are over.
    """
    length = _length(overrides or [])

    def wanted(job: Job) -> bool:
        return job.state.final and (bool(length) or job.state.value != "SUCCEEDED")

    with connect.client() as client:
        for job_id in expanded(client, job_ids, wanted):
            job = client.amend(job_id, "lengthen", **length) if length else client.retry(job_id)
            output.data(f"{job.id}  {job.state.value}")


def _length(overrides: Sequence[str]) -> dict[str, Any]:
    """Return the one thing of a job that may still change: how long it is."""
    length: dict[str, Any] = {}
    for override in overrides:
        name, equals, text = override.partition("=")
        read = {"epochs": float, "steps": int}.get(name.strip())
        if read is None or not equals:
            raise UsageError(
                f"--set {override}: only epochs or steps of a job can change, for example epochs=4; anything else is "
                "another job: vaesvc submit"
            )
        try:
            length[name.strip()] = read(text)
        except ValueError:
            raise UsageError(f"--set {override}: {text!r} is not a number of {name.strip()}") from None
    return length
