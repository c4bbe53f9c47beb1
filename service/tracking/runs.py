"""One MLflow run per job, the same for all its attempts, found again by a tag; below a study's, one for each trial."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from service.errors import ConflictError, NotFoundError, UnavailableError, UsageError
from service.queue.jobs import Job, JobState
from service.tracking import describe
from service.tracking.describe import TrialRun
from service.tracking.server import PAGE, PARAMS_PER_CALL, all_pages, client, explained, now_ms, patiently

PATIENCE = 10.0  # seconds; who can wait longer calls again
SETTLE = 0.3  # seconds in which another process that opened the same run has written it; on a busy server more:
SETTLE_TIMES = 10  # as long as our own request took, at most
SETTLE_MOST = 5.0  # seconds

STATUS = {JobState.SUCCEEDED: "FINISHED", JobState.FAILED: "FAILED", JobState.CANCELLED: "KILLED"}
ENDED = frozenset(STATUS.values())
STATE = "vaesvc.state"  # how a trial ended


def open_run(
    mlflow_uri: str,
    job: Job,
    *,
    epoch: int,
    params: Mapping[str, Any] | None = None,
    tags: Mapping[str, Any] | None = None,
) -> str:
    """The job's run, created unless it is there, and running (again).

    params, tags: in addition to what the job says about itself (`describe`). Several processes that create it at once
    get the same run, and delete their own. MLflow has nothing that is unique, so they wait a moment for each other; who
    is later than that leaves a second run, which `end_run` removes: the queue knows which one the attempt reported.
    """
    return patiently(lambda: _open_run(mlflow_uri, job, epoch, dict(params or {}), dict(tags or {})), PATIENCE)


def end_run(mlflow_uri: str, job: Job, status: JobState | str | None = None) -> str | None:
    """Close the job's run, as the job ended. Repeating it changes nothing. The run's id; None if there never was one.

    Duplicates, which a crash at a bad moment may leave, are deleted: nobody writes to them any more.
    status: the job's state unless it is given, as a state or in MLflow's words (FINISHED, FAILED, KILLED).
    """
    wanted = status or job.state
    word = STATUS[wanted] if isinstance(wanted, JobState) else wanted
    return patiently(lambda: _end_run(mlflow_uri, job, word), PATIENCE)


def find_run(mlflow_uri: str, job: Job) -> str | None:
    """The job's run, if there is one."""
    return _id(_runs(mlflow_uri, describe.JOB_ID, job.id), job.run_id)


def open_trial(mlflow_uri: str, job: Job, trial: TrialRun, *, epoch: int) -> str:
    """The child run of a study's trial, created unless it is there, and running (again). The study's run is opened
    before: UnavailableError where it is not there yet."""

    def once() -> str:
        parent = find_run(mlflow_uri, job)
        if parent is None:
            raise UnavailableError(f"the run of study {job.id} is not open yet")
        wanted = _Wanted(
            tag=describe.TRIAL,
            value=trial.id(job),
            name=describe.trial_name(trial),
            tags=describe.trial_tags(job, trial, epoch, parent),
            params=describe.trial_params(trial),
        )
        return _open(mlflow_uri, job, wanted)

    return patiently(once, PATIENCE)


def end_trial(mlflow_uri: str, run_id: str, state: str) -> None:
    """Close a trial's run as the trial ended: done, pruned, failed; anything else was stopped. Harmless to repeat."""

    def once() -> None:
        door = client(mlflow_uri)
        word = {"done": "FINISHED", "failed": "FAILED"}.get(state, "KILLED")
        with explained(mlflow_uri, f"end run {run_id}"):
            run = door.get_run(run_id)
            if run.data.tags.get(STATE) != state:
                door.set_tag(run_id, STATE, state)
            if run.info.status != word:
                door.set_terminated(run_id, status=word, end_time=now_ms())

    patiently(once, PATIENCE)


def open_trials(mlflow_uri: str, job: Job) -> dict[tuple[str, str], str]:
    """Of a study that is over: (stage, key of the trial) -> id of the child runs that are not closed. A trial's
    duplicates are deleted, as `end_run` does."""
    trials: dict[tuple[str, str], list[Any]] = {}
    for run in patiently(lambda: _runs(mlflow_uri, describe.STUDY, job.id), PATIENCE):
        trials.setdefault((run.data.tags["vaesvc.stage"], run.data.tags["vaesvc.key"]), []).append(run)
    found = {}
    for trial, runs in trials.items():
        first = next((run for run in runs if run.info.status in ENDED), runs[0])
        _delete(mlflow_uri, [run for run in runs if run is not first])
        if first.info.status not in ENDED:
            found[trial] = str(first.info.run_id)
    return found


@dataclass(frozen=True, kw_only=True)
class _Wanted:
    """A run that shall be there once: the one whose `tag` has this value."""

    tag: str
    value: str
    name: str
    tags: Mapping[str, str]
    params: Mapping[str, str]
    known: str | None = None  # its id, as far as that is known


def _id(runs: list[Any], known: str | None) -> str | None:
    """Of the run that counts: the one that is known, else the oldest."""
    ids = [str(run.info.run_id) for run in runs]
    return known if known in ids else next(iter(ids), None)


def _delete(uri: str, runs: list[Any]) -> None:
    for run in runs:
        with (
            contextlib.suppress(UsageError, NotFoundError),  # somebody else was faster
            explained(uri, f"delete the duplicate run {run.info.run_id}"),
        ):
            client(uri).delete_run(run.info.run_id)


def _open_run(uri: str, job: Job, epoch: int, params: dict[str, Any], tags: dict[str, Any]) -> str:
    wanted = _Wanted(
        tag=describe.JOB_ID,
        value=job.id,
        name=describe.run_name(job),
        tags=describe.tags(job, epoch) | {key: str(value)[: describe.TAG_LENGTH] for key, value in tags.items()},
        params=describe.params(job) | {key: str(value)[: describe.PARAM_LENGTH] for key, value in params.items()},
        known=job.run_id,
    )
    return _open(uri, job, wanted)


def _open(uri: str, job: Job, wanted: _Wanted) -> str:
    door = client(uri)
    began = time.monotonic()
    runs, ours = _runs(uri, wanted.tag, wanted.value), None
    if not runs:
        experiment = _experiment(uri, job)
        began = time.monotonic()
        with explained(uri, f"create the run {wanted.name!r}"):
            ours = door.create_run(experiment, start_time=now_ms(), tags=dict(wanted.tags), run_name=wanted.name)
    if not _settled(runs, wanted.known):
        time.sleep(min(SETTLE_MOST, max(SETTLE, SETTLE_TIMES * (time.monotonic() - began))))
        runs = _runs(uri, wanted.tag, wanted.value)
    run_id = _id(runs, wanted.known)
    if run_id is None:
        raise NotFoundError(f"the run {wanted.name!r} was deleted while it was opened")
    if ours is None:
        with explained(uri, f"open run {run_id} again"):
            door.update_run(run_id, status="RUNNING")
    elif run_id != ours.info.run_id:  # nobody else's is touched: it may be written to
        _delete(uri, [ours])
    _describe(uri, run_id, wanted.params, wanted.tags)
    return run_id


def _settled(runs: list[Any], known: str | None) -> bool:
    """Whether it is sure which of them counts: the known one, or the oldest where none is so young that others may be
    on their way."""
    if any(run.info.run_id == known for run in runs):
        return True
    return bool(runs) and now_ms() - max(run.info.start_time for run in runs) > 1000 * SETTLE_MOST


def _describe(uri: str, run_id: str, params: Mapping[str, str], tags: Mapping[str, str]) -> None:
    door = client(uri)
    from mlflow.entities import RunTag

    changed = [RunTag(key, value) for key, value in tags.items()]
    with explained(uri, f"tag run {run_id}"):
        for start in range(0, len(changed), PARAMS_PER_CALL):
            door.log_batch(run_id, tags=changed[start : start + PARAMS_PER_CALL])
    try:
        _add_params(uri, run_id, params)
    except UsageError:  # another process added some of them at the same moment: only what is still lacking then
        _add_params(uri, run_id, params)


def _add_params(uri: str, run_id: str, params: Mapping[str, str]) -> None:
    """Params are for ever: those that are there stay as they are."""
    door = client(uri)
    from mlflow.entities import Param

    with explained(uri, f"describe run {run_id}"):
        there = door.get_run(run_id).data.params
        new = [Param(key, value) for key, value in params.items() if key not in there]
        for start in range(0, len(new), PARAMS_PER_CALL):
            door.log_batch(run_id, params=new[start : start + PARAMS_PER_CALL])


def _end_run(uri: str, job: Job, word: str) -> str | None:
    runs = _runs(uri, describe.JOB_ID, job.id)
    run_id = _id(runs, job.run_id)
    if run_id is None:
        return None
    _delete(uri, [run for run in runs if run.info.run_id != run_id])
    door = client(uri)
    with explained(uri, f"end run {run_id}"):
        if door.get_run(run_id).info.status != word:
            end = int(job.ended_at * 1000) if job.ended_at else now_ms()
            door.set_terminated(run_id, status=word, end_time=end)
    return run_id


def _runs(uri: str, tag: str, value: str) -> list[Any]:
    """The runs whose `tag` has this value, oldest first."""
    door = client(uri)
    where = f"tags.`{tag}` = '{value}'"
    with explained(uri, f"look for the runs of {value}"):
        experiments = all_pages(lambda token: door.search_experiments(max_results=PAGE, page_token=token))
        ids = [experiment.experiment_id for experiment in experiments]
        runs = all_pages(lambda token: door.search_runs(ids, where, max_results=PAGE, page_token=token)) if ids else []
    return sorted(runs, key=lambda run: (run.info.start_time, run.info.run_id))


def _experiment(uri: str, job: Job) -> str:
    name = describe.experiment_name(job.spec)
    door = client(uri)
    with explained(uri, f"find the experiment {name!r}"):
        found = door.get_experiment_by_name(name)
        if found is not None and found.lifecycle_stage == "deleted":
            door.restore_experiment(found.experiment_id)
    if found is not None:
        return str(found.experiment_id)
    note = (
        f"{describe.data_name(job.spec)}; nats per datum of a {describe.measure(job.spec)}. Comparable with each other."
    )
    try:
        with explained(uri, f"create the experiment {name!r}"):
            return str(door.create_experiment(name, tags={"mlflow.note.content": note}))
    except ConflictError:  # another job was faster
        return _experiment(uri, job)
