"""What somebody has used of the cluster: the record."""

from __future__ import annotations

from typing import Literal

from service.queue.jobs import Record

By = Literal["user", "group", "label"]


class Used(Record):
    """What the attempts of the jobs of a user, a group or a label have held.

    name: the user; the group, or nothing for users who are in none; `NAME=VALUE`, or nothing for jobs without labels. A
    job with several labels counts under each.
    """

    name: str
    jobs: int
    attempts: int
    gpu_seconds: float
    cpu_seconds: float
