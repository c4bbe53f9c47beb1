"""Everything that a job is made of or stands on is killed in mid-training: it ends as if nothing had been, to the bit.

It is compared with `vaesvc run` of the same spec: another process, no cluster, no interruption.
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING

from tests import real_jobs
from tests.job_processes import gone, is_anything_of_it, is_runner, is_worker, kill
from tests.real_jobs import DIGITS, SLOWLY, STEPS

if TYPE_CHECKING:
    from tests.conftest import Stack

AWAY_SECONDS = 20
CANCEL_SECONDS = 45


def steps(stack: Stack, job_id: str, number: int) -> list[int]:
    """Of the checkpoints that an attempt committed."""
    with real_jobs.client(stack) as client:
        events = client.events(job_id)
    return [event.detail["step"] for event in events if event.kind == "checkpoint" and event.attempt == number]


def newest(stack: Stack, job_id: str, number: int) -> int:
    return max(steps(stack, job_id, number))


def test_a_job_outlives_all_that_it_is_made_of(stack: Stack, uninterrupted: real_jobs.Outcome, tmp_path: Path) -> None:
    """Worker; dispatcher and runner; cancel and retry; the whole Ray head; storage away for 20 seconds. One job loses
    what it did since its last checkpoint, five times, and nothing else."""
    job_id = real_jobs.submit(stack, DIGITS, SLOWLY)
    real_jobs.until_checkpoint(stack, job_id, 1)
    kill(job_id, "worker", is_worker)
    kept = newest(stack, job_id, 1)
    detail = real_jobs.until_checkpoint(stack, job_id, kept + 250)
    assert [attempt.number for attempt in detail.attempts] == [1]  # the gang was started again, not the job

    real_jobs.kill(stack, "dispatcher")
    kill(job_id, "runner", is_runner)
    gone(job_id, is_worker)
    assert real_jobs.until(stack, job_id, lambda _: True, 1, "").job.state == "RUNNING"  # nobody is there to see it
    real_jobs.ran(stack.vaesvc("up", seconds=300))

    real_jobs.until_checkpoint_of(stack, job_id, 2)
    asked = time.monotonic()
    real_jobs.ran(stack.vaesvc("cancel", job_id))
    cancelled = real_jobs.until_over(stack, job_id, "CANCELLED", seconds=CANCEL_SECONDS)
    assert time.monotonic() - asked < CANCEL_SECONDS
    last = max(one.step for one in cancelled.checkpoints)
    gone(job_id, is_anything_of_it)

    real_jobs.ran(stack.vaesvc("retry", job_id))
    real_jobs.until_checkpoint_of(stack, job_id, 3)
    assert real_jobs.kill(stack, "ray") > 5  # as when the machine of the head goes
    assert not real_jobs.until(stack, job_id, lambda _: True, 1, "").job.state.final
    real_jobs.ran(stack.vaesvc("up", seconds=300))

    before = real_jobs.until_checkpoint_of(stack, job_id, 4)
    real_jobs.kill(stack, "s3")
    since, away = time.monotonic(), time.time()
    step = before.job.progress["step"]
    try:
        while time.monotonic() < since + AWAY_SECONDS:
            with real_jobs.client(stack) as client:
                during = client.job(job_id)
            assert during.job.state == "RUNNING"
            time.sleep(1)
    finally:
        real_jobs.ran(stack.vaesvc("up", seconds=300))
    assert during.job.progress["step"] > step  # it trains meanwhile, checkpoints wait

    detail = real_jobs.until_over(stack, job_id)
    ends = [(1, "LOST"), (2, "CANCELLED"), (3, "LOST"), (4, "SUCCEEDED")]  # storage cost no attempt
    assert [(attempt.number, attempt.state) for attempt in detail.attempts] == ends
    assert "Ray says FAILED" in str(detail.attempts[0].error)
    assert detail.attempts[2].error
    assert detail.job.failures == 0  # a head that is gone costs none of the three attempts
    assert detail.job.result["steps"] == STEPS
    assert not [one.step for one in detail.checkpoints if away < one.committed_at < away + AWAY_SECONDS]
    logs = [real_jobs.log(stack, job_id, number) for number in (1, 2, 3, 4)]
    assert "attempt 3 of job" in logs[2]  # what the head's jobs printed is not lost with it, but for its last second
    assert [text.count("going on from step") for text in (logs[0], logs[1], logs[3])] == [1, 1, 1]
    assert min(steps(stack, job_id, 3)) >= last  # again where the cancel came into an evaluation, which is of its step
    assert f"going on from step {newest(stack, job_id, 3)} " in logs[3]
    assert real_jobs.final_outcome(stack, detail, tmp_path / "last") == uninterrupted
    gone(job_id, is_anything_of_it)
