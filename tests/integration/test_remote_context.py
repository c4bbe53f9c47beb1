"""A worker's context with a real API and a real S3 server: commits, resumes, outages, fencing. No Ray."""

from __future__ import annotations

import json
import os
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from service.artifacts import Artifacts
from service.attempt.run_context import RunProcess
from service.attempt.uploads import CheckpointUploads, Ready
from service.errors import FencedError, StorageError
from tests.api_server import Api, LossyProxy, running_api, s3_under, settings_in
from tests.attempts import Worker
from tests.servers import Mlflow, Swift, wait_for
from vae_models.measures import Goal
from vae_models.records import Progress
from vae_models.training.errors import Fenced
from vae_models.training.loop import train


@pytest.fixture(scope="module")
def api(artifacts: Artifacts, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Api]:
    s3 = s3_under(artifacts, "context")
    with running_api(settings_in(tmp_path_factory.mktemp("api"), s3=s3, lease_seconds=600)) as running:
        yield running


@pytest.fixture
def worker(api: Api, tmp_path: Path) -> Iterator[Worker]:
    found = Worker(api, tmp_path)
    yield found
    found.close()


def steps(worker: Worker) -> list[int]:
    return [one.step for one in worker.api.store.checkpoints(worker.attempt.job_id)]


def test_a_run_commits_what_retention_keeps_and_deletes_the_rest(worker: Worker) -> None:
    process = worker.open()
    result = train(worker.spec.train, process.context)
    said = process.close()
    kept = worker.api.store.checkpoints(worker.attempt.job_id)
    assert (result.steps, kept[0].step) == (40, 40)
    assert kept[0].metrics["val/elbo"] == pytest.approx(result.metrics["val/elbo"])
    stored = {item.uri.split("/")[-2] for item in process.artifacts.list(process.artifacts.uri("checkpoints"))}
    assert stored == {one.uri.rstrip("/").split("/")[-1] for one in kept}
    assert not list(process.context.scratch.glob("*checkpoint*"))  # nothing is left on the worker's disk
    assert set(said["pictures"]) == {"reconstructions", "samples", "draws"}
    assert process.artifacts.get_bytes(said["pictures"]["samples"]).startswith(b"\x89PNG")
    wait_for(lambda: worker.api.store.job(worker.attempt.job_id).progress.get("step") == 40, 5, "no progress")


def test_the_next_attempt_goes_on_and_ends_the_same(api: Api, worker: Worker, tmp_path: Path) -> None:
    """Interrupted after 23 steps, gone on with in another attempt from step 20; against a run in one go."""
    whole = Worker(api, tmp_path / "whole")
    try:
        process = whole.open()
        train(whole.spec.train, process.context)
        process.close()
        expected = whole_files(whole)
    finally:
        whole.close()

    first = worker.open()

    class Killed(Exception):  # noqa: N818
        pass

    real = first.context.progress

    def progress(at: Progress) -> None:
        if at.step >= 23:
            raise Killed
        real(at)

    first.context.progress = progress  # type: ignore[assignment, method-assign]
    first.context.stop_requested = lambda: time.sleep(0.001) or False  # type: ignore[method-assign,func-returns-value]
    with pytest.raises(Killed):
        _train_polling_often(worker, first)
    wait_for(lambda: 20 in steps(worker), 20, "step 20 is not committed")
    first.abandon()
    worker.lose()
    wait_for(lambda: api.store.job(worker.attempt.job_id).not_before <= time.time(), 10, "the backoff does not end")
    second = Worker(api, tmp_path / "second", job_id=worker.attempt.job_id)
    try:
        process = second.open()
        resumed = process.context.latest_checkpoint()
        assert resumed is not None
        assert json.loads((resumed / "manifest.json").read_bytes())["step"] == 20
        train(second.spec.train, process.context)
        process.close()
        assert whole_files(second) == expected
    finally:
        second.close()


def _train_polling_often(worker: Worker, process: RunProcess) -> None:
    """The loop asks about once a second; these runs are over before that."""
    from vae_models.training import polling

    before, polling.Poller._decide = polling.Poller._decide, lambda self: [int(self._ask()), 1]  # type: ignore[method-assign]
    try:
        train(worker.spec.train, process.context)
    finally:
        polling.Poller._decide = before  # type: ignore[method-assign]


def whole_files(worker: Worker) -> dict[str, str]:
    """SHA-256 of the last checkpoint's tensors."""
    last = worker.api.store.checkpoints(worker.attempt.job_id)[0]
    manifest = json.loads(Artifacts(worker.api.settings.storage()).get_bytes(f"{last.uri.rstrip('/')}/manifest.json"))
    return {name: file["sha256"] for name, file in manifest["files"].items() if name.endswith(".safetensors")}


def test_a_corrupt_checkpoint_is_passed_over_and_said(worker: Worker, capsys: pytest.CaptureFixture[str]) -> None:
    process = worker.open()
    train(worker.spec.train, process.context)
    process.close()
    newest, before = worker.api.store.checkpoints(worker.attempt.job_id)[:2]
    target = f"{newest.uri.rstrip('/')}/model.safetensors"
    data = bytearray(process.artifacts.get_bytes(target))
    data[len(data) // 2] ^= 1
    process.artifacts.put_bytes(target, bytes(data))

    again = worker.open()
    found = again.context.latest_checkpoint()
    assert found is not None
    assert json.loads((found / "manifest.json").read_bytes())["step"] == before.step
    assert again.reports is not None
    assert len(again.reports.notes) == 1
    assert f"step {newest.step} is not used" in again.reports.notes[0]
    assert "expected SHA-256" in again.reports.notes[0]
    assert again.reports.notes[0] in capsys.readouterr().out


def test_ranks_of_one_machine_download_once(worker: Worker) -> None:
    process = worker.open()
    train(worker.spec.train, process.context)
    process.close()
    newest = worker.api.store.checkpoints(worker.attempt.job_id)[0]
    ranks = [worker.open(rank) for rank in (1, 2, 3)]
    found: list[Path] = []
    threads = [
        threading.Thread(target=lambda c=rank: found.append(c._copies.fetch(newest.uri, newest.manifest_sha256)))
        for rank in ranks
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert len(found) == 3
    assert len({(path, (path / "model.safetensors").stat().st_ino) for path in found}) == 1


def test_storage_that_is_away_holds_up_nothing(swift: Swift, worker: Worker, tmp_path: Path) -> None:
    """Training ends while the server is frozen; what waited is committed when it is back."""
    process = worker.open()
    process.artifacts.patience_seconds = 1.0
    swift.freeze()
    try:
        result = train(worker.spec.train, process.context)
        assert result.steps == 40
        assert steps(worker) == []
        thaw = threading.Timer(3.0, swift.thaw)
        thaw.start()
        process.close()
        thaw.join()
    finally:
        swift.thaw()
    assert steps(worker)[0] == 40


def test_a_bucket_that_is_gone_ends_the_run_and_says_so(worker: Worker) -> None:
    process = worker.open()
    process.artifacts.settings = process.artifacts.settings.model_copy(update={"bucket": "no-such-bucket"})

    def run() -> None:  # whether training or its end comes first to know it is a matter of speed
        train(worker.spec.train, process.context)
        process.close()

    with pytest.raises(StorageError, match="bucket does not exist"):
        run()


def test_a_superseded_attempt_stops_and_leaves_nothing(worker: Worker) -> None:
    process = worker.open()
    train(worker.spec.train, process.context)
    process.close()
    before = steps(worker)
    stored = len(process.artifacts.list(process.artifacts.uri("checkpoints", worker.attempt.job_id)))
    late = worker.open()
    late.context.progress(Progress(step=40, total_steps=40, epoch=1.0))
    worker.lose()
    wait_for(lambda: _fenced(late), 5, "it does not notice")
    directory = _copy_of_last(worker, late)
    with pytest.raises(Fenced):
        late.context.save_checkpoint(50, directory, {})
    assert steps(worker) == before
    assert len(process.artifacts.list(process.artifacts.uri("checkpoints", worker.attempt.job_id))) == stored


def test_an_upload_that_is_fenced_takes_its_files_back(worker: Worker) -> None:
    process = worker.open()
    train(worker.spec.train, process.context)
    process.close()
    directory = _copy_of_last(worker, process)
    worker.lose()
    client = worker.access.client(retry_seconds=1)
    uploads = CheckpointUploads(
        process.artifacts, client, job_id=worker.attempt.job_id, number=1, goal=Goal(), say=print
    )
    prefix = process.artifacts.uri("checkpoints", worker.attempt.job_id)
    before = {item.uri for item in process.artifacts.list(prefix)}
    uploads.add(Ready(step=50, directory=directory, metrics={}))
    with pytest.raises(FencedError, match="over"):
        uploads.close(20)
    assert {item.uri for item in process.artifacts.list(prefix)} == before


def _fenced(process: RunProcess) -> bool:
    try:
        return process.context.stop_requested()
    except Fenced:
        return True


def _copy_of_last(worker: Worker, process: RunProcess) -> Path:
    last = worker.api.store.checkpoints(worker.attempt.job_id)[0]
    return process.artifacts.get_directory(last.uri, process.context.scratch / "again", last.manifest_sha256)


def test_while_storage_is_away_the_newest_and_the_best_wait(tmp_path: Path, worker: Worker) -> None:
    process = worker.open()
    client = worker.access.client(retry_seconds=1)
    uploads = CheckpointUploads(process.artifacts, client, job_id="j", number=1, goal=Goal(), say=print)
    uploads._busy = True  # as if one was on its way
    waiting: list[Ready] = []
    for step, elbo in ((1, -5.0), (2, -1.0), (3, -3.0), (4, float("nan")), (5, -9.0)):
        directory = tmp_path / str(step)
        directory.mkdir()
        waiting = uploads._trim([*waiting, Ready(step=step, directory=directory, metrics={"val/elbo": elbo})])
    assert [one.step for one in waiting] == [2, 5]
    assert sorted(path.name for path in tmp_path.iterdir() if path.name.isdigit()) == ["2", "5"]


def test_a_cancel_is_heard_within_seconds(worker: Worker) -> None:
    process = worker.open()
    process.context.progress(Progress(step=1, total_steps=40, epoch=0.1))
    assert not process.context.stop_requested()
    worker.api.store.cancel(worker.attempt.job_id, by="ann")
    wait_for(process.context.stop_requested, 4, "the cancel is not heard")


def test_an_api_that_is_away_for_a_while_costs_nothing(worker: Worker) -> None:
    proxy = LossyProxy(worker.api.url, lose=4)  # answers get lost, requests do not
    try:
        process = worker.open(url=proxy.url)
        train(worker.spec.train, process.context)
        process.close()
    finally:
        proxy.close()
    assert proxy.lose == 0
    assert steps(worker)[0] == 40
    assert len(steps(worker)) == len(set(steps(worker)))


def test_metrics_that_mlflow_did_not_take_go_to_storage(
    api: Api, tmp_path: Path, mlflow_server: Mlflow, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("service.attempt.run_context._MLFLOW_SECONDS", 1.0)
    worker = Worker(api, tmp_path, mlflow_uri=mlflow_server.uri)
    mlflow_server.freeze()
    try:
        process = worker.open()
        train(worker.spec.train, process.context)
        said = process.close()
    finally:
        mlflow_server.thaw()
        worker.close()
    assert said["run_id"] is None
    (spool,) = process.artifacts.list(process.artifacts.uri("spool", worker.attempt.job_id))
    assert b"train/loss" in process.artifacts.get_bytes(spool.uri)


def test_two_attempts_never_share_an_address(worker: Worker) -> None:
    """A worker that was thought dead may still write: into a place of its own."""
    first, second = worker.open(), worker.open()
    for process in (first, second):
        train(worker.spec.train, process.context)
        process.close()
    addresses = [one.uri for one in worker.api.store.checkpoints(worker.attempt.job_id)]
    assert len(addresses) == len(set(addresses))
    assert all(os.path.basename(uri.rstrip("/")).startswith("1-") for uri in addresses)
