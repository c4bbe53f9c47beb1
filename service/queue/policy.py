"""What the queue knows of a job beside its gang: made by the job's kind at submission and kept as data.

So the queue never reads a kind's part of a spec, and a job of a kind that is not installed where the queue is can be
kept all the same.
"""

from __future__ import annotations

from pydantic import Field

from service.queue.jobs import Record
from vae_models.measures import Goal

FINISH = "finish"  # the signal: stop trying, and end with what there is


class Retention(Record):
    """Which checkpoints are kept: the last one, and the `keep_best` best of those before it, by `metric`."""

    metric: str = "val/elbo"
    mode: str = "max"
    keep_best: int = Field(default=1, ge=1)

    @property
    def goal(self) -> Goal:
        return Goal.stored(self.metric, self.mode)


class Policy(Record):
    """The default is that of a job of which nothing is known.

    signals:    what it can be told while it runs, such as `FINISH`
    amendments: how its spec may change later, each with what to tell people about it; "{job}" stands for the id
    registers:  whether it ends as a registered model
    data, code: digests of the own data and of the own code that it needs
    """

    retention: Retention = Retention()
    signals: tuple[str, ...] = ()
    amendments: dict[str, str] = Field(default_factory=dict)
    registers: bool = False
    data: tuple[str, ...] = ()
    code: str | None = None

    def hints(self, job_id: str) -> tuple[str, ...]:
        """What can be changed of the job, a phrase each."""
        return tuple(hint.format(job=job_id) for hint in self.amendments.values() if hint)
