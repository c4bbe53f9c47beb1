"""Messages of the calls about order."""

from __future__ import annotations

from pydantic import Field

from service.queue.jobs import Record


class Reprioritize(Record):
    """priority: of the job from now on; above 0 an administrator's alone."""

    priority: int = Field(ge=-1000, le=1000)
