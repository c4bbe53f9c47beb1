"""An ended job is given more to do, through the queue and a cluster: what it ends as is what a longer run ends as."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from tests import real_jobs
from tests.real_jobs import DIGITS

if TYPE_CHECKING:
    from tests.conftest import Stack

SETTINGS = ("schedule.kind=constant", "evaluation.pictures=false", "log_every_steps=10", "register_as=longer")


def test_fault_13a_retry_with_more_steps_is_a_longer_run(stack: Stack, tmp_path: Path) -> None:
    job_id = real_jobs.submit(stack, DIGITS, (*SETTINGS, "steps=30"))
    short = real_jobs.until_over(stack, job_id)
    assert short.job.result["steps"] == 30
    waits = real_jobs.one_waits(stack)
    offered = stack.vaesvc("retry", job_id)
    assert offered.returncode == 2
    assert f"vaesvc retry {job_id} --set epochs=N" in offered.stderr
    real_jobs.ran(stack.vaesvc("retry", job_id, "--set", "steps=60"))
    longer = real_jobs.until_over(stack, job_id)
    assert (longer.job.result["steps"], [one.number for one in longer.attempts]) == (60, [1, 2])
    log = real_jobs.log(stack, job_id, 2)
    assert "going on from step 30 " in log
    assert "which waited ready" in log or not waits  # the process that was started when the first attempt ended
    assert "joined and begins to work" in log  # where the seconds went
    sums, _ = real_jobs.final_outcome(stack, longer, tmp_path / "longer")
    whole, _ = real_jobs.local_outcome(stack, DIGITS, (*SETTINGS, "steps=60"), tmp_path / "whole")
    assert sums == whole
    with real_jobs.client(stack) as client:
        (version,) = [one for one in client.models() if one.name == "longer"]
    assert version.job_id == job_id
    assert longer.job.result["model"]["value"] == version.value
