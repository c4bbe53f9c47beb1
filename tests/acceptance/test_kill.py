"""What holds the cluster or the checkpoints is killed in mid-training: the job ends as if nothing had been, to the bit.

Every run is compared with `vaesvc run` of the same spec: another process, no cluster, no interruption.
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING

from tests import real_jobs
from tests.real_jobs import DIGITS, SLOWLY, STEPS

if TYPE_CHECKING:
    from tests.conftest import Stack

AWAY_SECONDS = 20


def test_the_whole_ray_head_and_then_the_s3_server_are_killed(
    stack: Stack, uninterrupted: real_jobs.Outcome, tmp_path: Path
) -> None:
    """Worker, controller, driver, runner and all that is Ray's, as when the machine of the head goes; in the next
    attempt storage is away for 20 seconds: training goes on meanwhile, checkpoints wait."""
    job_id = real_jobs.submit(stack, DIGITS, SLOWLY)
    before = real_jobs.until_checkpoint(stack, job_id, 500)
    assert real_jobs.kill(stack, "ray") > 5
    assert not before.job.state.final
    real_jobs.ran(stack.vaesvc("up", seconds=300))
    kept = _newest(stack, job_id, 1)

    before = real_jobs.until_checkpoint(stack, job_id, kept + 250)
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
    assert during.job.progress["step"] > step

    detail = real_jobs.until_over(stack, job_id)
    first, second = detail.attempts
    assert first.state == "LOST"
    assert first.error
    assert second.state == "SUCCEEDED"  # storage cost no attempt
    assert detail.job.result["steps"] == STEPS
    assert not [one.step for one in detail.checkpoints if away < one.committed_at < away + AWAY_SECONDS]
    assert real_jobs.log(stack, job_id, 2).count("going on from step") == 1
    assert f"going on from step {kept} " in real_jobs.log(stack, job_id)
    assert "attempt 1 of job" in real_jobs.log(stack, job_id, 1)  # what the head's jobs printed is not lost with it
    assert real_jobs.final_outcome(stack, detail, tmp_path / "last") == uninterrupted


def _newest(stack: Stack, job_id: str, epoch: int) -> int:
    """The step of the last checkpoint that an attempt committed."""
    with real_jobs.client(stack) as client:
        events = client.events(job_id)
    return max(event.detail["step"] for event in events if event.kind == "checkpoint" and event.epoch == epoch)
