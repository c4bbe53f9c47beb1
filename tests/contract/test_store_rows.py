"""Rows that a transaction has locked or inserted are not read again: what it knows of them is what lies there."""

from __future__ import annotations

import pytest
import sqlalchemy as sa

from service.queue import attempts
from service.queue.rows import Clocked
from service.queue.schema import attempts as attempts_table
from service.queue.schema import jobs
from service.queue.store import Store
from service.queue.submission import Submission, submit
from service.wire import ProgressReport, Pulse
from tests.contract.queue_checks import cluster, finish, spec


def check(work: Clocked, job_id: str) -> None:
    (there,) = work.rows(sa.select(jobs).where(jobs.c.id == job_id))
    assert dict(work.job_row(job_id)) == dict(there)
    for attempt in work.rows(sa.select(attempts_table).where(attempts_table.c.job_id == job_id)):
        known = work.attempt_row(job_id, attempt["number"])
        assert known is not None
        assert dict(known) == dict(attempt)


@pytest.mark.parametrize("key", [None, "k"])
def test_what_a_transaction_knows_of_its_rows_is_what_lies_there(store: Store, key: str | None) -> None:
    store.observe_cluster(cluster(2), address="ray", ok=True)
    with store._write() as work:
        ((job_id, new),) = submit(work, [Submission.of(spec(), "me", key)], store._seen(work))
        assert new
        check(work, job_id)
    assert len(store.admit()) == 1
    with store._write() as work:
        attempts.claim(work, job_id, 1, "runner", 20.0)
        check(work, job_id)
    with store._write() as work:
        progress = {"step": 3, "metrics": {"loss": float("nan"), "parts": (1.5, 2.0)}}
        report = ProgressReport(progress=progress, run_id="r", pulse=Pulse(idle_seconds=1.0))
        attempts.progress(work, job_id, 1, report, 20.0)
        check(work, job_id)
    with store._write() as work:
        attempts.finish(work, job_id, 1, finish("failed", error="lost its way", retryable=True))
        check(work, job_id)
    assert store.job(job_id).failures == 1
