"""watch, logs, and the waiting of `submit --wait`. Ctrl-C detaches: the job goes on."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated

import typer

from service.cli import connect, output, progress
from service.cli.arguments import AsJson, JobId

if TYPE_CHECKING:
    from rich.table import Table

    from service.client import Client
    from service.queue.jobs import Job

POLL_SECONDS = 1.0
LINE_SECONDS = 5.0  # between two plain lines of a job that only moves on
PATIENCE_SECONDS = 120.0  # an API that is away this long has not just been restarted


def watch(job_id: JobId, json: AsJson = False) -> None:
    """Follow a job until it ends: step, epoch, ELBO, rate, distortion, images/s, time left.

    With --json, a line of JSON on stdout for every change.
    """
    with connect.client() as client, _detaching(job_id):
        job = until_final(client, job_id, show=output.as_json_line if json else None)
    if not json:
        for line in progress.outcome(job):
            output.data(line)
    raise typer.Exit(exit_code(job))


def exit_code(job: Job) -> int:
    from service.queue.jobs import JobState

    return 0 if job.state is JobState.SUCCEEDED else 1


def wait(client: Client, job_id: str) -> Job:
    """Show progress on stderr until the job ends, then its metrics; return the job. For `submit --wait`."""
    job = ended(client, job_id)
    for line in progress.outcome(job):
        output.note(line)
    return job


def ended(client: Client, job_id: str) -> Job:
    """Show progress on stderr until the job ends; return it. Ctrl-C detaches."""
    with _detaching(job_id):
        return until_final(client, job_id)


@contextmanager
def _detaching(job_id: str) -> Iterator[None]:
    try:
        yield
    except KeyboardInterrupt:
        output.note(
            f"\nDetached: job {job_id} goes on. Look again: vaesvc watch {job_id}   End it: vaesvc cancel {job_id}"
        )
        raise typer.Exit(output.INTERRUPTED) from None


def until_final(client: Client, job_id: str, *, show: Callable[[Job], None] | None = None) -> Job:
    """Return the job once it is final. `show` gets every change; by default they go to stderr."""
    with _display() if show is None else _shown(show) as changed, client.patience(PATIENCE_SECONDS):
        last: Job | None = None
        while True:
            job = client.job(job_id).job
            if job != last:
                changed(job)
            if job.state.final:
                return job
            last = job
            time.sleep(POLL_SECONDS)


@contextmanager
def _shown(show: Callable[[Job], None]) -> Iterator[Callable[[Job], None]]:
    yield show


@contextmanager
def _display() -> Iterator[Callable[[Job], None]]:
    if not sys.stderr.isatty():
        yield _plain_lines()
        return
    from rich.console import Console
    from rich.live import Live

    last: Job | None = None

    def show(job: Job) -> None:
        nonlocal last
        last = job
        live.update(_panel(job))

    with Live(console=Console(stderr=True), refresh_per_second=4, transient=True) as live:
        yield show
    if last is not None:  # what stays on the screen is one line
        output.note(f"{last.id}  {progress.state(last)}")


def _panel(job: Job) -> Table:
    from rich.table import Table
    from rich.text import Text

    grid = Table(title=Text(f"{job.id} {job.name}  {progress.state(job)}"), show_header=False, title_justify="left")
    for label, value in progress.pieces(job.kind, job.progress) if job.progress else ():
        grid.add_row(Text(label), Text(value, justify="right"))
    return grid


def _plain_lines() -> Callable[[Job], None]:
    """Return a printer of a line for every change of state, and every few seconds while only the numbers move."""
    shown_state, shown_at = "", 0.0

    def show(job: Job) -> None:
        nonlocal shown_state, shown_at
        state = progress.state(job)
        if state == shown_state and time.monotonic() - shown_at < LINE_SECONDS:
            return
        shown_state, shown_at = state, time.monotonic()
        output.note(f"{job.id}  {state}" + (f"  {progress.line(job.kind, job.progress)}" if job.progress else ""))

    return show


def logs(
    job_id: JobId,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on until the job ends.")] = False,
    attempt: Annotated[int | None, typer.Option("--attempt", min=1, help="Which one; default the newest.")] = None,
) -> None:
    """Print an attempt's log; it is kept in S3, so it is there after the cluster is gone."""
    with connect.client() as client, _detaching(job_id):
        if follow:
            _follow_logs(client, job_id, attempt)
        elif _drain(client, job_id, attempt, 0)[1] == 0:
            output.note(f"Job {job_id} has no log yet: {progress.state(client.job(job_id).job)}")


def _drain(client: Client, job_id: str, number: int | None, offset: int) -> tuple[int, int, bool]:
    """Print all there is from `offset`; return (number, new offset, whether nothing will be added)."""
    while True:
        chunk = client.logs(job_id, attempt=number, offset=offset)
        output.data(chunk.text, end="")
        if chunk.complete or chunk.offset == offset:
            return chunk.attempt, chunk.offset, chunk.complete
        number, offset = chunk.attempt, chunk.offset


def _follow_logs(client: Client, job_id: str, attempt: int | None) -> None:
    number, offset = attempt, 0
    with client.patience(PATIENCE_SECONDS):
        while True:
            job = client.job(job_id).job  # before the log: nothing is added to it after the job is final
            seen, offset, complete = _drain(client, job_id, number, offset)
            number = seen or number
            if complete and attempt is None and job.attempt > seen:
                number, offset = seen + 1, 0
                output.note(f"--- attempt {number} ---")
                continue
            if complete and (attempt is not None or job.state.final):
                return
            time.sleep(POLL_SECONDS)
