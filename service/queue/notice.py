"""What is told of jobs, and where to: the records."""

from __future__ import annotations

from enum import StrEnum
from typing import Any

from service.queue.jobs import JobState, Record, Trigger


class Channel(StrEnum):
    WEBHOOK = "webhook"  # a signed POST: standardwebhooks.com
    SLACK = "slack"  # an incoming webhook of Slack's, or of who takes the same messages
    MAIL = "mail"


class Notice(StrEnum):
    STARTED = "started"  # an attempt runs
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELLED = "cancelled"
    RETRYING = "retrying"  # an attempt failed or was lost, and the job is in the line again
    PREEMPTED = "preempted"  # an attempt made room, and the job is in the line again
    WAITING = "waiting"  # it has been in the line for long


ENDS = (Notice.SUCCEEDED, Notice.FAILED, Notice.CANCELLED)


def notice_of(before: JobState, trigger: Trigger, after: JobState) -> Notice | None:
    """Return what is told of a move; None: nothing."""
    if trigger is Trigger.CLAIM:
        return Notice.STARTED
    if trigger is Trigger.REQUEUE and after is JobState.QUEUED:
        return Notice.RETRYING
    if trigger is Trigger.PREEMPT and after is JobState.QUEUED:
        return Notice.PREEMPTED
    if after.final and before is not after:
        return Notice(after.value.lower())
    return None


class Target(Record):
    """Where to, and what of."""

    channel: Channel
    address: str
    notices: tuple[Notice, ...]


class Subscription(Target):
    """A wish to be told. pending: messages that are still to be delivered; error: of the last one that was not."""

    id: str
    owner: str
    job_id: str | None = None  # none: all of the owner's jobs
    created_at: float
    pending: int = 0
    given_up: int = 0
    error: str | None = None


class Message(Record):
    """A message that somebody has claimed for delivery."""

    id: str
    subscription: str
    channel: Channel
    address: str
    notice: str
    body: dict[str, Any]
    tries: int
    created_at: float
