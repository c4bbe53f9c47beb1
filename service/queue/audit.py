"""The audit log: who did what, on what, when and from where, and whether it was allowed. Append-only.

The API writes a row for every call that changes something and for every one that was refused, before it is answered
(`service.auditing`); commands on the service's machine write theirs beside the change.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import sqlalchemy as sa

from service.queue.acts import Act, ActRecord, allowed
from service.queue.database import Database
from service.queue.gathering import Gathering
from service.queue.rows import Clocked, Transactions, clean, finite
from service.queue.schema import audit
from service.queue.together import Together

_APPEND = sa.insert(audit).inline()  # nobody asks for their numbers
LENGTHS = (("actor", 200), ("token", 64), ("act", 200), ("object", 500), ("origin", 200))


class Audit(Transactions):
    """The log in a database. Each method is one short transaction."""

    def __init__(self, database: Database, together: Together) -> None:
        super().__init__(database)
        self._together = together
        self._gathering = Gathering(self._add_all)

    def add(self, act: Act) -> None:
        """Append an act. Committed when it returns; writers that wait for each other share a transaction."""
        self._gathering.run(act)

    def _add_all(self, acts: Sequence[Act]) -> list[None]:
        self._together.run(lambda work: append_all(work, acts))
        return [None] * len(acts)

    def acts(
        self,
        *,
        actor: str | None = None,
        object: str | None = None,
        refused: bool = False,
        since: float | None = None,
        until: float | None = None,
        before: int | None = None,
        limit: int = 100,
    ) -> list[ActRecord]:
        """Return acts, newest first.

        actor, object: of these only. refused: those that were not allowed. since, until: seconds since 1970. before:
        the id of the last one of the page before.
        """
        query = sa.select(audit).order_by(audit.c.id.desc()).limit(limit)
        for column, wanted in ((audit.c.actor, actor), (audit.c.object, object)):
            if wanted is not None:
                query = query.where(column == clean(wanted))
        if refused:
            query = query.where(audit.c.status.in_((401, 403)))
        if since is not None:
            query = query.where(audit.c.at >= since)
        if until is not None:
            query = query.where(audit.c.at < until)
        if before is not None:
            query = query.where(audit.c.id < before)
        with self._read() as work:
            return [ActRecord(**row, allowed=allowed(row["status"])) for row in work.rows(query)]


def append(work: Clocked, act: Act) -> None:
    """Append an act inside a transaction."""
    append_all(work, [act])


def append_all(work: Clocked, acts: Sequence[Act]) -> None:
    """Append acts inside a transaction, in this order."""
    rows = [row(work, act) for act in acts]
    work.connection.execute(_APPEND, rows if len(rows) > 1 else rows[0])


def row(work: Clocked, act: Act) -> dict[str, Any]:
    """Return the row of an act of this moment."""
    values = act.model_dump(mode="json") | {"at": work.now, "detail": finite(act.detail)}
    for name, length in LENGTHS:
        values[name] = (clean(values[name]) or "")[:length]
    return values
