"""What the queue knows of a job beside its gang: made by the job's kind at submission and kept as data.

So the queue never reads a kind's part of a spec, and a job of a kind that is not installed where the queue is can be
kept all the same.
"""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from service.queue.jobs import Record
from vae_models.measures import Goal, Mode

Signal = Literal["finish"]  # stop trying, and end with what there is
SIGNALS: tuple[Signal, ...] = ("finish",)


class Retention(Record):
    """Which checkpoints are kept: the last one, and the `keep_best` best of those before it, by `metric`."""

    metric: str = Goal().metric
    mode: Mode = Goal().mode
    keep_best: int = Field(default=1, ge=1)

    @property
    def goal(self) -> Goal:
        """Return which value is better. A mode that contradicts the measure's own, of an earlier version, does not
        count."""
        return Goal.stored(self.metric, self.mode)


class Policy(Record):
    """What the queue knows of a job's kind; the default is that of a job of which nothing is known.

    signals:    what can be sent to it while it runs
    amendments: how its spec may change later: the name, and the command for it, in which "{job}" stands for the id
    """

    retention: Retention = Retention()
    signals: tuple[Signal, ...] = ()
    amendments: dict[str, str] = Field(default_factory=dict)

    def __hash__(self) -> int:  # many jobs are of one, which is written down once
        return hash((self.retention, self.signals, frozenset(self.amendments.items())))

    def advice(self, job_id: str) -> str:
        """Return what can be done with a job that is over, as the end of a sentence; empty where nothing can."""
        return "".join(f"; {hint.format(job=job_id)}" for hint in self.amendments.values())
