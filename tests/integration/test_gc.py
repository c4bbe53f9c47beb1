"""What ended jobs leave in the bucket goes by policy, and what something needs stays. A real S3 server, real SQL."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from service import gc, signing
from service.artifacts import Artifacts
from service.queue.jobs import Checkpoint
from service.queue.store import Store
from tests.contract.queue_checks import cluster, finish, spec, sql

DAY = 86_400.0
LOG, WEIGHTS, PICTURE = b"l" * 1000, b"w" * 5000, b"p" * 200


class Service:
    """A store and a bucket with jobs that are over, and what they left."""

    def __init__(self, folder: Path, artifacts: Artifacts) -> None:
        self.url = f"sqlite:///{folder}/queue.db"
        self.store = Store(self.url)
        self.store.migrate()
        self.store.observe_cluster(cluster(100), address="ray", ok=True)
        self.artifacts = artifacts

    def job(self, *, ended_days_ago: float | None) -> str:
        """Return a job that has trained: over for so long, or running."""
        job_id = self.store.submit(spec(), owner="me").id
        self.store.admit()
        self.store.claim(job_id, 1, "runner")
        for kind, name, data in (
            ("logs", "1.log", LOG), ("checkpoints", "1-5/model.safetensors", WEIGHTS), ("pictures", "x.png", PICTURE),
        ):  # fmt: skip
            self.artifacts.put_bytes(self.artifacts.uri(kind, job_id, name), data, "application/octet-stream")
        kept = Checkpoint(attempt=1, step=5, uri=self.weights(job_id), manifest_sha256="0" * 64, bytes=len(WEIGHTS))
        self.store.commit_checkpoint(job_id, 1, kept)
        if ended_days_ago is not None:
            self.store.finish(job_id, 1, finish())
            self.store.tracked(job_id)
            at = time.time() - ended_days_ago * DAY
            sql(self.url, "UPDATE vaesvc_jobs SET ended_at = :at WHERE id = :id", at=at, id=job_id)
        return job_id

    def weights(self, job_id: str) -> str:
        return self.artifacts.uri("checkpoints", job_id, "1-5")

    def left(self, kind: str) -> set[str]:
        """Return the jobs of which there is something of this kind."""
        root = self.artifacts.uri(kind)
        return {entry.uri.removeprefix(f"{root}/").partition("/")[0] for entry in self.artifacts.list(root)}

    def planned(self, policy: gc.Policy) -> list[tuple[str, str]]:
        return [(item.what, item.name) for item in gc.planned(self.store, self.artifacts, policy)]

    def collect(self, policy: gc.Policy) -> list[str]:
        items = list(gc.planned(self.store, self.artifacts, policy))
        return [item.name for item in gc.collect(self.store, self.artifacts, items)]


@pytest.fixture
def service(artifacts: Artifacts, tmp_path: Path) -> Iterator[Service]:
    storage = artifacts.settings.model_copy(update={"prefix": f"gc-{tmp_path.name}"})
    made = Service(tmp_path, Artifacts(storage))
    yield made
    made.store.close()


def test_what_is_old_goes_and_the_rest_stays(service: Service) -> None:
    old, young = service.job(ended_days_ago=40), service.job(ended_days_ago=10)
    running = service.job(ended_days_ago=None)
    policy = gc.Policy(seconds={"log": 30 * DAY, "checkpoints": 5 * DAY, "pictures": 60 * DAY})
    expected = [("log", old), ("checkpoints", old), ("checkpoints", young)]
    assert service.planned(policy) == expected
    assert service.planned(gc.Policy()) == []
    assert service.left("logs") == {old, young, running}  # planning removes nothing
    assert service.collect(policy) == [name for _, name in expected]
    assert service.left("logs") == {young, running}
    assert service.left("checkpoints") == {running}
    assert service.left("pictures") == {old, young, running}
    assert service.store.checkpoints(young) == ()  # nobody goes on from what is gone
    assert [checkpoint.step for checkpoint in service.store.checkpoints(running)] == [5]
    (said,) = [event for event in service.store.events(young) if event.kind == "collected"]
    assert (said.detail["what"], said.detail["bytes"]) == ("checkpoints", len(WEIGHTS))
    assert service.planned(policy) == []


def test_of_what_is_too_large_in_all_that_of_the_first_to_end_goes_first(service: Service) -> None:
    first, second, third = (service.job(ended_days_ago=days) for days in (3, 2, 1))
    running = service.job(ended_days_ago=None)
    assert service.planned(gc.Policy(bytes={"log": 4 * len(LOG)})) == []
    assert service.collect(gc.Policy(bytes={"log": 2 * len(LOG) + 1})) == [first, second]
    assert service.left("logs") == {third, running}
    assert service.collect(gc.Policy(bytes={"log": 0})) == [third]
    assert service.left("logs") == {running}  # of a job that is not over nothing goes


def test_weights_that_a_model_or_a_waiting_job_needs_stay(service: Service, tmp_path: Path) -> None:
    registered, named, free = (service.job(ended_days_ago=40) for _ in range(3))
    key = signing.read_key(tmp_path / "key")
    statement = {"checkpoint": f"{service.weights(registered)}/"}
    service.store.put_model_version(registered, "m", None, lambda number: key.sign(statement, "application/json"))
    waits = spec().model_copy(update={"notes": service.weights(named)})
    waiting = service.store.submit(waits, owner="me").id
    policy = gc.Policy(seconds={"checkpoints": 0})
    assert service.planned(policy) == [("checkpoints", free)]
    service.store.cancel(waiting, by="me")
    assert sorted(service.planned(policy)) == sorted([("checkpoints", free), ("checkpoints", named)])


def test_a_job_that_goes_on_meanwhile_keeps_what_it_has(service: Service) -> None:
    job_id = service.job(ended_days_ago=40)
    sql(service.url, "UPDATE vaesvc_jobs SET state = 'FAILED' WHERE id = :id", id=job_id)
    items = list(gc.planned(service.store, service.artifacts, gc.Policy(seconds={"checkpoints": 0})))
    assert [item.name for item in items] == [job_id]
    service.store.retry(job_id, by="me")
    assert gc.collect(service.store, service.artifacts, items) == []
    assert service.left("checkpoints") == {job_id}
    assert [checkpoint.step for checkpoint in service.store.checkpoints(job_id)] == [5]


def test_what_is_not_followed_up_yet_stays(service: Service) -> None:
    job_id = service.job(ended_days_ago=40)
    sql(service.url, "UPDATE vaesvc_jobs SET tracked = 0 WHERE id = :id", id=job_id)
    assert service.planned(gc.Policy(seconds={"log": 0})) == []
