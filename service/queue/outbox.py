"""What is to be told when a job moves: written into the outbox in the transaction of the move, so that neither is
without the other. `service.queue.notices` hands it to who delivers it.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Mapping
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection, RowMapping

from service.queue.notice import Notice
from service.queue.schema import outbox, subscriptions

_SHOWN = (
    "id", "name", "kind", "owner", "state", "attempt", "failures", "max_attempts", "reason", "created_at",
    "started_at", "ended_at",
)  # fmt: skip
_OF_JOB = subscriptions.c.job_id == sa.bindparam("of_job", type_=subscriptions.c.job_id.type)
_OF_OWNER = sa.and_(subscriptions.c.owner == sa.bindparam("of_owner"), subscriptions.c.job_id.is_(None))
ASKED = sa.select(subscriptions.c.id, subscriptions.c.notices).where(sa.or_(_OF_JOB, _OF_OWNER))


def put(
    connection: Connection, asked: Iterable[RowMapping], now: float, job: Mapping[str, Any], notice: Notice
) -> None:
    """Write what everybody who asked for it is to be told of the job. asked: what `ASKED` finds; job: its row, as it is
    after the move."""
    rows = [row_of(wish["id"], now, job, notice) for wish in asked if notice.value in wish["notices"]]
    if rows:
        connection.execute(sa.insert(outbox), rows)


def row_of(subscription: str, now: float, job: Mapping[str, Any], notice: Notice) -> dict[str, Any]:
    """Return the outbox's row for one subscription. Its id is that of the message, however often it is sent."""
    message = uuid.uuid4().hex
    return {
        "id": message,
        "subscription": subscription,
        "job_id": job["id"],
        "notice": notice.value,
        "body": {
            "type": f"job.{notice.value}",
            "id": message,
            "at": now,  # seconds since 1970, by the database's clock
            "job": {name: job[name] for name in _SHOWN if name in job},
        },
        "created_at": now,
        "next_at": now,
        "tries": 0,
    }
