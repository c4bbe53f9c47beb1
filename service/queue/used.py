"""What somebody has used of the cluster: the record."""

from __future__ import annotations

from service.queue.jobs import Record


class Used(Record):
    """What the attempts of one owner have held."""

    name: str
    jobs: int
    attempts: int
    gpu_seconds: float
    cpu_seconds: float
