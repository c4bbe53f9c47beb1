"""The runner with a real API, a real S3 server and real child processes that stand in for the driver."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from service import auth
from service.artifacts import Artifacts
from service.dispatch.dispatcher import attempt_access
from service.errors import NotFoundError
from service.kinds.train import spec
from service.queue.jobs import Attempt, AttemptState, JobState
from service.queue.store import Store
from tests import command
from tests.api_server import Api, LossyProxy, running_api, s3_under, settings_in
from tests.servers import Swift, wait_for

LEASE = 5.0
GRACE = 1.5
MAIN = """
import os, signal, sys
from service.attempt.assignment import access_from_environment
from service.attempt.runner import Runner
runner = Runner(access_from_environment(), driver=[sys.executable, sys.argv[1]])
signal.signal(signal.SIGTERM, runner.terminate)
sys.exit(runner.run())
"""
CHILD = """
import os, subprocess, sys, time
from service.attempt import assignment as a
from service.attempt.processes import die_with_parent
die_with_parent(int(sys.argv[1]))
order = a.Assignment.model_validate_json(sys.stdin.buffer.read())
print("child", os.getpid(), flush=True)
"""
SLEEP = """
other = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
print("grandchild", other.pid, flush=True)
time.sleep(600)
"""


class Running:
    """A runner process for one admitted attempt."""

    def __init__(self, api: Api, folder: Path, child: str, url: str | None = None) -> None:
        self.api = api
        settings = api.settings.model_copy(update={"api_url": url or api.url})
        self.job = api.store.submit(spec.resolve("digits/beta-vae-mlp"), owner="ann")
        (self.attempt,) = api.admit()
        access = attempt_access(settings, auth.read_secret(settings.secret_file))(self.attempt)
        (folder / "child.py").write_text(CHILD + child)
        self.output = folder / "output"
        with self.output.open("wb") as output:
            self.process = command.python(
                MAIN,
                str(folder / "child.py"),
                env=os.environ | access.environment() | {"TMPDIR": str(folder)},
                folder=folder,
                stdout=output,
                stderr=output,
            )

    def state(self) -> JobState:
        return self.api.store.job(self.job.id).state

    def last_attempt(self) -> Attempt:
        return self.api.store.detail(self.job.id).attempts[-1]

    def said(self, word: str) -> list[str]:
        """The rest of the output's lines that begin with `word`."""
        lines = self.output.read_text(errors="replace").splitlines()
        return [line.removeprefix(word).strip() for line in lines if line.startswith(word)]

    def pid(self, name: str) -> int:
        wait_for(lambda: bool(self.said(f"{name} ")), 20, f"{name} does not start: {self.output.read_text()}")
        return int(self.said(f"{name} ")[0])

    def wait(self, seconds: float = 20) -> int:
        return self.process.wait(seconds)


def gone(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


@pytest.fixture(scope="module")
def api(swift: Swift, artifacts: Artifacts, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Api]:
    s3 = s3_under(artifacts, "runner")
    settings = settings_in(
        tmp_path_factory.mktemp("api"), s3=s3, lease_seconds=LEASE, cancel_grace_seconds=GRACE, mlflow_uri=None
    )
    with running_api(settings) as running:
        yield running


@pytest.fixture
def runner(api: Api, tmp_path: Path) -> Iterator[list[Running]]:
    """Runners that the test starts; ended with it, and their jobs with them."""
    started: list[Running] = []
    yield started
    for one in started:
        for pid in one.said("grandchild "):  # the driver has no children of its own, this stand-in has
            with contextlib.suppress(ProcessLookupError):
                os.kill(int(pid), signal.SIGKILL)
        one.process.kill()
        one.process.wait(10)
        if not api.store.job(one.job.id).state.final:
            api.store.cancel(one.job.id, by="test")
            wait_for(lambda: _ended(api, one), LEASE + 5, "the lease does not end")  # noqa: B023


def _ended(api: Api, one: Running) -> bool:
    if api.store.job(one.job.id).state.final:
        return True
    return api.store.cancel_finished(one.job.id, api.store.job(one.job.id).attempt) is not None


SUCCEED = """
outcome = a.Outcome(outcome="succeeded", result={"steps": 7, "secret?": len(order.access.token.get_secret_value())})
a.write_outcome(outcome, order.scratch / a.OUTCOME)
"""


def test_a_success_is_reported_with_result_and_log(api: Api, tmp_path: Path, runner: list[Running]) -> None:
    runner.append(one := Running(api, tmp_path, SUCCEED))
    assert one.wait() == 0
    job, attempt = api.store.job(one.job.id), one.last_attempt()
    assert (job.state, job.result["steps"]) == (JobState.SUCCEEDED, 7)
    assert attempt.log_uri is not None
    text = Artifacts(api.settings.storage()).get_bytes(attempt.log_uri).decode()
    assert f"child {one.pid('child')}" in text
    assert "the attempt succeeded" in text
    assert auth.attempt_token(auth.read_secret(api.settings.secret_file), one.job.id, 1) not in text
    assert not list(tmp_path.glob("vaesvc-run-*"))  # scratch is gone


def test_a_crash_is_a_failure_that_may_be_tried_again(api: Api, tmp_path: Path, runner: list[Running]) -> None:
    runner.append(one := Running(api, tmp_path, "print('about to break', flush=True)\nraise SystemExit(7)\n"))
    assert one.wait() == 0
    assert one.state() is JobState.QUEUED
    assert one.last_attempt().error is not None
    assert "exit code 7" in str(one.last_attempt().error)
    assert "about to break" in str(one.last_attempt().error)


def test_a_killed_driver_is_said_to_be_killed(api: Api, tmp_path: Path, runner: list[Running]) -> None:
    runner.append(one := Running(api, tmp_path, SLEEP))
    grandchild = one.pid("grandchild")
    os.kill(one.pid("child"), signal.SIGKILL)
    assert one.wait() == 0
    assert "killed" in str(one.last_attempt().error)
    wait_for(lambda: gone(grandchild), 5, "the rest of the driver's group lives on")


VERDICT = """
outcome = a.Outcome(outcome="failed", error="loss is nan", retryable=False)
a.write_outcome(outcome, order.scratch / a.VERDICT)
"""


def test_a_verdict_ends_a_driver_that_still_runs(api: Api, tmp_path: Path, runner: list[Running]) -> None:

    runner.append(one := Running(api, tmp_path, VERDICT + SLEEP))
    assert one.wait() == 0
    assert (one.state(), api.store.job(one.job.id).reason) == (JobState.FAILED, "loss is nan")
    assert gone(one.pid("child"))


def test_the_driver_dies_with_a_runner_that_is_killed(api: Api, tmp_path: Path, runner: list[Running]) -> None:
    runner.append(one := Running(api, tmp_path, SLEEP))
    child = one.pid("child")
    one.process.kill()
    wait_for(lambda: gone(child), 5, "the driver outlives its parent")
    assert one.state() is JobState.RUNNING  # nobody knows yet: the lease will tell
    assert api.store.attempt_lost(one.job.id, 1, "too early") is None
    wait_for(lambda: api.store.attempt_lost(one.job.id, 1, "killed") is not None, LEASE + 3, "the lease does not end")


def test_a_runner_that_cannot_renew_ends_its_group_before_the_lease_ends(
    api: Api, tmp_path: Path, runner: list[Running]
) -> None:
    proxy = LossyProxy(api.url, lose=0)
    runner.append(one := Running(api, tmp_path, SLEEP, url=proxy.url))
    child, grandchild = one.pid("child"), one.pid("grandchild")
    time.sleep(LEASE)  # long enough that only renewals keep it alive
    assert one.process.poll() is None
    proxy.close()
    wait_for(lambda: gone(child) and gone(grandchild), LEASE + 2, "it goes on without a lease")
    lease_until = one.last_attempt().lease_until
    assert lease_until is not None
    assert time.time() < lease_until
    assert one.wait(LEASE + 15) == 0
    assert one.state() is JobState.RUNNING


def test_a_superseded_runner_stops_at_once(api: Api, tmp_path: Path, runner: list[Running]) -> None:
    runner.append(one := Running(api, tmp_path, SLEEP))
    child = one.pid("child")
    os.kill(one.process.pid, signal.SIGSTOP)  # a machine that sleeps through its lease
    wait_for(lambda: api.store.attempt_lost(one.job.id, 1, "asleep") is not None, LEASE + 3, "the lease does not end")
    os.kill(one.process.pid, signal.SIGCONT)
    wait_for(lambda: gone(child), 3, "the old attempt goes on beside the new one")
    assert one.wait() == 0
    assert one.last_attempt().error == "asleep"


def test_cancel_gives_the_grace_and_then_ends_it(api: Api, tmp_path: Path, runner: list[Running]) -> None:
    runner.append(one := Running(api, tmp_path, SLEEP))
    one.pid("grandchild")
    asked = time.monotonic()
    api.store.cancel(one.job.id, by="ann")
    wait_for(lambda: one.state().final, 15, "it is not cancelled")
    assert time.monotonic() - asked < LEASE / 4 + api.settings.cancel_grace_seconds + 12
    assert one.state() is JobState.CANCELLED
    assert one.wait() == 0
    assert gone(one.pid("child"))


def test_an_attempt_that_gives_way_is_killed_at_the_end_of_its_grace(
    api: Api, tmp_path: Path, runner: list[Running]
) -> None:
    """Its child does not listen. The job is in the line again, at no cost."""
    runner.append(one := Running(api, tmp_path, SLEEP))
    grandchild = one.pid("grandchild")
    dispatcher = Store(api.settings.database_url, preempt_grace_seconds=0.5)
    asked = spec.resolve("digits/beta-vae-mlp", priority=1, resources={"workers": 4})
    high = api.store.submit(asked, owner="ann")
    try:
        assert api.admit() == []
        assert len(dispatcher.room.look()) == 1
        assert one.wait(60) == 0
        assert one.state() is JobState.QUEUED
        last = one.last_attempt()
        assert (last.state, last.error) == (AttemptState.REQUEUED, f"makes room for {high.id}, of priority 1")
        assert api.store.job(one.job.id).failures == 0
        assert gone(grandchild)
        assert [attempt.job_id for attempt in api.admit()] == [high.id]
    finally:
        api.store.cancel(high.id, by="ann")
        api.store.cancel_finished(high.id, 1)
        dispatcher.close()


def test_a_stop_from_ray_is_reported_within_rays_three_seconds(api: Api, tmp_path: Path, runner: list[Running]) -> None:
    runner.append(one := Running(api, tmp_path, SLEEP))
    one.pid("grandchild")
    one.process.terminate()
    assert one.wait(3) == 0
    assert one.state() is JobState.QUEUED
    assert "SIGTERM" in str(one.last_attempt().error)


def test_another_version_is_refused_before_anything_starts(
    api: Api, tmp_path: Path, runner: list[Running], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("service.attempt_routes.__version__", "99.0")
    runner.append(one := Running(api, tmp_path, SLEEP))
    assert one.wait() == 1
    job = api.store.job(one.job.id)
    assert job.state is JobState.FAILED
    assert "99.0" in str(job.reason)
    assert "install the same version" in str(job.reason)
    assert not one.said("child")


def test_an_attempt_that_is_over_is_not_run(api: Api, tmp_path: Path, runner: list[Running]) -> None:
    (tmp_path / "first").mkdir()
    (tmp_path / "second").mkdir()
    runner.append(one := Running(api, tmp_path / "first", SUCCEED))
    assert one.wait() == 0
    settings = api.settings.model_copy(update={"api_url": api.url})
    access = attempt_access(settings, auth.read_secret(settings.secret_file))(one.attempt)
    child = str(tmp_path / "first/child.py")
    again = command.python(MAIN, child, env=os.environ | access.environment(), stdout=subprocess.PIPE)
    said, _ = again.communicate(timeout=30)
    assert again.returncode == 0
    assert "nothing to do" in said
    assert "child" not in said


def test_without_storage_the_end_is_reported_all_the_same(
    api: Api, swift: Swift, tmp_path: Path, runner: list[Running]
) -> None:
    swift.freeze()
    try:
        runner.append(one := Running(api, tmp_path, SUCCEED))
        assert one.wait(40) == 0
    finally:
        swift.thaw()
    assert one.state() is JobState.SUCCEEDED, one.output.read_text()
    assert one.last_attempt().log_uri is None


def test_the_log_grows_in_storage_while_the_attempt_runs(api: Api, tmp_path: Path, runner: list[Running]) -> None:
    runner.append(one := Running(api, tmp_path, SLEEP))
    child = one.pid("child")
    artifacts = Artifacts(api.settings.storage())
    uri = artifacts.uri("logs", one.job.id, "1.log")

    def there() -> bool:
        try:
            return f"child {child}".encode() in artifacts.get_bytes(uri)
        except NotFoundError:
            return False

    wait_for(there, 10, "the log is not in storage")
    assert one.state() is JobState.RUNNING
