"""What is wrong is said in a line that helps, with the right exit code, and costs nothing that was there before.

All through the real command, against real servers. More mistakes that need no service are in test_cli.py.
"""

from __future__ import annotations

import contextlib
import json
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from service.queue.jobs import Checkpoint
from tests import real_jobs
from tests.command import start, vaesvc
from tests.conftest import Stack
from tests.job_processes import slowed, working
from tests.real_jobs import DIGITS, SLOWLY, STEPS
from tests.servers import wait_for


def refused(stack: Stack, *arguments: str, code: int, words: tuple[str, ...], **more: str) -> str:
    """The command's one message: of its exit code, with these words, and the queue is as it was."""
    with real_jobs.client(stack) as client:
        before = {job.id: job.state for job in client.jobs(limit=1000)}
        done = stack.vaesvc(*arguments, **more)
        assert {job.id: job.state for job in client.jobs(limit=1000)} == before
    assert real_jobs.ran(done, code) == ""
    assert not [word for word in words if word not in done.stderr], done.stderr
    return done.stderr


# --- what is asked for ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("digits/beta-vae-mpl",), ("digits/beta-vae-mpl", "did you mean digits/beta-vae-mlp", "vaesvc recipes")),
        (
            (DIGITS, "--set", "optimizer.learning_rate=1"),
            ("train.optimizer.learning_rate", "did you mean lr"),
        ),
        ((DIGITS, "--set", "optimizer.lr=fast"), ("optimizer.lr", "fast", "number")),
        ((DIGITS, "--set", "batch_size=0"), ("batch_size", "0", "1")),
        (("nowhere.yaml",), ("nowhere.yaml",)),
    ],
)
def test_an_unknown_recipe_field_or_value(stack: Stack, arguments: tuple[str, ...], words: tuple[str, ...]) -> None:
    refused(stack, "submit", *arguments, code=2, words=words)


def test_a_file_with_a_wrong_field(stack: Stack, tmp_path: Path) -> None:
    file = tmp_path / "job.yaml"
    file.write_text(f"recipe: {DIGITS}\nresources: {{workes: 2}}\n")
    refused(stack, "submit", str(file), code=2, words=("workes", "workers"))


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--workers", "100"), ("100", "CPU")),
        (("--gpus-per-worker", "64"), ("64", "GPU")),
        (("--cpus-per-worker", "1024"), ("1024", "CPU")),
    ],
)
def test_what_the_cluster_never_can(stack: Stack, arguments: tuple[str, ...], words: tuple[str, ...]) -> None:
    """Refused at once, with what there is; not queued for ever."""
    refused(stack, "submit", DIGITS, *arguments, code=2, words=words)


def test_a_wrong_token(stack: Stack, tmp_path: Path) -> None:
    wrong = "vt-0000000000000000000000000000000000000000"
    said = refused(stack, "submit", DIGITS, code=3, words=("token", "VAESVC_TOKEN"), VAESVC_TOKEN=wrong)
    assert wrong not in said
    missing = str(tmp_path / "token")
    refused(stack, "submit", DIGITS, code=3, words=(missing, "VAESVC_TOKEN_FILE"), VAESVC_TOKEN_FILE=missing)


# --- storage that is not there, or not ours -------------------------------------------------------------------------


def storage(stack: Stack, **other: str) -> dict[str, str]:
    """The stack's own S3 server, named by hand, but for `other`."""
    settings = stack.settings().storage()
    return {
        "VAESVC_S3_ENDPOINT_URL": settings.endpoint_url or "",
        "VAESVC_S3_BUCKET": settings.bucket,
        "VAESVC_S3_ACCESS_KEY": settings.access_key or "",
        "VAESVC_S3_SECRET_KEY": settings.secret_key or "",
        **other,
    }


NO_BUCKET = ("no-such-bucket", "does not exist", "create it", "VAESVC_S3_BUCKET")
WRONG_KEYS = ("refused the keys", "VAESVC_S3_ACCESS_KEY", "VAESVC_S3_SECRET_KEY")


@pytest.mark.parametrize(
    ("other", "words"),
    [({"VAESVC_S3_BUCKET": "no-such-bucket"}, NO_BUCKET), ({"VAESVC_S3_SECRET_KEY": "very-wrong"}, WRONG_KEYS)],
)
def test_doctor_names_a_bucket_that_is_not_there_and_wrong_keys(
    stack: Stack, other: dict[str, str], words: tuple[str, ...]
) -> None:
    done = stack.vaesvc("doctor", "--json", seconds=200, **storage(stack, **other))
    found = [one for one in json.loads(real_jobs.ran(done, 1)) if one["level"] != "OK"]
    text = json.dumps(found)
    assert not [word for word in words if word not in text], text
    assert all(one["mend"] for one in found)
    assert "very-wrong" not in done.stdout + done.stderr


@contextlib.contextmanager
def second_service(stack: Stack, folder: Path, **more: str) -> Iterator[Stack]:
    """API and dispatcher of their own on the stack's Ray, without MLflow; what their user has."""
    settings = stack.settings()
    kept = {name: value for name, value in stack.environment.items() if not name.startswith("VAESVC_")}
    environment = kept | {
        "VAESVC_HOME": str(folder),
        "VAESVC_CONFIG": "",
        "VAESVC_RAY_ADDRESS": settings.ray_address or "",
        "VAESVC_RAY_TOKEN_FILE": str(settings.ray_token_file),
        "OMP_NUM_THREADS": "1",
        **more,
    }
    environment["VAESVC_TOKEN"] = vaesvc(environment, "token", "add", "ann", seconds=120).stdout.strip()
    logs = folder / "logs"
    with contextlib.ExitStack() as after:
        for name, command in (("api", ("serve", "--port", "0")), ("dispatcher", ("dispatch",))):
            logs.mkdir(exist_ok=True)
            log = after.enter_context((logs / name).open("wb"))
            process = start(environment, *command, stderr=log)
            after.callback(process.wait, 30)
            after.callback(process.kill)
            if name == "api":
                assert process.stdout is not None
                environment["VAESVC_API_URL"] = process.stdout.readline().strip()
                assert environment["VAESVC_API_URL"], (logs / name).read_text()
        yield Stack(home=folder, environment=environment)


# --- full disks and damaged checkpoints -----------------------------------------------------------------------------


@contextlib.contextmanager
def small_disk(folder: Path, size: str) -> Iterator[Callable[[str], None]]:
    """A file system of `size` at `folder`, and a way to make it larger. Skips where none can be mounted."""
    folder.mkdir(parents=True, exist_ok=True)
    command = ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(folder)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        pytest.skip(f"cannot mount a small file system: {done.stderr.strip()}")

    def grow(to: str) -> None:
        subprocess.run(["mount", "-o", f"remount,size={to}", str(folder)], check=True)

    try:
        yield grow
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


def test_run_on_a_full_disk_keeps_its_last_checkpoint_and_goes_on_from_it(stack: Stack, tmp_path: Path) -> None:
    with small_disk(tmp_path / "disk", "6m") as grow:
        out = tmp_path / "disk" / "run"
        arguments = ("run", DIGITS, "--set", "steps=60", "--set", "checkpoint.every_steps=20", "--out", str(out))
        full = stack.vaesvc(*arguments, seconds=200)
        real_jobs.ran(full, 1)
        for word in ("no room", str(out), "No space left", "MiB free", "free some space", "goes on from there"):
            assert word in full.stderr
        kept = sorted(path.name for path in (out / "checkpoints").glob("step-*"))
        assert kept[0] == "step-0000000020"
        grow("40m")
        again = stack.vaesvc(*arguments, "--json", seconds=200)
        assert json.loads(real_jobs.ran(again))["steps"] == 60
        steps = [json.loads(line)["step"] for line in (out / "metrics.jsonl").read_text().splitlines()]
        assert steps == sorted(steps)
        assert real_jobs.outcome(out / "checkpoints" / "step-0000000060")[1]["position"]["step"] == 60


def test_a_job_without_its_bucket_then_on_a_full_disk_then_with_a_corrupt_checkpoint_ends_as_if_nothing_had_been(
    stack: Stack, uninterrupted: real_jobs.Outcome, tmp_path: Path
) -> None:
    """Each attempt says why it fails. The bucket is made by hand, and the job retried; the worker's disk fills up, and
    while it is cleared the newest checkpoint rots in the bucket: the last attempt goes on from the one before."""
    settings = stack.settings()
    scratch = stack.home / "ray" / "session_latest" / "artifacts"
    assert scratch.parent.is_dir(), f"{settings.ray_address} keeps its files elsewhere"
    named = storage(stack, VAESVC_S3_BUCKET="no-such-bucket")
    with second_service(stack, tmp_path / "home", **named) as other:
        done = other.vaesvc("submit", DIGITS, "--wait", *real_jobs.options(SLOWLY), seconds=400)
        assert (done.returncode, [word for word in NO_BUCKET if word not in done.stderr]) == (1, []), done.stderr
        job_id = done.stdout.strip()
        shown = json.loads(real_jobs.ran(other.vaesvc("show", job_id, "--json")))
        assert (shown["job"]["state"], len(shown["attempts"])) == ("FAILED", 1)  # trying again would be no use
        assert [word for word in NO_BUCKET if word not in shown["job"]["reason"]] == []
        _make_bucket(stack, "no-such-bucket")
        with small_disk(scratch.resolve(), "40m"):
            real_jobs.ran(other.vaesvc("retry", job_id))
            ballast = scratch / "ballast"
            disk = scratch.resolve()
            written = lambda: any(disk.rglob(".checkpoint-*"))  # noqa: E731
            wait_for(written, real_jobs.START_SECONDS, "no checkpoint is written", every=0.02)
            with slowed(lambda: working(disk)):  # or it may end before its checkpoints are seen here
                real_jobs.until_checkpoint(other, job_id, 500)
                with ballast.open("wb", buffering=0) as file, contextlib.suppress(OSError):
                    while True:
                        file.write(bytes(4096))
            failed = real_jobs.until(
                other, job_id, lambda detail: not detail.attempts[1].state.open, 120, "the disk does not fill up"
            )
            error = str(failed.attempts[1].error)
            assert (failed.attempts[1].state, failed.job.state) == ("FAILED", "QUEUED")
            assert not [word for word in ("no room", "No space left", "free some space") if word not in error], error
            newest, previous = failed.checkpoints[:2]
            ballast.unlink()
            _rot(other, newest)

            detail = real_jobs.until_over(other, job_id)
            assert [attempt.state for attempt in detail.attempts] == ["FAILED", "FAILED", "SUCCEEDED"]
            text = real_jobs.log(other, job_id)
            assert f"the checkpoint of step {newest.step} is not used" in text
            assert "expected SHA-256" in text
            assert f"going on from step {previous.step} " in text
            assert "the attempt succeeded" in text
            assert any(f"step {newest.step} is not used" in note for note in detail.job.result["notes"])
            assert detail.job.result["steps"] == STEPS
            assert real_jobs.final_outcome(other, detail, tmp_path / "last") == uninterrupted


def _rot(stack: Stack, checkpoint: Checkpoint) -> None:
    """One bit of its weights is another one now."""
    door = real_jobs.artifacts(stack)
    uri = f"{checkpoint.uri.rstrip('/')}/model.safetensors"
    data = bytearray(door.get_bytes(uri))
    data[-1] ^= 1
    door.put_bytes(uri, bytes(data))


def _make_bucket(stack: Stack, name: str) -> None:
    from service.artifacts import Artifacts

    Artifacts(stack.settings().storage().model_copy(update={"bucket": name})).ensure_bucket()


# --- numbers that no training survives ------------------------------------------------------------------------------


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

    uri = stack.mlflow_uri
    assert uri is not None
    with real_jobs.client(stack) as client:
        detail = client.job(job_id)
    if detail.job.run_id is None:
        return "not opened yet"
    return str(MlflowClient(tracking_uri=uri).get_run(detail.job.run_id).info.status)
