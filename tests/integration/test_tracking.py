"""Runs in a real MLflow server: one per job, every point exactly once, whatever is killed."""

from __future__ import annotations

import io
import json
import signal
import subprocess
import threading
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from pydantic import SecretStr

from service.attempt import reporting
from service.attempt.assignment import Assignment, AttemptAccess
from service.errors import NotFoundError, UnavailableError, UsageError, VaesvcError
from service.queue.jobs import Job, JobState
from service.tracking import (
    RunWriter,
    check,
    describe,
    end_run,
    end_trial,
    open_run,
    open_trial,
    open_trials,
    pictures,
    send_spool,
)
from service.tracking.describe import TrialRun
from service.tracking.server import client
from service.wire import AttemptContext
from tests import command
from tests.jobs import make_job
from tests.servers import Mlflow, wait_for


def drawn(shade: int = 0) -> bytes:
    buffer = io.BytesIO()
    Image.new("L", (40, 20), shade).save(buffer, "PNG")
    return buffer.getvalue()


PNG = drawn()


def pictures_of(uri: str, run_id: str) -> list[tuple[str, int]]:
    """Name and step of what MLflow's image grid reads."""
    paths = [file.path.removeprefix("images/") for file in client(uri).list_artifacts(run_id, "images")]
    parts = [path.removesuffix(".png").split("+") for path in paths if path.endswith(".png")]
    small = {path.removesuffix("+compressed.webp") for path in paths if path.endswith("+compressed.webp")}
    assert small == {path.removesuffix(".png") for path in paths if path.endswith(".png")}
    assert all(part[1] == "step" and part[3] == "timestamp" for part in parts)
    return sorted((part[0], int(part[2])) for part in parts)


def history(uri: str, run_id: str, key: str) -> list[tuple[int, float]]:
    return [(m.step, m.value) for m in client(uri).get_metric_history(run_id, key)]


def runs_of(uri: str, job: Job) -> list[Any]:
    door = client(uri)
    ids = [e.experiment_id for e in door.search_experiments()]
    return list(door.search_runs(ids, f"tags.`vaesvc.job_id` = '{job.id}'"))


def assignment(mlflow: Mlflow, job: Job) -> Assignment:
    access = AttemptAccess(api_url="http://127.0.0.1:9", job_id=job.id, number=1, token=SecretStr("none"))
    storage = mlflow.settings.storage()
    context = AttemptContext(job=job, number=1, lease_seconds=30, storage=storage, mlflow_uri=mlflow.uri)
    return Assignment(access=access, context=context, runner_id="r", scratch=Path("/nowhere"))


def found_by(job: Job) -> dict[str, str]:
    return {describe.JOB_ID: job.id, describe.handle(job.id): "1"}


@pytest.fixture(scope="module")
def uri(mlflow_server: Mlflow) -> str:
    return mlflow_server.uri


@pytest.fixture
def run_id(uri: str) -> str:
    return open_run(uri, make_job(), number=1)


# --- runs -----------------------------------------------------------------------------------------------------------


def test_a_run_says_what_it_is(uri: str) -> None:
    job = make_job(overrides=("beta.value=4",), name="four")
    run_id = open_run(uri, job, number=1, params={"extra": 3}, tags={"host": "h"})
    run = client(uri).get_run(run_id)
    assert client(uri).get_experiment(run.info.experiment_id).name == "digits (density)"
    assert run.info.run_name == f"four {job.id}"
    assert run.info.status == "RUNNING"
    wanted = {"beta": "constant", "beta.value": "4.0", "model.backbone.hidden": "[256, 256]", "workers": "1"}
    assert wanted.items() <= run.data.params.items()
    assert run.data.params["extra"] == "3"
    assert not [key for key in run.data.params if key.startswith(("evaluation", "train."))]
    tags = run.data.tags
    assert (tags["vaesvc.job_id"], tags["mlflow.user"], tags["host"]) == (job.id, "ada", "h")
    assert {"version.torch", "version.ray", "version.mlflow", "version.python", "version.vaesvc"} <= tags.keys()
    assert len(tags["mlflow.source.git.commit"]) == 40


def test_fault_13b_an_experiment_is_of_model_training(uri: str) -> None:
    """Without the tag MLflow's pages open it as evaluations of prompts. One that an earlier version made gets it, what
    somebody chose stays."""
    job = make_job(overrides=("data.binarize=threshold", "model.likelihood.kind=bernoulli"))
    door, name = client(uri), describe.experiment_name(job)
    assert door.get_experiment_by_name(name) is None
    made = door.create_experiment(name)
    open_run(uri, job, number=1)
    assert door.get_experiment(made).tags["mlflow.experimentKind"] == "custom_model_development"
    door.set_experiment_tag(made, "mlflow.experimentKind", "classification")
    open_run(uri, make_job(overrides=("data.binarize=threshold", "model.likelihood.kind=bernoulli")), number=1)
    assert door.get_experiment(made).tags["mlflow.experimentKind"] == "classification"


def test_fault_13b_a_run_has_a_note_that_its_reader_may_change(uri: str) -> None:
    job = make_job()
    run_id, door = open_run(uri, job, number=1), client(uri)
    note = door.get_run(run_id).data.tags["mlflow.note.content"]
    for part in (job.id, "digits/beta-vae-mlp", "nats per datum of a density", "ada", f"vaesvc logs {job.id}"):
        assert part in note
    assert "vaesvc pull digits-beta-vae-mlp ./model" in note
    door.set_tag(run_id, "mlflow.note.content", "the good one")
    assert open_run(uri, job, number=2) == run_id
    assert door.get_run(run_id).data.tags["mlflow.note.content"] == "the good one"


def test_fault_13b_a_run_names_its_data(uri: str) -> None:
    runs = [open_run(uri, make_job(), number=1), open_run(uri, make_job(overrides=("seed=7",)), number=1)]
    runs.append(open_run(uri, make_job(overrides=("data.noise={kind: gaussian}",)), number=1))
    inputs = [client(uri).get_run(run_id).inputs.dataset_inputs for run_id in runs]
    assert [len(each) for each in inputs] == [1, 1, 1]
    first, same, other = (each[0].dataset for each in inputs)
    assert (first.name, first.digest) == (same.name, same.digest)
    assert first.digest != other.digest
    assert json.loads(first.profile)["shape"] == [1, 8, 8]
    assert [(tag.key, tag.value) for tag in inputs[0][0].tags] == [("mlflow.data.context", "training")]


def test_a_run_of_an_earlier_version_is_found(uri: str) -> None:
    """Those have no tag of their own name."""
    job = make_job()
    door = client(uri)
    experiment = door.get_run(open_run(uri, make_job(), number=1)).info.experiment_id
    older = door.create_run(experiment, tags={describe.JOB_ID: job.id}).info.run_id
    assert open_run(uri, job.model_copy(update={"attempt": 2}), number=2) == older
    assert door.get_run(older).data.tags[describe.handle(job.id)] == "1"


def test_the_next_attempt_has_the_same_run(uri: str) -> None:
    job = make_job()
    first = open_run(uri, job, number=1, params={"devices": 1})
    assert end_run(uri, job, JobState.FAILED) == first
    assert open_run(uri, job, number=2, params={"devices": 2, "new": 1}) == first
    run = client(uri).get_run(first)
    assert (run.info.status, run.data.tags["vaesvc.attempt"]) == ("RUNNING", "2")
    assert (run.data.params["devices"], run.data.params["new"]) == ("1", "1")


def test_a_job_has_one_run_however_many_open_it(uri: str) -> None:
    job = make_job()
    with ThreadPoolExecutor(6) as pool:
        opened = list(pool.map(lambda number: open_run(uri, job, number=number), range(6)))
    assert len(set(opened)) == 1
    assert [run.info.run_id for run in runs_of(uri, job)] == opened[:1]


def test_duplicates_that_a_crash_left_are_removed(uri: str) -> None:
    job = make_job()
    kept = open_run(uri, job, number=1)
    door = client(uri)
    experiment = door.get_run(kept).info.experiment_id
    earlier = door.create_run(experiment, start_time=1, tags=found_by(job)).info.run_id
    assert end_run(uri, job.model_copy(update={"run_id": kept}), JobState.SUCCEEDED) == kept
    assert [run.info.run_id for run in runs_of(uri, job)] == [kept]
    assert door.get_run(earlier).info.lifecycle_stage == "deleted"


def test_who_opens_a_run_deletes_no_other_that_may_be_written_to(uri: str) -> None:
    """An attempt that was given up and is slow: what it wrote comes to light after the next attempt has its run."""
    job = make_job()
    kept = open_run(uri, job, number=2)
    door = client(uri)
    late = door.create_run(door.get_run(kept).info.experiment_id, start_time=1, tags=found_by(job))
    assert open_run(uri, job, number=1) == late.info.run_id  # all that it can know
    assert open_run(uri, job.model_copy(update={"run_id": kept}), number=2) == kept
    assert len(runs_of(uri, job)) == 2
    assert end_run(uri, job.model_copy(update={"run_id": kept}), JobState.SUCCEEDED) == kept
    assert [run.info.run_id for run in runs_of(uri, job)] == [kept]


def test_of_a_study_that_is_over_each_trial_has_one_run(uri: str) -> None:
    job = make_job()
    parent = open_run(uri, job, number=1)
    config = job.spec["train"]
    first, second = (
        TrialRun(stage="s", number=n, key=f"k{n}", candidate=n, seed=0, assignment={}, config=config) for n in range(2)
    )
    ended, left = open_trial(uri, job, first, number=1), open_trial(uri, job, second, number=1)
    assert open_trial(uri, job, second, number=2) == left
    end_trial(uri, ended, "done")
    door = client(uri)
    experiment = door.get_run(parent).info.experiment_id
    again = [
        door.create_run(experiment, tags=door.get_run(run).data.tags | {"mlflow.parentRunId": parent}).info.run_id
        for run in (ended, left)
    ]
    assert open_trials(uri, job) == {("s", "k1"): left}
    assert [door.get_run(run).info.lifecycle_stage for run in again] == ["deleted", "deleted"]
    assert [door.get_run(run).info.lifecycle_stage for run in (ended, left)] == ["active", "active"]


@pytest.mark.parametrize(
    ("state", "status"),
    [(JobState.SUCCEEDED, "FINISHED"), (JobState.FAILED, "FAILED"), (JobState.CANCELLED, "KILLED")],
)
def test_a_run_ends_as_its_job_did(uri: str, state: JobState, status: str) -> None:
    job = make_job(state=state, ended_at=1_700_000_000.0)
    run_id = open_run(uri, job, number=1)
    for _ in range(2):
        assert end_run(uri, job) == run_id
        info = client(uri).get_run(run_id).info
        assert (info.status, info.end_time) == (status, 1_700_000_000_000)


def test_a_run_that_was_never_opened_cannot_end_and_that_is_fine(uri: str) -> None:
    assert end_run(uri, make_job(state=JobState.CANCELLED)) is None


def test_check(uri: str) -> None:
    check(uri)
    begun = time.monotonic()
    with pytest.raises(UnavailableError, match=r"127\.0\.0\.1:9: .*VAESVC_MLFLOW_URI") as caught:
        check("http://me:pa55word@127.0.0.1:9")
    assert "pa55word" not in str(caught.value)
    assert time.monotonic() - begun < 20
    with pytest.raises(UsageError, match="must begin with http"):
        check("sqlite:///mlflow.db")


def test_no_proxy_stands_on_the_way_to_this_machine(uri: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    check(uri)


# --- points and pictures --------------------------------------------------------------------------------------------


def test_points_and_pictures_arrive(uri: str, run_id: str, tmp_path: Path) -> None:
    writer = RunWriter(uri, run_id, tmp_path / "spool")
    for step in range(1, 1201):  # two keys: more than two calls' worth
        writer.log_metrics(step, {"train/loss": 1 / step, "images_per_second": 10.0 * step})
    writer.log_picture(600, "samples", PNG)
    writer.log_picture(1200, "samples", PNG)
    assert writer.close(30) is None
    assert history(uri, run_id, "train/loss") == [(step, 1 / step) for step in range(1, 1201)]
    assert client(uri).get_run(run_id).data.metrics["images_per_second"] == 12_000.0
    assert pictures_of(uri, run_id) == [("samples", 600), ("samples", 1200)]
    newest = pictures.newest([file.path for file in client(uri).list_artifacts(run_id, "images")], "samples")
    assert newest is not None
    assert "+step+1200+" in newest
    assert Path(client(uri).download_artifacts(run_id, newest, str(tmp_path))).read_bytes() == PNG
    assert client(uri).get_run(run_id).data.tags["mlflow.loggedImages"] == "True"
    assert not list(tmp_path.glob("spool*"))


def test_fault_13b_every_machine_of_a_run_has_system_metrics(mlflow_server: Mlflow, uri: str, tmp_path: Path) -> None:
    """The first rank's go with its metrics; another machine waits for the run that the first rank opens."""
    job = make_job()
    order = assignment(mlflow_server, job)
    other = reporting.join_writer(order, tmp_path / "other")
    first = reporting.open_writer(order, tmp_path / "first")
    assert first is not None
    assert other is not None
    monitors = [
        reporting.monitor(order, first, reporting.Place(node=0, alone=False)),
        reporting.monitor(order, other, reporting.Place(node=1, alone=False)),
    ]
    first.log_metrics(1, {"train/loss": 1.0})
    wait_for(lambda: other.run_id is not None, 30, "the other machine has no run")
    for monitor in monitors:
        assert monitor is not None
        monitor.close()
    assert (first.close(30), other.close(30)) == (None, None)
    assert first.run_id == other.run_id
    metrics = client(uri).get_run(str(first.run_id)).data.metrics
    for node in (0, 1):
        assert 0 <= metrics[f"system/node_{node}/cpu_utilization_percentage"] <= 100
        assert metrics[f"system/node_{node}/system_memory_usage_megabytes"] > 100
    assert metrics["train/loss"] == 1.0


def test_what_mlflow_refuses_costs_nothing_else(uri: str, run_id: str, tmp_path: Path) -> None:
    writer = RunWriter(uri, run_id, tmp_path / "spool")
    writer.log_metrics(1, {"good": 1.0, "bad\nname": 2.0, "nan": float("nan"), "inf": float("inf")})
    writer.log_picture(1, "../../escape", PNG)
    writer.log_picture(1, "broken", b"\x89PNG\r\n\x1a\n" + bytes(64))
    writer.log_picture(1, "epoch/samples", PNG)
    assert writer.close(30) is None
    metrics = client(uri).get_run(run_id).data.metrics
    assert metrics["good"] == 1.0
    assert metrics["nan"] != metrics["nan"]
    assert metrics["inf"] > 1e308
    assert "bad\nname" not in metrics
    assert pictures_of(uri, run_id) == [("epoch~samples", 1)]


def test_steps_that_are_trained_again_are_logged_once(uri: str, run_id: str, tmp_path: Path) -> None:
    """The second attempt, elsewhere, goes on from a checkpoint before the first one's last point."""
    for name, span in (("first", range(10, 110, 10)), ("second", range(60, 210, 10))):
        writer = RunWriter(uri, run_id, tmp_path / name)
        for step in span:
            writer.log_metrics(step, {"train/loss": float(step), name: 1.0})
        assert writer.close(30) is None
    assert [step for step, _ in history(uri, run_id, "train/loss")] == list(range(10, 210, 10))
    assert [step for step, _ in history(uri, run_id, "second")] == list(range(60, 210, 10))


def test_a_spool_that_comes_late_fills_the_gap(uri: str, run_id: str, tmp_path: Path) -> None:
    """The first attempt lost the server at step 40, the second began at 60, and then the first one's spool arrives."""
    log_all(RunWriter(uri, run_id, tmp_path / "a"), range(10, 40, 10)).close(30)
    left = log_all(RunWriter("http://127.0.0.1:9", run_id, tmp_path / "b"), range(40, 90, 10)).close(0.5)
    log_all(RunWriter(uri, run_id, tmp_path / "c"), range(60, 120, 10)).close(30)
    assert left == tmp_path / "b"
    carried = tmp_path / "carried.jsonl"
    carried.write_bytes(left.read_bytes())
    for _ in range(2):
        send_spool(uri, run_id, carried)
        assert sorted(step for step, _ in history(uri, run_id, "loss")) == list(range(10, 120, 10))
        assert not carried.exists()
        carried.write_bytes(left.read_bytes())  # delivered twice by mistake: nothing is doubled
    with pytest.raises(NotFoundError):
        send_spool(uri, run_id, tmp_path / "nothing")


def log_all(writer: RunWriter, steps: range) -> RunWriter:
    for step in steps:
        writer.log_metrics(step, {"loss": step / 10})
    return writer


def test_the_server_may_be_killed_while_points_come(mlflow_server: Mlflow, uri: str, tmp_path: Path) -> None:
    """kill -9 in the middle, 3 s later a new start. A writer that began meanwhile opens its run later by itself."""
    job, late = make_job(), make_job()
    run_id = open_run(uri, job, number=1)
    writer = RunWriter(uri, run_id, tmp_path / "spool")
    slowest = 0.0

    def log_steps(writer: RunWriter, first: int, last: int) -> None:
        nonlocal slowest
        for step in range(first, last):
            begun = time.perf_counter()
            writer.log_metrics(step, {"a": step * 0.1, "b": -step * 0.1})
            slowest = max(slowest, time.perf_counter() - begun)
            time.sleep(0.001)

    log_steps(writer, 1, 1000)
    wait_for(lambda: len(history(uri, run_id, "a")) > 100, 20, "no points arrived")
    logging = threading.Thread(target=log_steps, args=(writer, 1000, 3000))
    logging.start()
    time.sleep(0.3)
    mlflow_server.kill()
    try:
        opener: Callable[[], str] = lambda: open_run(uri, late, number=1)  # noqa: E731
        second = RunWriter(uri, opener, tmp_path / "late")
        second.log_metrics(1, {"a": 1.0})
        writer.log_picture(2000, "samples", PNG)
        time.sleep(3)
        assert second.run_id is None
    finally:
        mlflow_server.start()
    logging.join()
    assert (writer.close(60), second.close(60)) == (None, None)
    assert slowest < 0.5  # the scheduler's, on a busy machine; the benchmark has the median
    for key, sign in (("a", 0.1), ("b", -0.1)):
        assert history(uri, run_id, key) == [(step, step * sign) for step in range(1, 3000)]
    assert pictures_of(uri, run_id) == [("samples", 2000)]
    assert second.run_id is not None
    assert history(uri, second.run_id, "a") == [(1, 1.0)]
    assert len(runs_of(uri, late)) == 1


LOGGING = """
import sys, pathlib, time
from service.tracking import RunWriter
writer = RunWriter(sys.argv[1], sys.argv[2], pathlib.Path(sys.argv[3]))
for step in range(int(sys.argv[4]), 100_000):
    writer.log_metrics(step, {"loss": float(step), "rate": 2.0 * step})
    print(step, flush=True)
    time.sleep(0.002)
"""


def test_the_writer_may_be_killed_and_goes_on_with_its_spool(uri: str, run_id: str, tmp_path: Path) -> None:
    """kill -9 of the training process; the next one resumes at an earlier step with the same spool."""
    spool = tmp_path / "spool"
    last = 0
    for resumed_at in (1, 300):
        process = command.python(LOGGING, uri, run_id, str(spool), str(resumed_at), stdout=subprocess.PIPE)
        assert process.stdout is not None
        with process.stdout:
            for line in process.stdout:
                last = int(line)
                if last >= resumed_at + 900:
                    time.sleep(0.1)  # what is said is on the disk within milliseconds
                    process.kill()
                    break
        assert process.wait(30) == -signal.SIGKILL
    assert log_all(RunWriter(uri, run_id, spool), range(0)).close(30) is None
    for key in ("loss", "rate"):
        counted = Counter(step for step, _ in history(uri, run_id, key))
        assert set(range(1, last)) <= counted.keys()
        assert set(counted.values()) == {1}


def test_a_silent_server_does_not_hold_up_the_end(mlflow_server: Mlflow, uri: str, run_id: str, tmp_path: Path) -> None:
    writer = log_all(RunWriter(uri, run_id, tmp_path / "spool"), range(1, 50))
    wait_for(lambda: len(history(uri, run_id, "loss")) == 49, 20, "not all points arrived")
    mlflow_server.freeze()
    try:
        log_all(writer, range(50, 60))
        begun = time.monotonic()
        left = writer.close(1)
        assert time.monotonic() - begun < 15
    finally:
        mlflow_server.thaw()
    assert left is not None
    send_spool(uri, run_id, left)
    assert [step for step, _ in history(uri, run_id, "loss")] == list(range(1, 60))


def test_errors_name_the_cause(uri: str) -> None:
    def broken(call: Callable[[], object]) -> str:
        with pytest.raises(VaesvcError) as caught:
            call()
        return f"{type(caught.value).__name__}: {caught.value}"

    from service.tracking.server import last_steps

    assert "NotFoundError: could not read run 0" in broken(lambda: last_steps(uri, "0" * 32))
