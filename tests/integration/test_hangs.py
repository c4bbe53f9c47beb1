"""A worker that is stopped (SIGSTOP) in mid-training, and with it a collective that never returns: the attempt is
found to hang, says where, keeps its checkpoint, and another one goes on from it.

Real: the API, the S3 server, the runner, two workers that train over gloo, and what they report. Stood in for: Ray.
"""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from service import auth
from service.artifacts import Artifacts
from service.dispatch.dispatcher import attempt_access
from service.kinds.train import spec
from service.queue.jobs import AttemptState, JobState
from tests.api_server import Api, running_api, s3_under, settings_in
from tests.servers import wait_for

HANG_SECONDS = 20.0  # a busy machine's longest pause is shorter; waiting costs no processor
OVERRIDES = ["steps=1000000", "checkpoint.every_steps=20", "evaluation.every_epochs=1000"]
MAIN = """
import sys
from service.attempt.assignment import access_from_environment
from service.attempt.runner import Runner
sys.exit(Runner(access_from_environment(), driver=[sys.executable, sys.argv[1]]).run())
"""
DRIVER = """
import multiprocessing, sys
from pathlib import Path
from service.attempt import assignment as a
from service.attempt.processes import die_with_parent

def work(rank, order):
    import torch
    from service.attempt.run_context import RunProcess
    from service.attempt.stacks import tell_when_asked
    from service.kinds.train.spec import TrainSpec
    from vae_models.training.loop import train
    tell_when_asked()
    torch.set_num_threads(1)
    meeting = f"file://{order.scratch}/meeting"
    torch.distributed.init_process_group("gloo", init_method=meeting, rank=rank, world_size=2)
    spec = TrainSpec.model_validate(order.context.job.spec)
    goal, scratch = spec.train.checkpoint.goal, Path(order.scratch) / "workers"
    process = RunProcess(
        order, rank=rank, world_size=2, device=torch.device("cpu"), scratch=scratch, goal=goal
    )
    print(f"worker{rank}", __import__("os").getpid(), flush=True)
    train(spec.train, process.context)

if __name__ == "__main__":
    die_with_parent(int(sys.argv[1]))
    order = a.Assignment.model_validate_json(sys.stdin.buffer.read())
    workers = [multiprocessing.get_context("spawn").Process(target=work, args=(rank, order)) for rank in range(2)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
"""


@pytest.fixture
def api(artifacts: Artifacts, tmp_path: Path) -> Iterator[Api]:
    s3 = s3_under(artifacts, "hangs")
    with running_api(settings_in(tmp_path / "api", s3=s3, mlflow_uri=None)) as running:
        yield running


def test_a_stopped_worker_and_the_collective_that_waits_for_it_are_found(api: Api, tmp_path: Path) -> None:
    limits = {"hang_seconds": HANG_SECONDS, "hang_factor": 3}
    job = api.store.submit(spec.resolve("digits/beta-vae-mlp", OVERRIDES, limits=limits), owner="ann")
    (attempt,) = api.admit()
    settings = api.settings.model_copy(update={"api_url": api.url})
    access = attempt_access(settings, auth.read_secret(settings.secret_file))(attempt)
    (tmp_path / "main.py").write_text(MAIN)
    (tmp_path / "driver.py").write_text(DRIVER)
    output = tmp_path / "output"
    with output.open("wb") as file:
        runner = subprocess.Popen(
            [sys.executable, str(tmp_path / "main.py"), str(tmp_path / "driver.py")],
            env=os.environ | access.environment() | {"TMPDIR": str(tmp_path), "OMP_NUM_THREADS": "1"},
            stdout=file, stderr=file, cwd=tmp_path,
        )  # fmt: skip
    pids: list[int] = []
    try:
        wait_for(lambda: bool(api.store.checkpoints(job.id)), 240, f"nothing is trained: {output.read_text()}")
        pids = [int(pid) for pid in re.findall(r"^worker[01] (\d+)$", output.read_text(), re.MULTILINE)]
        assert len(pids) == 2
        stopped = int(re.findall(r"^worker1 (\d+)$", output.read_text(), re.MULTILINE)[0])
        assert api.store.limits.look() == []
        os.kill(stopped, signal.SIGSTOP)

        def ended() -> bool:
            api.store.limits.look()  # what the dispatcher does at each of its looks
            return runner.poll() is not None

        wait_for(ended, 240, f"the hang is not found: {output.read_text()}")
        assert runner.returncode == 0
        detail = api.store.detail(job.id)
        (first,) = detail.attempts
        assert first.state is AttemptState.FAILED
        assert "it hangs: no step for" in str(first.error)
        assert (detail.job.state, detail.job.failures) == (JobState.QUEUED, 1)
        assert first.log_uri is not None
        log = Artifacts(settings.storage()).get_bytes(first.log_uri).decode()
        assert re.search(rf"process {stopped} \(.*\) is stopped", log)
        assert "(most recent call first)" in log  # the other worker's stacks:
        assert "vae_models/training/loop.py" in log  # the loop waits in a collective, whichever it has come to
        wait_for(lambda: not any(map(_lives, pids)), 10, "a worker outlives its attempt")
        kept = api.store.checkpoints(job.id)
        assert kept
        assert kept[0].step >= 20
    finally:
        runner.kill()
        runner.wait(10)
        for pid in filter(_lives, pids):
            os.kill(pid, signal.SIGKILL)
    wait_for(lambda: [again.number for again in api.admit()] == [2], 30, "no other attempt follows")
    _, resumed = api.store.claim(job.id, 2, "another")
    assert [checkpoint.uri for checkpoint in resumed] == [checkpoint.uri for checkpoint in kept]


def _lives(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False
