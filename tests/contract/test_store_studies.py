"""What the queue knows of studies: they may end early, and be given more trials at any time. Both databases."""

from __future__ import annotations

from typing import Any

import pytest

from service.amendments import amend
from service.errors import ConflictError, UsageError
from service.kinds.study.spec import StudySpec, resolve_study
from service.queue.jobs import Job, JobState, spec_sha256
from service.queue.store import Store
from service.wire import AmendRequest, FinishRequest, ProgressReport
from tests.contract.queue_checks import cluster, spec

RUNNER = "runner"


def study(**search: Any) -> StudySpec:
    stage = {
        "name": "rates",
        "space": {"optimizer.lr": {"kind": "log-uniform", "low": 0.001, "high": 0.1}},
        "search": {"kind": "random", "trials": 3} | search,
    }
    return resolve_study({"name": "s", "base": "digits/beta-vae-mlp", "stages": [stage]})


def trials(job: Job) -> int:
    return int(job.spec["study"]["stages"][0]["search"]["trials"])


def running(store: Store, job: Job | None = None, runner: str = RUNNER) -> Job:
    job = job or store.submit(study(), owner="me")
    store.observe_cluster(cluster(4), address="ray", ok=True)
    (attempt,) = [one for one in store.admit() if one.job_id == job.id]
    store.claim(job.id, attempt.number, runner)
    return store.job(job.id)


def finish(store: Store, job_id: str) -> Job:
    return amend(store, job_id, AmendRequest(what="finish"), by="me")


def extend(store: Store, job_id: str, trials: int, *, stage: str | None = None) -> Job:
    return amend(
        store, job_id, AmendRequest.model_validate({"what": "extend", "trials": trials, "stage": stage}), by="me"
    )


def ended(store: Store, job: Job, *, spec: dict[str, Any], runner: str = RUNNER, outcome: str = "succeeded") -> Job:
    request = {"runner_id": runner, "outcome": outcome, "spec_sha256": spec_sha256(spec)}
    return store.finish(job.id, job.attempt, FinishRequest.model_validate(request))


def test_a_study_is_told_to_end_early_until_it_is_extended(store: Store) -> None:
    job = running(store)
    assert not store.progress(job.id, 1, ProgressReport(progress={})).finish
    for _ in range(2):  # asking twice is harmless
        finish(store, job.id)
    assert store.progress(job.id, 1, ProgressReport(progress={})).finish
    assert [event.kind for event in store.events(job.id)].count("stop_requested") == 1
    extend(store, job.id, 5, stage=None)
    assert not store.progress(job.id, 1, ProgressReport(progress={})).finish
    done = ended(store, job, spec=store.job(job.id).spec)
    assert done.state is JobState.SUCCEEDED
    with pytest.raises(ConflictError, match="there is nothing to stop"):
        finish(store, job.id)


def test_what_is_added_while_it_runs_is_trained_by_another_attempt(store: Store) -> None:
    job = running(store)
    extend(store, job.id, 7, stage="rates")
    after = ended(store, job, spec=job.spec)  # the attempt ran the spec that it had
    assert (after.state, after.failures, trials(after)) == (JobState.QUEUED, 0, 7)
    second = running(store, after, "second")
    assert (second.attempt, trials(second)) == (2, 7)
    assert ended(store, second, spec=second.spec, runner="second").state is JobState.SUCCEEDED


@pytest.mark.parametrize("outcome", ["succeeded", "failed"])
def test_a_study_that_is_over_goes_back_into_the_line(store: Store, outcome: str) -> None:
    job = running(store)
    request = FinishRequest.model_validate(
        {"runner_id": RUNNER, "outcome": outcome, "error": "no winner", "retryable": False}
    )
    over = store.finish(job.id, 1, request)
    assert over.state.final
    same = extend(store, job.id, 3, stage=None)
    assert (same.state, trials(same)) == (over.state, 3)  # it has three already
    for _ in range(2):  # repeated calls change nothing
        again = extend(store, job.id, 4, stage=None)
        assert (again.state, trials(again), again.failures) == (JobState.QUEUED, 4, 0)
        assert again.ended_at is None
    assert [event.kind for event in store.events(job.id)].count("extended") == 1


def test_what_cannot_be_extended_or_stopped_says_why(store: Store) -> None:
    grid = study().model_dump(mode="json")
    grid["study"]["stages"][0] |= {"search": {"kind": "grid"}, "space": {"optimizer.lr": [0.1]}}
    job = store.submit(StudySpec.model_validate(grid), owner="me")
    with pytest.raises(UsageError, match=r"does not draw at random.*a grid, or a population, is complete"):
        extend(store, job.id, 9, stage=None)
    with pytest.raises(UsageError, match="stage betas does not draw at random"):
        extend(store, job.id, 9, stage="betas")
    single = store.submit(spec(), owner="me")
    with pytest.raises(ConflictError, match="is of kind train, which cannot finish early"):
        finish(store, single.id)
    with pytest.raises(ConflictError, match="is a training run; to train it for longer"):
        extend(store, single.id, 9)
    with pytest.raises(ConflictError, match="is a study; for more trials: vaesvc study extend"):
        amend(store, job.id, AmendRequest.model_validate({"what": "lengthen", "steps": 3}), by="me")
    with pytest.raises(UsageError, match=r"what: extand is not allowed.*did you mean extend\?"):
        amend(store, job.id, AmendRequest(what="extand"), by="me")
    with pytest.raises(UsageError, match=r"trials: is missing"):
        amend(store, job.id, AmendRequest(what="extend"), by="me")
    store.cancel(job.id, by="me")
    with pytest.raises(ConflictError, match="is CANCELLED: there is nothing to stop"):
        finish(store, job.id)
    one = running(store)
    store.cancel(one.id, by="me")
    with pytest.raises(ConflictError, match="cannot extend a job that is CANCELLING"):
        extend(store, one.id, 9, stage=None)
