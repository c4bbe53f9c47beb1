"""Jobs on the embedded stack, as a user sees them, and its parts, as an operator kills them."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psutil

from service.artifacts import Artifacts
from service.client import Client
from service.queue.jobs import JobState
from service.wire import JobDetail
from tests.servers import wait_for

if TYPE_CHECKING:
    from tests.conftest import Stack

LOOK_SECONDS = 0.5  # between two looks at something that lasts
GOING_ON = tuple(state for state in JobState if not state.final)
END_SECONDS = 120  # from cancelling to the end
START_SECONDS = 300  # from submit to the first committed checkpoint, on a machine with other work to do
DIGITS = "digits/beta-vae-mlp"
STEPS = 4000
SLOWLY = (  # of DIGITS: some ten seconds of a quiet core, a checkpoint in most
    f"steps={STEPS}",
    "evaluation.every_epochs=100",
    "checkpoint.every_steps=250",
)


def client(stack: Stack, patience: float = 60) -> Client:
    settings = stack.settings()
    assert settings.api_url is not None
    return Client(settings.api_url, settings.user_token(), retry_seconds=patience)


def ran(done: subprocess.CompletedProcess[str], code: int = 0) -> str:
    """Its stdout; whatever the command met, it ended with this exit code and without a traceback."""
    assert done.returncode == code, f"exit code {done.returncode}\n{done.stdout}\n{done.stderr}"
    assert "Traceback" not in done.stdout + done.stderr, done.stderr
    return done.stdout


def options(overrides: Sequence[str]) -> list[str]:
    return [part for override in overrides for part in ("--set", override)]


def submit(stack: Stack, recipe: str, overrides: Sequence[str] = (), *more: str) -> str:
    """The new job's id."""
    return ran(stack.vaesvc("submit", recipe, *options(overrides), *more)).strip()


def until(stack: Stack, job_id: str, reached: Callable[[JobDetail], bool], seconds: float, what: str) -> JobDetail:
    """The job once `reached`. A job that ends before that never will."""
    last: list[JobDetail] = []
    with client(stack) as door:

        def look() -> bool:
            last[:] = [door.job(job_id)]
            if reached(last[0]):
                return True
            assert not last[0].job.state.final, f"{what}: it ended before\n{told(stack, last[0])}"
            return False

        try:
            wait_for(look, seconds, what, every=LOOK_SECONDS)
        except TimeoutError as error:
            raise AssertionError(f"{error}\n{told(stack, last[0])}") from None
    return last[0]


def one_waits(stack: Stack) -> bool:
    """Whether a worker process waits for a job, once it does: the end of the one before has it started, but where the
    machine has no memory for it, which is printed."""
    from service.attempt import preload
    from service.stack import process, state

    if psutil.virtual_memory().available < 3 << 30:
        print("no worker process waits for a job: less than 3 GiB of memory are free")  # noqa: T201
        return False

    mark = state.mark(stack.home, "ray")

    def waits() -> bool:
        idle = [
            each
            for each in psutil.process_iter(["cmdline"])
            if (each.info["cmdline"] or [""])[0].startswith(preload.READY)
        ]
        ours = {each.pid for each in process.members(mark, None)} if idle else set()
        return any(each.pid in ours for each in idle)

    wait_for(waits, START_SECONDS, "no worker process waits for a job", every=LOOK_SECONDS)
    return True


def until_checkpoint(stack: Stack, job_id: str, step: int) -> JobDetail:
    """Once a checkpoint of this step or a later one is committed."""

    def reached(detail: JobDetail) -> bool:
        return any(one.step >= step for one in detail.checkpoints)

    return until(stack, job_id, reached, START_SECONDS, f"no checkpoint of step {step} is committed")


def until_checkpoint_of(stack: Stack, job_id: str, number: int) -> JobDetail:
    """Once this attempt has committed one."""

    def reached(detail: JobDetail) -> bool:
        return any(one.attempt == number for one in detail.checkpoints)

    return until(stack, job_id, reached, START_SECONDS, f"attempt {number} commits no checkpoint")


def until_over(stack: Stack, job_id: str, state: str = "SUCCEEDED", seconds: float = 400) -> JobDetail:
    """The job once it is final, which has to be in this state."""
    detail = until(stack, job_id, lambda detail: detail.job.state.final, seconds, "it does not end")
    assert detail.job.state == state, told(stack, detail)
    return detail


def told(stack: Stack, detail: JobDetail) -> str:
    """What a person would want to read after a surprise."""
    with client(stack) as door:
        events = [f"{one.at:.1f} {one.attempt} {one.kind} {one.detail}" for one in door.events(detail.job.id)]
        try:
            log = door.logs(detail.job.id).text[-4000:]
        except Exception as error:  # the log is only a help here
            log = repr(error)
    return "\n".join([detail.job.model_dump_json(exclude={"spec"}), *events, log])


def end_all(stack: Stack) -> None:
    """Cancel every job that has not ended, and wait until all have: what a failed test left takes what others need."""
    with client(stack) as api:

        def ended() -> bool:
            left = api.jobs(states=GOING_ON)
            for job in left:
                if job.state is not JobState.CANCELLING:
                    api.cancel(job.id)
            return not left

        wait_for(ended, END_SECONDS, "the jobs do not end", every=LOOK_SECONDS)


def log(stack: Stack, job_id: str, attempt: int | None = None) -> str:
    """As `vaesvc logs` prints it, of the newest attempt where none is named. It holds what Ray says too, tracebacks
    that mean nothing among it."""
    text, offset = "", 0
    with client(stack) as door:
        while True:
            part = door.logs(job_id, attempt=attempt, offset=offset)
            text += part.text
            if part.complete or part.offset == offset:
                return text
            attempt, offset = part.attempt, part.offset


def artifacts(stack: Stack) -> Artifacts:
    return Artifacts(stack.settings().storage())


Outcome = tuple[dict[str, str], dict[str, Any]]


def outcome(directory: Path) -> Outcome:
    """What two runs of one spec must agree in, to the bit: sums of all tensors (model, optimizer, running sums of the
    metrics), and the loop's state but for what a clock measured."""
    from vae_models.training import checkpoint

    found = checkpoint.read(directory)
    sums = {name: file.sha256 for name, file in found.manifest.files.items() if name.endswith(".safetensors")}
    state = json.loads(json.dumps(dict(found.state)))
    state["position"]["latest"].pop("images_per_second", None)
    return sums, state


def final_outcome(stack: Stack, detail: JobDetail, folder: Path) -> Outcome:
    """Of the last checkpoint, fetched from the bucket and verified."""
    last = max(detail.checkpoints, key=lambda one: one.step)
    return outcome(artifacts(stack).get_directory(last.uri, folder, last.manifest_sha256))


def local_outcome(stack: Stack, recipe: str, overrides: Sequence[str], folder: Path, threads: int = 1) -> Outcome:
    """Of `vaesvc run`: the same loop without queue, cluster and interruptions, with as many threads as a worker."""
    arguments = ("run", recipe, *options(overrides), "--out", str(folder))
    ran(stack.vaesvc(*arguments, seconds=400, OMP_NUM_THREADS=str(threads)))
    return outcome(max((folder / "checkpoints").glob("step-*")))


def kill(stack: Stack, part: str) -> int:
    """kill -9 of every process of a part, and of whatever these started meanwhile. How many there were."""
    from service.stack import process, state

    killed: set[int] = set()

    def gone() -> bool:
        left = process.members(state.mark(stack.home, part), process.recorded(state.record(stack.home, part)))
        for one in left:
            if process.alive(one):
                os.kill(one.pid, signal.SIGKILL)
        killed.update(one.pid for one in left)
        return not left

    wait_for(gone, 20, f"{part} does not end")
    assert killed, f"there was no {part}"
    return len(killed)
