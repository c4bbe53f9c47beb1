"""What the queue is told of a study, and how one may change after it was submitted: it may have more trials."""

from __future__ import annotations

from pydantic import Field

from service.kinds.study.spec import StudySpec, extended
from service.queue.jobs import Record
from service.queue.policy import Policy

EXTEND = "for more trials: vaesvc study extend {job} --trials N"


class Extend(Record):
    """How many assignments a study shall have. The same again changes nothing."""

    trials: int = Field(ge=1, le=10_000, description="assignments of the stage in all, those it has included")
    stage: str | None = Field(
        default=None, max_length=40, description="which stage; default: the last that draws at random"
    )


def policy(spec: StudySpec) -> Policy:
    """Return the policy: it may end early with what it has found out, and keeps its trials' checkpoints itself."""
    return Policy(signals=("finish",), amendments={"extend": EXTEND})


def extend(spec: StudySpec, request: Extend) -> StudySpec:
    """Return it with so many assignments. Raises UsageError if no stage draws at random, or not the one that was
    named."""
    return extended(spec, request.trials, request.stage)
