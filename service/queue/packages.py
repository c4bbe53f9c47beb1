"""Which packages of users' own code the jobs in SQL need. Called by the store."""

from __future__ import annotations

import sqlalchemy as sa

from service.queue.rows import Clocked
from service.queue.schema import jobs


def needed(work: Clocked, digest: str, ended_after: float) -> bool:
    """Return whether a job needs the package: one that is not over, or has been over since then, may be tried again."""
    # a digest is 64 hexadecimal digits: nothing else in a spec is the same ones
    names_it = sa.type_coerce(jobs.c.spec, sa.Text).like(f"%{digest}%")
    open_or_recent = sa.or_(jobs.c.ended_at.is_(None), jobs.c.ended_at > ended_after)
    query = sa.select(jobs.c.id).where(names_it, open_or_recent).limit(1)
    return work.connection.execute(query).first() is not None
