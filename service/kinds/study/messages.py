"""A study's trials, as the API and the command line tell of them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pydantic import Field

from service.errors import UsageError
from service.kinds import named
from service.kinds.study import KIND
from service.queue.jobs import Job, Record

if TYPE_CHECKING:
    from service.client import Client


class StudyTrial(Record):
    """One line of a study's table. state: done, pruned, failed, running, waiting."""

    number: int
    candidate: int  # trials of one assignment, with different seeds, share it
    seed: int
    origin: int | None = None  # the trial whose last checkpoint it starts from
    assignment: dict[str, Any]
    state: str
    value: float | None = None  # of the stage's metric
    steps: int = 0
    error: str | None = None
    metrics: dict[str, float] = Field(default_factory=dict)  # the last values on the validation split: val/elbo, ...


class StudyCandidate(Record):
    """An assignment with all its seeds. complete: every seed was trained to its end and gave a finite value."""

    number: int
    assignment: dict[str, Any]
    mean: float | None
    standard_error: float | None
    values: tuple[float, ...]
    complete: bool


class StudyStage(Record):
    """A stage of a study. trials and candidates: best first. winner: the candidate's number, None before there is
    one."""

    name: str
    metric: str
    mode: str
    trials: tuple[StudyTrial, ...]
    candidates: tuple[StudyCandidate, ...]
    winner: int | None


class StudyDetail(Record):
    """A study. stages: those that have begun, or could begin."""

    job: Job
    stages: tuple[StudyStage, ...]
    pictures: dict[str, str] = Field(default_factory=dict)  # stage -> presigned address of its curves


def only_a_study(job: Job) -> None:
    """Raise UsageError for another kind of job."""
    if job.kind != KIND.kind:
        raise UsageError(f"job {job.id} is {named(job.kind).called}, not {KIND.called}: vaesvc show {job.id}")


def fetched(client: Client, job_id: str) -> StudyDetail:
    """Return a study from the service. Raises UsageError for another kind of job."""
    view = client.view(job_id)
    only_a_study(view.job)
    return StudyDetail.model_validate({"job": view.job, "stages": view.detail["stages"], "pictures": view.pictures})
