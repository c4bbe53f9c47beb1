"""On the real stack, a gang of two: a worker that leaves out an all-reduce and one that is stopped are found, and what
follows goes on from the last checkpoint, on another node where there is one; a node that Ray drains is left at no cost.
"""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from service.dispatch.ray_jobs import RayCluster
from service.queue.jobs import Attempt
from service.stack.ray_head import cpus
from service.wire import JobDetail
from tests import ray_node, real_jobs
from tests.job_processes import gone, is_worker, processes
from tests.packages import package
from tests.servers import wait_for

if TYPE_CHECKING:
    from tests.conftest import Stack

OVERRIDES = (
    "steps=1000000",
    "checkpoint.every_steps=40",
    "evaluation.every_epochs=100000",
    "retry.max_attempts=9",
    "retry.backoff_seconds=0.1",
    "limits.hang_seconds=20",  # a busy machine's longest pause is shorter; waiting costs no processor
    "limits.hang_factor=2",
)
SKIPPING = """
from pathlib import Path
from typing import Literal

from pydantic import Field

from vae_models.optimization.specs import ScheduleSpec


class SkippingConfig(ScheduleSpec):
    \"\"\"A constant rate, and twenty steps in a second at most: who waits leaves the processors to others. When the
    file is there, the first worker calls an all-reduce that all others leave out.\"\"\"

    kind: Literal["skipping"] = "skipping"
    file: str = Field(max_length=1000)

    def build(self, *, peak, steps_per_epoch, total_steps):
        import time

        import torch
        import torch.distributed as dist

        file, every = Path(self.file), dist.new_group() if dist.is_initialized() else None

        def rate(step):
            time.sleep(0.05)
            if every is not None and dist.get_rank() == 0 and file.exists():
                file.unlink()  # once
                dist.all_reduce(torch.zeros(1), group=every)
            return peak

        return rate
"""


class Watched:
    """The job, one attempt after another."""

    def __init__(self, stack: Stack, job_id: str) -> None:
        self.stack, self.id = stack, job_id
        settings = stack.settings()
        assert settings.ray_address is not None
        self.ray = RayCluster(settings.ray_address, settings.ray_token())

    def trains(self) -> int:
        """The number of the attempt that runs, once it has committed a checkpoint."""

        def reached(detail: JobDetail) -> bool:
            last = detail.attempts[-1] if detail.attempts else None
            return last is not None and last.state == "RUNNING" and self._step(last.number) is not None

        detail = real_jobs.until(self.stack, self.id, reached, real_jobs.START_SECONDS, "no attempt trains")
        return detail.attempts[-1].number

    def nodes(self, number: int) -> frozenset[str]:
        return self.ray.places()[f"{self.id}-{number}"]

    def log(self, number: int) -> str:
        return real_jobs.log(self.stack, self.id, number)

    def ended(self, number: int, state: str) -> Attempt:
        """The attempt, once it has ended, and so."""
        detail = real_jobs.until(
            self.stack, self.id, lambda detail: detail.attempts[number - 1].ended_at is not None, 120, "it goes on"
        )
        assert detail.attempts[number - 1].state == state, real_jobs.told(self.stack, detail)
        return detail.attempts[number - 1]

    def hung(self, number: int) -> str:
        """The log of an attempt, once it has been found to hang."""
        assert "it hangs: no step for" in str(self.ended(number, "FAILED").error)
        return self.log(number)

    def goes_on(self, number: int) -> int:
        """The number of the attempt that trains now, and went on where the one before it ended."""
        following, begun = self.trains(), f"going on from step {self._step(number)} "
        wait_for(lambda: begun in self.log(following), 60, f"attempt {following} does not say {begun!r}", every=1.0)
        return following

    def _step(self, number: int) -> int | None:
        """Of the last checkpoint that the attempt committed."""
        with real_jobs.client(self.stack) as client:
            made = [each for each in client.events(self.id) if each.kind == "checkpoint" and each.attempt == number]
        return max((int(each.detail["step"]) for each in made), default=None)


def test_hangs_and_drains_of_nodes(stack: Stack, tmp_path: Path) -> None:
    code = package(
        tmp_path / "code",
        name="my-skips",
        files={"my_skips/specs.py": SKIPPING},
        entries={"schedule.skipping": "specs:SkippingConfig"},
    )
    skip = tmp_path / "skip"
    overrides = ("schedule.kind=skipping", f"schedule.file={skip}", *OVERRIDES)
    job = Watched(stack, real_jobs.submit(stack, real_jobs.DIGITS, overrides, "--code", str(code), "--workers", "2"))
    settings = stack.settings()
    assert settings.ray_token_file is not None
    first = job.trains()
    (head,) = job.nodes(first)
    skip.touch()  # a collective that never returns
    with ray_node.another(
        settings.gcs_address(), settings.ray_token_file, cpus(), stack.environment, tmp_path / "node.log"
    ) as other:
        log = job.hung(first)
        assert not skip.exists()
        assert "my_skips/specs.py" in log.partition("most recent call first")[2]  # where the first worker is
        second = job.goes_on(first)
        assert f"keeps away from {head[:12]}, where the attempt before hung" in job.log(second)
        assert job.nodes(second) == {other}
        drain(stack, other)
        reason = str(job.ended(second, "REQUEUED").error)
        assert reason.startswith(f"leaves its node: node {other[:12]} (127.0.0.1) is being drained, and is gone at 20")
        third = job.goes_on(second)
        assert job.nodes(third) == {head}
        wait_for(lambda: [node.id for node in job.ray.nodes()] == [head], 60, "the drained node stays", every=0.5)
    stopped = processes(job.id, is_worker)[0].pid
    os.kill(stopped, signal.SIGSTOP)
    log = job.hung(third)
    assert re.search(rf"process {stopped} \(ray::GangWorker.*\) is stopped", log)
    assert "vae_models/training/loop.py" in log  # the stacks of the other one, which waits for it
    wait_for(lambda: not Path(f"/proc/{stopped}").exists(), 30, "the stopped worker outlives its attempt")
    fourth = job.goes_on(third)
    assert "the other nodes cannot hold the gang" in job.log(fourth)
    with real_jobs.client(stack) as client:
        client.cancel(job.id)
    detail = real_jobs.until_over(stack, job.id, "CANCELLED")
    assert [each.state for each in detail.attempts].count("REQUEUED") == 1
    assert (
        detail.job.failures == len(detail.attempts) - 2
    )  # a hang is what the job did itself; being drained costs none
    assert detail.job.outages == 0
    gone(job.id, is_worker)


def drain(stack: Stack, node: str) -> None:
    """As a cloud's notice does that takes the machine back in ten minutes."""
    settings = stack.settings()
    assert settings.ray_token_file is not None
    done = subprocess.run(
        [
            *(sys.executable, "-m", "ray.scripts.scripts", "drain-node", "--address", settings.gcs_address()),
            *("--node-id", node, "--reason", "DRAIN_NODE_REASON_PREEMPTION", "--reason-message", "a spot notice"),
            *("--deadline-remaining-seconds", "600"),
        ],
        env={**stack.environment, **ray_node.client_environment(settings.ray_token_file)},
        capture_output=True, text=True, timeout=120,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
