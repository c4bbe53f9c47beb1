"""What the audit log holds: the records."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from pydantic import Field

from service.queue.jobs import Record


class Act(Record):
    """What somebody did or wanted to do."""

    actor: str = ""  # the user's name; empty: nobody who is known
    token: str = ""  # the label of the user's token; empty: none
    act: str  # the call: its method and its path's template; a command on the service's machine
    object: str = ""  # the job, name or user that it was about
    origin: str = ""  # the address that it came from
    status: int  # the answer, as HTTP's status
    detail: dict[str, Any] = Field(default_factory=dict)

    def about(self, ids: Sequence[str]) -> Act:
        """Return the same act, about these jobs."""
        return self.model_copy(update={"object": " ".join(ids)})


class ActRecord(Act):
    """An act as it is kept."""

    id: int
    at: float  # seconds since 1970, by the database's clock
    allowed: bool


def allowed(status: int) -> bool:
    """Return whether an answer of this status was no refusal; an act that failed otherwise was allowed."""
    return status not in (401, 403)
