"""What a study has come to, for the API."""

from __future__ import annotations

from typing import Any

from service.artifacts import Artifacts
from service.kinds.study import tables
from service.kinds.study.messages import StudyStage
from service.kinds.study.spec import StudySpec
from service.kinds.study.stage_ends import read
from service.kinds.study.stages import view as stage_view
from service.queue.jobs import Job
from service.wire import JobView
from vae_models.measures import STORED


def view(job: Job, artifacts: Artifacts) -> JobView:
    """Return a table for each stage, and all of it for programs: {"stages": [`StudyStage`, ...]}.

    As far as it has come: what has ended from storage, the rest from the running attempt's report.
    """
    rows = stages(job, artifacts)
    detail: dict[str, Any] = {"stages": [stage.model_dump(mode="json") for stage in rows]}
    return JobView(job=job, tables=tuple(tables.of(stage) for stage in rows), detail=detail)


def stages(job: Job, artifacts: Artifacts) -> tuple[StudyStage, ...]:
    """Return the stages that have begun, or could begin."""
    ends = read(StudySpec.model_validate(job.spec, context=STORED), artifacts, job.id)
    report = job.progress if not job.state.final else {}
    running = {int(number): int(steps) for number, steps in report.get("steps", {}).items()}
    return tuple(
        stage_view(
            end.stage, end.trials, end.outcomes, end.ranked, end.winner,
            running if report.get("stage") == end.stage.name else {},
        )
        for end in ends
    )  # fmt: skip
