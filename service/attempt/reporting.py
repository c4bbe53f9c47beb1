"""What an attempt's processes tell MLflow: the first rank all of it, one process of every other machine its load."""

from __future__ import annotations

import contextlib
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from service.attempt.assignment import Assignment, spool_uri_parts
from service.errors import UnavailableError, VaesvcError

if TYPE_CHECKING:
    from service.artifacts import Artifacts
    from service.tracking import RunWriter, SystemMonitor

NODE_SECONDS = 5.0  # to deliver a machine's last samples; what is left is delivered by the dispatcher


@dataclass(frozen=True, kw_only=True)
class Place:
    """The place of a process among the attempt's. node: which machine; alone: whether there is no other machine."""

    node: int = 0
    local_rank: int = 0
    alone: bool = True


HERE = Place()


def open_writer(order: Assignment, spool: Path) -> RunWriter | None:
    """Return a writer to the job's run, opened in the background; None where the service has no MLflow."""
    from service.tracking import RunWriter, open_run

    uri, job, number = order.context.mlflow_uri, order.context.job, order.access.number
    if uri is None:
        return None
    return RunWriter(uri, lambda: open_run(uri, job, number=number), spool)


def join_writer(order: Assignment, spool: Path) -> RunWriter | None:
    """Return a writer to the run that the first rank opens, as soon as it exists; None where there is no MLflow."""
    from service.tracking import RunWriter, find_run

    uri, job = order.context.mlflow_uri, order.context.job
    if uri is None:
        return None

    def join() -> str:
        run_id = find_run(uri, job)
        if run_id is None:
            raise UnavailableError(f"the run of job {job.id} is not open yet")
        return run_id

    return RunWriter(uri, join, spool)


def monitor(order: Assignment, writer: RunWriter | None, place: Place) -> SystemMonitor | None:
    """Write this machine's load to `writer` until the monitor is closed."""
    from service.tracking import SystemMonitor

    if writer is None:
        return None
    node = None if place.alone else place.node
    return SystemMonitor(writer.log_metrics, since=order.context.job.created_at, node=node)


def deliver(order: Assignment, artifacts: Artifacts, writer: RunWriter | None, seconds: float) -> None:
    """Deliver metrics to MLflow; what it does not take in time goes to storage, for the dispatcher to deliver."""
    spool = None if writer is None else writer.close(seconds)
    if spool is not None and spool.is_file():
        name = f"{order.access.number}-{time.time_ns()}.jsonl"
        uri = artifacts.uri(*spool_uri_parts(order.access.job_id), name)
        artifacts.put_bytes(uri, spool.read_bytes(), "application/jsonl")


class NodeReport:
    """The report of the load of a machine on which the first rank is not."""

    def __init__(self, order: Assignment, artifacts: Artifacts, scratch: Path, place: Place) -> None:
        self._order = order
        self._artifacts = artifacts
        self._writer = join_writer(order, scratch / "system.jsonl")
        self._monitor = monitor(order, self._writer, place)

    def close(self) -> None:
        if self._monitor is not None:
            self._monitor.close()
        with contextlib.suppress(VaesvcError):  # a machine's load is not worth an attempt
            deliver(self._order, self._artifacts, self._writer, NODE_SECONDS)
