"""What the queue is told of a job's kind is data: of jobs of before, and of kinds that are not installed. Both
databases."""

from __future__ import annotations

import importlib

import pytest

from service import kinds
from service.amendments import amend
from service.errors import ConflictError
from service.kinds.study.spec import resolve_study
from service.kinds.train.spec import resolve
from service.queue.database import VERSION_TABLE
from service.queue.jobs import Checkpoint, Job, JobState
from service.queue.store import Store
from service.wire import AmendRequest, FinishRequest, ProgressReport
from tests.contract.queue_checks import before_lanes, cluster, sql

STUDY = {
    "name": "s",
    "base": "digits/beta-vae-mlp",
    "stages": [{"name": "rates", "space": {"optimizer.lr": [0.1, 0.01]}}],
}
BY_DISTORTION = ("checkpoint.metric=val/distortion", "checkpoint.keep_best=2", "schedule.kind=constant")


def running(store: Store, job: Job) -> None:
    store.observe_cluster(cluster(8), address="ray", ok=True)
    store.admit()
    store.claim(job.id, 1, f"runner of {job.id}")


def ended(store: Store, job: Job, outcome: str = "succeeded") -> Job:
    request = {"runner_id": f"runner of {job.id}", "outcome": outcome}
    return store.finish(job.id, 1, FinishRequest.model_validate(request))


def commit(store: Store, job: Job, step: int, distortion: float) -> tuple[int, ...]:
    checkpoint = Checkpoint(
        attempt=1, step=step, uri=f"s3://b/{job.id}/{step}/", manifest_sha256="0" * 64, bytes=1,
        metrics={"val/distortion": distortion, "val/elbo": -distortion / 2},
    )  # fmt: skip
    return tuple(kept.step for kept in store.commit_checkpoint(job.id, 1, checkpoint).kept)


def as_before(database: str) -> None:
    """The database as the version before left it."""
    before_lanes(database)
    migration = importlib.import_module("service.queue.migrations.versions.0006_policy")
    sql(database, "ALTER TABLE vaesvc_jobs DROP COLUMN policy")
    sql(database, f"UPDATE {VERSION_TABLE} SET version_num = '{migration.down_revision}'")


def test_jobs_of_before_an_upgrade_go_on_as_they_would_have(store: Store, database: str) -> None:
    run = store.submit(resolve("digits/beta-vae-mlp", BY_DISTORTION), owner="me")
    study = store.submit(resolve_study(STUDY), owner="me")
    told = sql(database, "SELECT policy FROM vaesvc_jobs ORDER BY id")
    as_before(database)
    store.migrate()
    assert sql(database, "SELECT policy FROM vaesvc_jobs ORDER BY id") == told
    running(store, run)
    kept = [commit(store, run, step, distortion) for step, distortion in ((1, 9.0), (2, 5.0), (3, 7.0), (4, 8.0))]
    assert kept == [(1,), (2, 1), (3, 2, 1), (4, 3, 2)]  # the last one, and the two smallest of those before it
    assert [checkpoint.step for checkpoint in store.checkpoints(run.id) if checkpoint.best] == [2]
    store.claim(study.id, 1, f"runner of {study.id}")
    amend(store, study.id, AmendRequest(what="finish"), by="me")
    assert store.progress(study.id, 1, ProgressReport(progress={})).finish
    assert ended(store, run).state is JobState.SUCCEEDED
    longer = AmendRequest.model_validate({"what": "lengthen", "steps": 10**6})
    assert amend(store, run.id, longer, by="me").state is JobState.QUEUED


def test_a_kind_that_is_not_installed_runs_by_the_default(store: Store) -> None:
    code = {"digest": "a" * 64, "name": "counting", "version": "1"}
    spec = kinds.resolve({"kind": "count", "name": "mine", "of": {"deep": [1, 2]}, "code": code})
    job = store.submit(spec, owner="me")
    assert (job.kind, job.spec["of"]) == ("count", {"deep": [1, 2]})
    running(store, job)
    assert [commit(store, job, step, 1.0) for step in (1, 2, 3)] == [(1,), (2, 1), (3, 2)]
    for what, said in (("finish", "cannot finish early"), ("lengthen", "is a job of kind count")):
        with pytest.raises(ConflictError, match=said):
            amend(store, job.id, AmendRequest(what=what), by="me")
    assert ended(store, job).state is JobState.SUCCEEDED
    with pytest.raises(ConflictError, match=r"is SUCCEEDED: there is nothing to try again$"):
        store.retry(job.id, by="me")


def test_a_run_that_is_over_says_how_it_may_be_longer(store: Store) -> None:
    job = store.submit(resolve("digits/beta-vae-mlp"), owner="me")
    running(store, job)
    longer = AmendRequest.model_validate({"what": "lengthen", "steps": 10**6})
    with pytest.raises(ConflictError, match="is RUNNING: it can be given more to do when it is over"):
        amend(store, job.id, longer, by="me")
    ended(store, job)
    with pytest.raises(ConflictError, match=rf"to train it for longer.*vaesvc retry {job.id} --set epochs=N"):
        store.retry(job.id, by="me")
