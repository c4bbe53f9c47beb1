"""An elastic gang that shrinks for a job of a higher priority, and grows when that has ended, computes what an
undisturbed worker does.

Real: the API, the S3 server, the planner, the runner, workers that train over gloo. Stood in for: Ray.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from service import auth
from service.artifacts import Artifacts
from service.dispatch.dispatcher import attempt_access
from service.kinds.train import spec
from service.queue.jobs import Attempt, AttemptState, JobState
from service.queue.store import Store
from service.wire import FinishRequest
from tests.api_server import Api, running_api, s3_under, settings_in
from tests.servers import wait_for
from vae_models.training import checkpoint
from vae_models.training.context import LocalContext
from vae_models.training.loop import train

STEPS = 60
OVERRIDES = [
    f"steps={STEPS}",
    "dtype=float64",
    "batch_size=16",
    "checkpoint.every_steps=1000",
    "evaluation.every_epochs=1000",
]
HOLD = 20  # steps after which an attempt waits until it is asked to end; the last one has none to wait for
MAIN = """
import sys
from service.attempt.assignment import access_from_environment
from service.attempt.runner import Runner
sys.exit(Runner(access_from_environment(), driver=[sys.executable, sys.argv[1]]).run())
"""
DRIVER = """
import multiprocessing, sys, time
from pathlib import Path
from service.attempt import assignment as a
from service.attempt.processes import die_with_parent

def work(rank, workers, order):
    import torch
    from service.attempt.run_context import RunProcess
    from service.kinds.train.spec import TrainSpec
    from vae_models.training.loop import train
    torch.set_num_threads(1)
    meeting = f"file://{order.scratch}/meeting"
    torch.distributed.init_process_group("gloo", init_method=meeting, rank=rank, world_size=workers)
    spec = TrainSpec.model_validate(order.context.job.spec)
    goal, scratch = spec.train.checkpoint.goal, Path(order.scratch) / "workers"
    process = RunProcess(
        order, rank=rank, world_size=workers, device=torch.device("cpu"), scratch=scratch, goal=goal
    )
    if rank == 0:
        asked, hold = process.reports.stop_requested, HOLD * order.access.number
        def stop_requested():
            while hold <= process.reports.latest.step < spec.train.steps and not asked():
                time.sleep(0.05)
            return asked()
        process.reports.stop_requested = stop_requested
    result = train(spec.train, process.context, poll_seconds=0)
    process.close()
    if rank == 0:
        (Path(order.scratch) / "stopped").write_text(str(result.stopped))

if __name__ == "__main__":
    die_with_parent(int(sys.argv[1]))
    order = a.Assignment.model_validate_json(sys.stdin.buffer.read())
    count = order.context.job.resources.workers
    print(f"a gang of {count}", flush=True)
    start = multiprocessing.get_context("spawn").Process
    workers = [start(target=work, args=(rank, count, order)) for rank in range(count)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    if any(worker.exitcode for worker in workers):
        sys.exit(1)
    stopped = (Path(order.scratch) / "stopped").read_text() == "True"
    a.write_outcome(a.CANCELLED if stopped else a.Outcome(outcome="succeeded"), Path(order.scratch) / a.OUTCOME)
"""


@pytest.fixture
def api(artifacts: Artifacts, tmp_path: Path) -> Iterator[Api]:
    s3 = s3_under(artifacts, "elastic")
    with running_api(settings_in(tmp_path / "api", s3=s3, mlflow_uri=None)) as running:
        yield running


class Gang:
    """Attempts of jobs on a machine of four cores, each a real runner's."""

    def __init__(self, api: Api, folder: Path) -> None:
        """Prepare the machine."""
        self.api, self.folder = api, folder
        self.dispatcher = Store(api.settings.database_url, preempt_grace_seconds=120.0, grow_seconds=0.0)
        self.output = folder / "output"
        self._runner: subprocess.Popen[bytes] | None = None
        (folder / "main.py").write_text(MAIN)
        (folder / "driver.py").write_text(DRIVER.replace("HOLD", str(HOLD)))

    def submit(self, priority: int, workers: object) -> str:
        asked = spec.resolve("digits/beta-vae-mlp", OVERRIDES, priority=priority, resources={"workers": workers})
        return self.api.store.submit(asked, owner="ann").id

    def run(self, attempt: Attempt) -> None:
        settings = self.api.settings.model_copy(update={"api_url": self.api.url})
        access = attempt_access(settings, auth.read_secret(settings.secret_file))(attempt)
        with self.output.open("ab") as file:
            self._runner = subprocess.Popen(
                [sys.executable, str(self.folder / "main.py"), str(self.folder / "driver.py")],
                env=os.environ | access.environment() | {"TMPDIR": str(self.folder), "OMP_NUM_THREADS": "1"},
                stdout=file, stderr=file, cwd=self.folder,
            )  # fmt: skip

    def until_step(self, job_id: str, step: int) -> None:
        def reached() -> bool:
            return int(self.api.store.job(job_id).progress.get("step", 0)) >= step

        wait_for(reached, 240, f"step {step} is not reached: {self.output.read_text()}")

    def end(self) -> None:
        assert self._runner is not None
        assert self._runner.wait(240) == 0, self.output.read_text()

    def over(self, job_id: str) -> None:
        """The high job, of which nothing is run, has its room, and has used it."""
        request = FinishRequest(runner_id="high", outcome="succeeded")
        self.api.store.claim(job_id, 1, "high")
        self.api.store.finish(job_id, 1, request)

    def close(self) -> None:
        if self._runner is not None:
            self._runner.kill()
            self._runner.wait(10)
        self.dispatcher.close()


@pytest.fixture
def gang(api: Api, tmp_path: Path) -> Iterator[Gang]:
    made = Gang(api, tmp_path)
    try:
        yield made
    finally:
        made.close()


def weights(directory: Path) -> dict[str, torch.Tensor]:
    return dict(load_file(directory / checkpoint.MODEL))


def test_a_gang_that_shrinks_and_grows_computes_what_an_undisturbed_worker_does(gang: Gang, tmp_path: Path) -> None:
    store = gang.api.store
    low = gang.submit(0, {"min": 1, "max": 2})
    (first,) = gang.api.admit()
    gang.run(first)
    gang.until_step(low, HOLD)
    high = gang.submit(7, 3)
    assert gang.api.admit() == []
    assert len(gang.dispatcher.room.look()) == 1
    gang.end()
    admitted = {attempt.job_id: attempt for attempt in gang.api.admit()}
    assert set(admitted) == {high, low}
    gang.run(admitted[low])  # beside the other one
    gang.until_step(low, 2 * HOLD)
    assert gang.dispatcher.room.look() == []
    gang.over(high)
    assert gang.api.admit() == []
    assert len(gang.dispatcher.room.look()) == 1
    gang.end()
    (last,) = gang.api.admit()
    gang.run(last)
    gang.end()
    detail = store.detail(low)
    assert detail.job.state is JobState.SUCCEEDED, gang.output.read_text()
    assert detail.job.failures == 0
    ends = [AttemptState.REQUEUED, AttemptState.REQUEUED, AttemptState.SUCCEEDED]
    assert [attempt.state for attempt in detail.attempts] == ends
    said = [line for line in gang.output.read_text().splitlines() if line.startswith("a gang of")]
    assert said == ["a gang of 2", "a gang of 1", "a gang of 2"]
    made = [event.detail["step"] for event in store.events(low) if event.kind == "checkpoint"]
    assert made == [HOLD, 2 * HOLD, STEPS]  # each attempt checkpointed when it was asked to, and lost nothing
    kept = max(detail.checkpoints, key=lambda one: one.step)
    fetched = Artifacts(gang.api.settings.storage()).get_directory(kept.uri, tmp_path / "last", kept.manifest_sha256)
    undisturbed = spec.resolve("digits/beta-vae-mlp", OVERRIDES).train
    train(undisturbed, LocalContext(tmp_path / "undisturbed"))
    expected = weights(max((tmp_path / "undisturbed" / "checkpoints").glob("step-*")))
    found = weights(fetched)
    assert found.keys() == expected.keys()
    for name, tensor in found.items():
        torch.testing.assert_close(tensor, expected[name], rtol=1e-9, atol=1e-9)
