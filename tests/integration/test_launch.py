"""Attempts on a real Ray cluster that are killed, cancelled and go wrong. The rest of the cluster's deaths are in
tests/acceptance/test_kill.py, which this file completes: there the head and the storage, here what one job is made of.
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import psutil

from service.launch.assignment import JOB_ID
from service.wire import JobDetail
from tests import real_jobs
from tests.real_jobs import DIGITS, SLOWLY
from tests.servers import wait_for

if TYPE_CHECKING:
    from tests.conftest import Stack

CANCEL_SECONDS = 45


def processes(job_id: str, matches: Callable[[str], bool]) -> list[psutil.Process]:
    """Of this job, by command line. Ray hands a job's environment to all its processes."""
    found = []
    for process in psutil.process_iter():
        try:
            command = " ".join(process.cmdline()).strip()
            if matches(command) and process.environ().get(JOB_ID) == job_id:
                found.append(process)
        except psutil.Error:
            continue
    return found


def kill(job_id: str, what: str, matches: Callable[[str], bool]) -> None:
    found = processes(job_id, matches)
    assert found, f"the job has no {what}"
    for process in found:
        os.kill(process.pid, signal.SIGKILL)


def is_worker(command: str) -> bool:
    return command.startswith("ray::RayTrainWorker")


def is_runner(command: str) -> bool:
    return command.endswith("-m service.runner") and not command.startswith("/bin/sh")


def is_anything_of_it(command: str) -> bool:
    """But Ray's idle processes, and the one helper that a cluster makes once and keeps."""
    kept = ("ray::IDLE", "ray::_AutoscalingCoordinatorActor")
    ours = "service.runner" in command or "service.launch.driver" in command
    return ours or (command.startswith("ray::") and not command.startswith(kept))


def test_worker_dispatcher_and_runner_are_killed_and_it_is_cancelled(
    stack: Stack, uninterrupted: real_jobs.Outcome, tmp_path: Path
) -> None:
    """One after the other, in one job: it loses what it did since its last checkpoint, and nothing else."""
    job_id = real_jobs.submit(stack, DIGITS, SLOWLY)
    real_jobs.until_checkpoint(stack, job_id, 250)
    kill(job_id, "worker", is_worker)
    detail = real_jobs.until_checkpoint(stack, job_id, 1000)
    assert [attempt.epoch for attempt in detail.attempts] == [1]  # Ray Train started it again, not the queue

    real_jobs.kill(stack, "dispatcher")
    kill(job_id, "runner", is_runner)
    gone(job_id, is_worker)
    assert real_jobs.until(stack, job_id, lambda _: True, 1, "").job.state == "RUNNING"  # nobody is there to see it
    real_jobs.ran(stack.vaesvc("up", seconds=300))

    def trained(detail: JobDetail) -> bool:
        return any(one.epoch == 2 for one in detail.checkpoints)

    real_jobs.until(stack, job_id, trained, 200, "the second attempt does not train")
    asked = time.monotonic()
    real_jobs.ran(stack.vaesvc("cancel", job_id))
    cancelled = real_jobs.until_over(stack, job_id, "CANCELLED", seconds=CANCEL_SECONDS)
    seconds = time.monotonic() - asked
    assert seconds < CANCEL_SECONDS
    assert cancelled.attempts[1].state == "CANCELLED"
    kept = max(one.step for one in cancelled.checkpoints)
    gone(job_id, is_anything_of_it)

    real_jobs.ran(stack.vaesvc("retry", job_id))
    detail = real_jobs.until_over(stack, job_id)
    ends = [(1, "LOST"), (2, "CANCELLED"), (3, "SUCCEEDED")]
    assert [(attempt.epoch, attempt.state) for attempt in detail.attempts] == ends
    assert "Ray says FAILED" in str(detail.attempts[0].error)
    assert "going on from step" in real_jobs.log(stack, job_id, 1)
    assert "going on from step" in real_jobs.log(stack, job_id, 2)
    assert f"going on from step {kept} " in real_jobs.log(stack, job_id, 3)
    assert real_jobs.final_outcome(stack, detail, tmp_path / "last") == uninterrupted
    gone(job_id, is_anything_of_it)


def gone(job_id: str, matches: Callable[[str], bool]) -> None:
    every = real_jobs.LOOK_SECONDS
    wait_for(lambda: not processes(job_id, matches), CANCEL_SECONDS, "something of the job lives on", every=every)


def test_a_loss_that_is_not_finite_fails_the_job_at_once_and_in_one_line(stack: Stack) -> None:
    """Starting again would end in the same way: neither Ray Train nor the queue tries."""
    overrides = ("steps=200", "optimizer.lr=1e30", "optimizer.clip_norm=null", "schedule.warmup_epochs=0")
    job_id = real_jobs.submit(stack, DIGITS, overrides, "--workers", "2")
    detail = real_jobs.until_over(stack, job_id, "FAILED")
    assert len(detail.attempts) == 1
    reason = str(detail.job.reason)
    assert "at step" in reason
    assert "optimizer.lr" in reason
    assert "Traceback" not in reason
    assert len(reason.splitlines()) == 1
    assert "going on from" not in real_jobs.log(stack, job_id)
    wait_for(
        lambda: _closed(stack, job_id) == "FAILED", 60, "its MLflow run is not closed", every=real_jobs.LOOK_SECONDS
    )


def _closed(stack: Stack, job_id: str) -> str:
    from mlflow import MlflowClient

    uri = stack.settings().mlflow_uri
    assert uri is not None
    with real_jobs.client(stack) as client:
        detail: JobDetail = client.job(job_id)
    if detail.job.run_id is None:
        return "not opened yet"
    return str(MlflowClient(tracking_uri=uri).get_run(detail.job.run_id).info.status)
