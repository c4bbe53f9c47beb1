"""On the real stack: a job of a higher priority takes the place of one that runs, which goes on as if nothing were."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from service.stack.ray_head import cpus
from tests import real_jobs
from tests.real_jobs import DIGITS, SLOWLY, STEPS

if TYPE_CHECKING:
    from tests.conftest import Stack

MORE = ("--priority", "7", "--workers", str(cpus() + 2))
SHORTLY = ("steps=20", "evaluation.every_epochs=100")


def test_a_preempted_job_goes_on_to_the_bit(stack: Stack, uninterrupted: real_jobs.Outcome, tmp_path: Path) -> None:
    """The higher one needs the whole machine, and would take more: its gang is elastic. Both are one user's, who may
    set priorities."""
    low = real_jobs.submit(stack, DIGITS, SLOWLY)
    before = real_jobs.until_checkpoint(stack, low, 1)
    high = real_jobs.submit(stack, DIGITS, (*SHORTLY, f"resources.min_workers={cpus()}"), *MORE)
    above = real_jobs.until_over(stack, high)
    assert [each.state for each in above.attempts] == ["SUCCEEDED"]
    detail = real_jobs.until_over(stack, low)
    assert [(each.number, each.state) for each in detail.attempts] == [(1, "REQUEUED"), (2, "SUCCEEDED")]
    assert detail.attempts[0].error == f"makes room for {high}, of priority 7"
    assert (detail.job.failures, detail.job.outages, detail.job.result["steps"]) == (0, 0, STEPS)
    with real_jobs.client(stack) as client:
        asked, preempted = (e for e in client.events(low) if e.kind in ("stop_asked", "preempted"))
        (admitted,) = (e for e in client.events(high) if e.kind == "admitted")
    assert len(admitted.detail["nodes"]) == cpus()  # its workers
    assert asked.detail["to_job"] == preempted.detail["to_job"] == high
    assert asked.at <= preempted.at <= admitted.at
    left = [each.step for each in detail.checkpoints if each.attempt == 1]
    steps = real_jobs.log(stack, low, 2).partition("going on from step ")[2].partition(" ")[0]
    assert int(steps) > max(each.step for each in before.checkpoints)  # one more checkpoint, when it was asked
    assert not left or int(steps) >= max(left)
    assert real_jobs.final_outcome(stack, detail, tmp_path / "last") == uninterrupted
