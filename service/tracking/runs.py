"""One MLflow run per job, the same for all its attempts, found again by a tag; below a study's, one for each trial."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from service import kinds
from service.errors import NotFoundError, UnavailableError, UsageError
from service.queue.jobs import Job, JobState
from service.tracking import describe, notes
from service.tracking.dataset import dataset
from service.tracking.describe import TrialRun
from service.tracking.experiments import find_experiment, make_experiment
from service.tracking.server import PAGE, PARAMS_PER_CALL, all_pages, client, explained, now_ms, patiently

PATIENCE = 10.0  # seconds; who can wait longer calls again
SETTLE = 0.3  # seconds in which another process that opened the same run has written it; on a busy server more:
SETTLE_TIMES = 10  # as long as our own request took, at most
SETTLE_MOST = 5.0  # seconds

STATUS = {JobState.SUCCEEDED: "FINISHED", JobState.FAILED: "FAILED", JobState.CANCELLED: "KILLED"}
ENDED = frozenset(STATUS.values())
STATE = "vaesvc.state"  # how a trial ended
KEPT = frozenset({notes.NOTE})  # tags that belong to whoever edits them: never written again


def open_run(
    mlflow_uri: str,
    job: Job,
    *,
    number: int,
    params: Mapping[str, Any] | None = None,
    tags: Mapping[str, Any] | None = None,
) -> str:
    """Return the job's run, created unless it exists, and running (again).

    params, tags: in addition to what the job says about itself (`describe`). Several processes that create it at once
    get the same run, and delete their own. MLflow has nothing that is unique, so they wait a moment for each other; who
    is later than that leaves a second run, which `end_run` removes: the queue knows which one the attempt reported.
    """
    return patiently(lambda: _open_run(mlflow_uri, job, number, dict(params or {}), dict(tags or {})), PATIENCE)


def end_run(mlflow_uri: str, job: Job, status: JobState | str | None = None) -> str | None:
    """Close the job's run, as the job ended. Repeating it changes nothing. Return its id; None if there never was one.

    Duplicates, which a crash at a bad moment may leave, are deleted: nobody writes to them any more.
    status: the job's state unless it is given, as a state or in MLflow's words (FINISHED, FAILED, KILLED).
    """
    wanted = status or job.state
    word = STATUS[wanted] if isinstance(wanted, JobState) else wanted
    return patiently(lambda: _end_run(mlflow_uri, job, word), PATIENCE)


def find_run(mlflow_uri: str, job: Job) -> str | None:
    """Return the job's run, if there is one."""
    return _id(_of_job(mlflow_uri, job, older=job.attempt > 1), job.run_id)


def find_trial(mlflow_uri: str, job: Job, stage: str, number: str) -> str | None:
    """Return the child run of a study's trial, if there is one. number: of the trial in its stage, as text."""
    key = _Key(owner=describe.trials_of(job), tag=describe.STUDY, value=job.id)
    runs = _runs(mlflow_uri, find_experiment(mlflow_uri, job), key, older=True)
    tags = {"vaesvc.stage": stage, "vaesvc.trial": number}
    return _id([run for run in runs if all(run.data.tags.get(tag) == text for tag, text in tags.items())], None)


def open_trial(mlflow_uri: str, job: Job, trial: TrialRun, *, number: int) -> str:
    """Return the child run of a study's trial, created unless it exists, and running (again). The study's run is opened
    before: raises UnavailableError where it does not exist yet."""

    def once() -> str:
        parent = find_run(mlflow_uri, job)
        if parent is None:
            raise UnavailableError(f"the run of study {job.id} is not open yet")
        wanted = _Wanted(
            key=_Key(owner=trial.id(job), tag=describe.TRIAL, value=trial.id(job)),
            name=describe.trial_name(trial),
            tags=describe.trial_tags(job, trial, number, parent),
            params=describe.trial_params(trial),
            data=dataset(trial.config["data"], describe.data_name(trial.config)),
        )
        return _open(mlflow_uri, job, wanted)

    return patiently(once, PATIENCE)


def end_trial(mlflow_uri: str, run_id: str, state: str) -> None:
    """Close a trial's run as the trial ended: done, pruned, failed; anything else was stopped. Harmless to repeat."""

    def once() -> None:
        mlflow = client(mlflow_uri)
        word = {"done": "FINISHED", "failed": "FAILED"}.get(state, "KILLED")
        with explained(mlflow_uri, f"end run {run_id}"):
            run = mlflow.get_run(run_id)
            if run.data.tags.get(STATE) != state:
                mlflow.set_tag(run_id, STATE, state)
            if run.info.status != word:
                mlflow.set_terminated(run_id, status=word, end_time=now_ms())

    patiently(once, PATIENCE)


def open_trials(mlflow_uri: str, job: Job) -> dict[tuple[str, str], str]:
    """Return (stage, key of the trial) -> id of the child runs that are not closed, of a study that is over. A trial's
    duplicates are deleted, as `end_run` does."""
    trials: dict[tuple[str, str], list[Any]] = {}
    key = _Key(owner=describe.trials_of(job), tag=describe.STUDY, value=job.id)
    for run in patiently(lambda: _runs(mlflow_uri, find_experiment(mlflow_uri, job), key, older=True), PATIENCE):
        trials.setdefault((run.data.tags["vaesvc.stage"], run.data.tags["vaesvc.key"]), []).append(run)
    run_ids = {}
    for trial, runs in trials.items():
        first = next((run for run in runs if run.info.status in ENDED), runs[0])
        _delete(mlflow_uri, [run for run in runs if run is not first])
        if first.info.status not in ENDED:
            run_ids[trial] = str(first.info.run_id)
    return run_ids


@dataclass(frozen=True, kw_only=True)
class _Key:
    """How runs are found: by `describe.handle(owner)`; those that an earlier version made by `tag` = `value`."""

    owner: str
    tag: str
    value: str


@dataclass(frozen=True, kw_only=True)
class _Wanted:
    """A run that shall exist once. data: the fields of its data set, if it has one."""

    key: _Key
    name: str
    tags: Mapping[str, str]
    params: Mapping[str, str]
    data: Mapping[str, str] | None
    known: str | None = None  # its id, as far as that is known


def _id(runs: list[Any], known: str | None) -> str | None:
    """Return the id of the run that counts: the one that is known, else the oldest."""
    ids = [str(run.info.run_id) for run in runs]
    return known if known in ids else next(iter(ids), None)


def _delete(uri: str, runs: list[Any]) -> None:
    for run in runs:
        with (
            contextlib.suppress(UsageError, NotFoundError),  # somebody else was faster
            explained(uri, f"delete the duplicate run {run.info.run_id}"),
        ):
            client(uri).delete_run(run.info.run_id)


def _open_run(uri: str, job: Job, number: int, params: dict[str, Any], tags: dict[str, Any]) -> str:
    config = kinds.config(job.spec)
    wanted = _Wanted(
        key=_job_key(job),
        name=describe.run_name(job),
        tags=describe.tags(job, number) | {key: str(value)[: describe.TAG_LENGTH] for key, value in tags.items()},
        params=describe.params(job) | {key: str(value)[: describe.PARAM_LENGTH] for key, value in params.items()},
        data=dataset(config["data"], describe.data_name(config)) if config else None,
        known=job.run_id,
    )
    return _open(uri, job, wanted)


def _open(uri: str, job: Job, wanted: _Wanted) -> str:
    mlflow = client(uri)
    experiment, older = make_experiment(uri, job), job.attempt > 1
    began = time.monotonic()
    runs, ours = _runs(uri, experiment, wanted.key, wanted.known, older=older), None
    if not runs:
        began = time.monotonic()
        with explained(uri, f"create the run {wanted.name!r}"):
            ours = mlflow.create_run(experiment, start_time=now_ms(), tags=dict(wanted.tags), run_name=wanted.name)
    if not _settled(runs, wanted.known):
        time.sleep(min(SETTLE_MOST, max(SETTLE, SETTLE_TIMES * (time.monotonic() - began))))
        runs = _runs(uri, experiment, wanted.key, wanted.known, older=older)
    run_id = _id(runs, wanted.known)
    if run_id is None:
        raise NotFoundError(f"the run {wanted.name!r} was deleted while it was opened")
    if ours is None:
        with explained(uri, f"open run {run_id} again"):
            mlflow.update_run(run_id, status="RUNNING")
    elif run_id != ours.info.run_id:  # nobody else's is touched: it may be written to
        _delete(uri, [ours])
    _describe(uri, next(run for run in runs if run.info.run_id == run_id), wanted)
    return run_id


def _settled(runs: list[Any], known: str | None) -> bool:
    """Return whether it is certain which of them counts: the known one, or the oldest where none is so young that
    others may be on their way."""
    if any(run.info.run_id == known for run in runs):
        return True
    return bool(runs) and now_ms() - max(run.info.start_time for run in runs) > 1000 * SETTLE_MOST


def _describe(uri: str, run: Any, wanted: _Wanted) -> None:
    """Set what `run`, as it was just read, lacks of its description."""
    server, run_id = client(uri), run.info.run_id
    from mlflow.entities import RunTag

    there = run.data.tags
    new = {key: value for key, value in wanted.tags.items() if there.get(key) != value}
    changed = [RunTag(key, value) for key, value in new.items() if key not in KEPT or key not in there]
    with explained(uri, f"tag run {run_id}"):
        for start in range(0, len(changed), PARAMS_PER_CALL):
            server.log_batch(run_id, tags=changed[start : start + PARAMS_PER_CALL])
    if wanted.data is not None and not run.inputs.dataset_inputs:
        _add_data(uri, run_id, wanted.data)
    try:
        _add_params(uri, run_id, wanted.params, run.data.params)
    except UsageError:  # another process added some of them at the same moment: only what is still lacking then
        with explained(uri, f"read run {run_id}"):
            there = server.get_run(run_id).data.params
        _add_params(uri, run_id, wanted.params, there)


def _add_data(uri: str, run_id: str, fields: Mapping[str, str]) -> None:
    """Log the data set that the run trains on. MLflow keeps the same one of a run once."""
    server = client(uri)
    from mlflow.entities import Dataset, DatasetInput, InputTag

    used = DatasetInput(Dataset(**fields), [InputTag("mlflow.data.context", "training")])
    with explained(uri, f"name the data of run {run_id}"):
        server.log_inputs(run_id, [used])


def _add_params(uri: str, run_id: str, params: Mapping[str, str], there: Mapping[str, str]) -> None:
    """Log the params that are missing: those that exist cannot be changed."""
    server = client(uri)
    from mlflow.entities import Param

    new = [Param(key, value) for key, value in params.items() if key not in there]
    with explained(uri, f"describe run {run_id}"):
        for start in range(0, len(new), PARAMS_PER_CALL):
            server.log_batch(run_id, params=new[start : start + PARAMS_PER_CALL])


def _end_run(uri: str, job: Job, word: str) -> str | None:
    runs = _of_job(uri, job, older=True)
    run_id = _id(runs, job.run_id)
    if run_id is None:
        return None
    _delete(uri, [run for run in runs if run.info.run_id != run_id])
    mlflow = client(uri)
    with explained(uri, f"end run {run_id}"):
        if mlflow.get_run(run_id).info.status != word:
            end = int(job.ended_at * 1000) if job.ended_at else now_ms()
            mlflow.set_terminated(run_id, status=word, end_time=end)
    return run_id


def _job_key(job: Job) -> _Key:
    return _Key(owner=job.id, tag=describe.JOB_ID, value=job.id)


def _of_job(uri: str, job: Job, *, older: bool) -> list[Any]:
    return _runs(uri, find_experiment(uri, job), _job_key(job), job.run_id, older=older)


def _runs(uri: str, experiment: str | None, key: _Key, known: str | None = None, *, older: bool) -> list[Any]:
    """Return the experiment's runs of this key, oldest first. older: those of an earlier version, too, where there are
    no others; they are looked for among all runs, which takes longer the more there are."""
    if experiment is None:
        return []
    runs = _search(uri, experiment, describe.handle(key.owner), "1")
    if not runs and (older or known is not None):
        runs = _search(uri, experiment, key.tag, key.value)
    return sorted(runs, key=lambda run: (run.info.start_time, run.info.run_id))


def _search(uri: str, experiment: str, tag: str, value: str) -> list[Any]:
    mlflow, where = client(uri), f"tags.`{tag}` = '{value}'"
    with explained(uri, f"look for runs with {tag} = {value}"):
        return all_pages(lambda token: mlflow.search_runs([experiment], where, max_results=PAGE, page_token=token))
