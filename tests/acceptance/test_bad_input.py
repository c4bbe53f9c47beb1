"""What a user or an operator gets wrong, and what breaks below: a clear error each time, and nothing lost."""

from __future__ import annotations

import contextlib
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from service.client import Client
from tests import command, real_jobs
from tests.real_jobs import DIGITS
from tests.servers import wait_for

if TYPE_CHECKING:
    from tests.conftest import Stack

CHECKPOINTS = ("steps=6000", "evaluation.every_epochs=40", "checkpoint.every_steps=500")


def test_what_no_machine_could_run_is_refused_at_submit(stack: Stack) -> None:
    done = stack.vaesvc("submit", DIGITS, "--workers", "3", "--gpus-per-worker", "8")
    real_jobs.ran(done, code=2)
    assert done.stdout == ""
    for word in ("3 x (", "8 GPU", "the largest cluster seen has", "Ask for fewer"):
        assert word in done.stderr


@contextlib.contextmanager
def service_with(stack: Stack, folder: Path, **wrong: str) -> Iterator[Client]:
    """An API and a dispatcher of their own on the stack's Ray, with `wrong` settings."""
    environment = stack.environment | {"VAESVC_DATABASE_URL": f"sqlite:///{folder}/queue.db"} | wrong
    token = command.vaesvc(environment, "token", "add", "ann").stdout.strip()
    api = command.start(environment, "serve", "--port", "0")
    dispatcher = None
    try:
        assert api.stdout is not None
        url = api.stdout.readline().strip()
        with (folder / "dispatcher.log").open("w") as log:
            dispatcher = subprocess.Popen(
                [command.VAESVC, "dispatch"], env=environment | {"VAESVC_API_URL": url}, stdout=log, stderr=log
            )
        with Client(url, token) as client:
            yield client
    finally:
        for process in (dispatcher, api):
            if process is not None:
                process.terminate()
                process.communicate(timeout=20)


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ({"VAESVC_S3_BUCKET": "no-such-bucket"}, ["no-such-bucket"]),
        ({"VAESVC_S3_SECRET_KEY": "not-the-secret-key"}, ["key"]),
    ],
    ids=["bucket", "keys"],
)
def test_storage_that_refuses_fails_the_job_at_once_and_says_why(
    stack: Stack, tmp_path: Path, wrong: dict[str, str], words: list[str]
) -> None:
    from service.spec import resolve

    storage = stack.settings().storage()
    if "VAESVC_S3_SECRET_KEY" in wrong:
        assert storage.endpoint_url is not None
        assert storage.access_key is not None
        wrong = wrong | {"VAESVC_S3_ACCESS_KEY": storage.access_key, "VAESVC_S3_ENDPOINT_URL": storage.endpoint_url}
    with service_with(stack, tmp_path, **wrong) as client:
        job_id = client.submit(resolve(DIGITS, ["steps=50"])).id
        wait_for(lambda: client.job(job_id).job.state.final, 120, "the job does not end")
        detail = client.job(job_id)
    assert detail.job.state == "FAILED"
    assert len(detail.attempts) == 1, "trying again would fail in the same way"
    for word in words:
        assert word in (detail.job.reason or "")
    assert "Traceback" not in (detail.job.reason or "")
    assert "not-the-secret-key" not in detail.model_dump_json() + (tmp_path / "dispatcher.log").read_text()


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """3 MiB: room for one checkpoint of the quickstart's model, not for two."""
    if os.geteuid() != 0:
        pytest.skip("needs root to mount a small file system")
    folder = tmp_path / "disk"
    folder.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=3m", "tmpfs", str(folder)], capture_output=True)
    if mounted.returncode != 0:
        pytest.skip(f"cannot mount a small file system: {mounted.stderr.decode().strip()}")
    yield folder
    subprocess.run(["umount", "--lazy", str(folder)], check=True, timeout=20)


def test_a_full_disk_is_said_and_the_last_checkpoint_stays(small_disk: Path) -> None:
    from vae_models.training import checkpoint

    overrides = ("steps=300", "checkpoint.every_steps=100", "evaluation.every_epochs=1000", "evaluation.pictures=false")
    out = small_disk / "run"
    done = command.vaesvc(
        dict(os.environ), "run", DIGITS, *real_jobs.options(overrides), "--out", str(out), code=1, seconds=120
    )
    assert str(small_disk) in done.stderr
    assert "space" in done.stderr.lower() or "room" in done.stderr.lower()
    (kept,) = (out / "checkpoints").glob("step-*")
    assert checkpoint.verify(kept).step == 100


def test_a_corrupt_checkpoint_is_passed_over_and_said(stack: Stack, tmp_path: Path) -> None:
    """Cancel, damage the newest checkpoint in the bucket, retry: the previous one is used, and the log says so."""
    job_id = real_jobs.submit(stack, DIGITS, CHECKPOINTS)
    real_jobs.until(stack, job_id, lambda detail: len(detail.checkpoints) >= 2, 300, "no two checkpoints are kept")
    real_jobs.ran(stack.vaesvc("cancel", job_id))
    detail = real_jobs.until_over(stack, job_id, "CANCELLED")
    newest, *older = sorted(detail.checkpoints, key=lambda one: -one.step)
    assert older
    storage = real_jobs.artifacts(stack)
    storage.put_bytes(f"{newest.uri.rstrip('/')}/model.safetensors", b"not what it was", "application/octet-stream")
    real_jobs.ran(stack.vaesvc("retry", job_id))
    detail = real_jobs.until_over(stack, job_id)
    said = real_jobs.log(stack, job_id, detail.job.epoch)
    assert f"the checkpoint of step {newest.step} is not used" in said
    assert "starting from step 0" not in said
    assert max(one.step for one in detail.checkpoints) == 6000
