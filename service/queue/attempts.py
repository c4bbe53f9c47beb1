"""What an attempt may say, and what is said of it. Called by the store, inside its transactions.

Every write of a runner is fenced: it is taken only from the newest attempt, while the attempt is open, and, where the
runner names itself, only from the one that claimed it. A late heartbeat of an attempt that nobody has called lost yet
is taken: the row is locked, so "lost" and "alive" cannot both be written.

Cancel wins: after the request every way out ends CANCELLED, also a success that arrives later (the attempt's own row
says SUCCEEDED, and its checkpoints stay). A success that was recorded before the request stays a success.
"""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import RowMapping

from service import wire
from service.errors import ConflictError, FencedError
from service.queue import giving_way, retention
from service.queue.jobs import AttemptState, Checkpoint, Job, JobState, Trigger, spec_sha256
from service.queue.rows import Clocked, clean, finite, kept_checkpoints, policy
from service.queue.schema import checkpoints, events

MAX_BACKOFF_SECONDS = 300.0
MAX_OUTAGES = 20  # attempts lost in a row to the machines: so many without a checkpoint, and nobody waits any more
STOPPED_UNASKED = "the runner stopped without being asked to"

_OUTCOMES = {
    "succeeded": AttemptState.SUCCEEDED,
    "failed": AttemptState.FAILED,
    "cancelled": AttemptState.CANCELLED,
}


def backoff(seconds: float, failures: int) -> float:
    """Return the seconds before the attempt that follows the `failures`-th failure: doubles each time, at most 300."""
    return float(min(seconds * 2 ** min(failures - 1, 30), MAX_BACKOFF_SECONDS))


def claim(work: Clocked, job_id: str, number: int, runner_id: str, lease_seconds: float) -> bool:
    """Make `runner_id` the attempt's runner, once and for all, and start its lease. Return whether the job can have
    checkpoints: a first attempt commits none before it is claimed."""
    job, attempt = _open_attempt(work, job_id, number)
    if attempt["runner_id"] not in (None, runner_id):
        raise FencedError(
            f"attempt {number} of {job_id} belongs to runner {attempt['runner_id']}, not {runner_id}: stop at once"
        )
    if job["state"] == JobState.CANCELLING and attempt["runner_id"] is None:
        raise FencedError(f"{job_id} was cancelled before attempt {number} began: there is nothing to run")
    lease = {"lease_until": work.now + lease_seconds}
    if attempt["runner_id"] == runner_id:
        work.update_attempt(job_id, number, **lease)
        return True
    values = {"state": AttemptState.RUNNING.value, "runner_id": runner_id, "started_at": work.now}
    work.update_attempt(job_id, number, **values, **lease)
    started = job["started_at"] if job["started_at"] is not None else work.now
    work.move(job, Trigger.CLAIM, "claimed", detail={"runner_id": runner_id}, started_at=started)
    return number > 1


def of_its_size(work: Clocked, job: Job, number: int) -> Job:
    """Return the job with the gang that the attempt was admitted with, where it is an elastic one."""
    attempt = work.attempt_row(job.id, number)
    if attempt is None or job.resources.min_workers is None:
        return job
    return job.model_copy(update={"resources": job.resources.sized(len(attempt["nodes"]))})


def heartbeat(work: Clocked, job_id: str, number: int, runner_id: str, lease_seconds: float) -> wire.HeartbeatReply:
    """Renew the lease."""
    job = _held(work, job_id, number, runner_id)
    work.update_attempt(job_id, number, lease_until=work.now + lease_seconds)
    return _reply(job, lease_seconds).model_copy(update=_stop(work, job_id, number))


def progress(
    work: Clocked, job_id: str, number: int, report: wire.ProgressReport, lease_seconds: float
) -> wire.HeartbeatReply:
    """Note how far the run is. The lease is not renewed: workers that go on must not keep a hung runner alive."""
    job = _held(work, job_id, number, None)
    values: dict[str, Any] = {"progress": finite(report.progress)}
    if report.run_id is not None and report.run_id != job["run_id"]:
        values["run_id"] = report.run_id
        work.record(job_id, "run_opened", number, run_id=report.run_id)
    work.update_job(job_id, **values)
    if report.pulse is not None:
        pulse = report.pulse
        moved_at = work.now - pulse.idle_seconds if pulse.watched else None
        work.update_attempt(job_id, number, moved_at=moved_at, usual_seconds=pulse.usual_seconds)
    stop = _stop(work, job_id, number)
    finish = "finish" in policy(job).signals and finish_requested(work, job_id)
    reply = _reply(job, lease_seconds)
    # whoever trains has one way to stop, whatever for: a checkpoint first
    return reply.model_copy(update={"cancel": reply.cancel or stop["stop"] is not None, "finish": finish, **stop})


def _stop(work: Clocked, job_id: str, number: int) -> dict[str, Any]:
    """Return whether and why the attempt shall end, as part of a reply."""
    attempt = work.attempt_row(job_id, number)
    assert attempt is not None
    grace = None if attempt["stop_until"] is None else max(0.0, attempt["stop_until"] - work.now)
    return {"stop": attempt["stop_reason"], "hangs": bool(attempt["hangs"]), "grace": grace}


def finish_requested(work: Clocked, job_id: str) -> bool:
    """Return whether the job shall end with what it has: until it is given more to do, or retried."""
    kinds = ("stop_requested", "extended", "retried")
    query = sa.select(events.c.kind).where(events.c.job_id == job_id, events.c.kind.in_(kinds))
    return work.connection.scalar(query.order_by(events.c.id.desc()).limit(1)) == "stop_requested"


def commit_checkpoint(work: Clocked, job_id: str, number: int, checkpoint: Checkpoint) -> wire.CheckpointReply:
    """Make the checkpoint one to resume from, and return which others retention gives up. Idempotent by address."""
    job = _held(work, job_id, number, None)
    here = (checkpoints.c.job_id == job_id, checkpoints.c.uri == checkpoint.uri)
    known = work.row(sa.select(checkpoints).where(*here))
    if known is None:
        _add_checkpoint(work, job_id, number, checkpoint)
    elif known["manifest_sha256"] != checkpoint.manifest_sha256:
        raise ConflictError(
            f"{checkpoint.uri} is committed already, with the manifest {known['manifest_sha256'][:12]}..., not "
            f"{checkpoint.manifest_sha256[:12]}...: give every checkpoint an address of its own"
        )
    rows = kept_checkpoints(work, job_id)
    kept = retention.kept(rows, policy(job).retention)
    given_up = {c.uri for c in rows} - {c.uri for c in kept}
    if given_up:
        which = (checkpoints.c.job_id == job_id, checkpoints.c.uri.in_(given_up))
        work.connection.execute(sa.update(checkpoints).where(*which).values(given_up_for=checkpoint.uri))
    query = sa.select(checkpoints.c.uri).where(
        checkpoints.c.job_id == job_id, checkpoints.c.given_up_for == checkpoint.uri
    )
    return wire.CheckpointReply(kept=kept, delete=tuple(sorted(work.connection.scalars(query))))


def _add_checkpoint(work: Clocked, job_id: str, number: int, checkpoint: Checkpoint) -> None:
    values = {
        "job_id": job_id,
        "uri": checkpoint.uri,
        "attempt": number,
        "step": checkpoint.step,
        "manifest_sha256": checkpoint.manifest_sha256,
        "bytes": checkpoint.bytes,
        # a metric that is NaN or infinite ranks nowhere: it is left out
        "metrics": {name: value for name, value in finite(checkpoint.metrics).items() if value is not None},
        "committed_at": work.now,
    }
    work.connection.execute(sa.insert(checkpoints).values(values))
    work.record(job_id, "checkpoint", number, step=checkpoint.step, uri=checkpoint.uri)
    work.update_job(job_id, outages=0)  # it came further: a row of losses ends here


def finish(work: Clocked, job_id: str, number: int, request: wire.FinishRequest) -> None:
    """Take the runner's final report. The same again changes nothing; another one after it is refused."""
    job = work.locked_job(job_id, number)
    attempt = work.attempt_row(job_id, number)
    gave_way = attempt is not None and _gave_way(job, attempt, request)
    # its workers heard that it shall end before its runner heard why: they could only say that they were stopped
    why = attempt["stop_reason"] if attempt is not None and request.outcome == "cancelled" and _lives(job) else None
    said = AttemptState.FAILED if why is not None else _OUTCOMES[request.outcome]
    said = AttemptState.REQUEUED if gave_way else said
    if attempt is not None and attempt["ended_at"] is not None and attempt["runner_id"] == request.runner_id:
        before = AttemptState(attempt["state"])
        if before is said:
            return
        if before is not AttemptState.LOST:
            raise ConflictError(f"attempt {number} of {job_id} has finished as {before} already, not {said}")
    _held(work, job_id, number, request.runner_id, job=job)
    error = clean(request.error)
    if request.outcome == "succeeded":
        error = None
    elif why is not None:
        error = why
    elif error is None:
        error = STOPPED_UNASKED if request.outcome == "cancelled" else "the runner gave no reason"
    _end(work, job, number, said, error, log_uri=request.log_uri)
    detail = {"outcome": request.outcome, "error": error}
    result = finite(request.result)
    if gave_way:
        _requeue(work, job, number, detail)
        return
    more = request.spec_sha256 not in (None, spec_sha256(job["spec"])) and job["state"] == JobState.RUNNING
    if more and not (request.outcome == "failed" and request.retryable):
        # the study was extended meanwhile: the next attempt trains the rest
        work.move(job, Trigger.REQUEUE, "finished", detail=detail, result=result)
    elif request.outcome == "succeeded":
        _leave(work, job, Trigger.SUCCEED, "finished", detail, result=result)
    elif request.outcome == "cancelled" and job["state"] == JobState.CANCELLING:
        _leave(work, job, Trigger.STOP, "finished", detail, result=result)
    else:
        _count_failure(work, job, "finished", detail, error, retryable=request.retryable, outage=request.outage)


def lost(work: Clocked, job_id: str, number: int, reason: str, *, retryable: bool, outage: bool) -> bool:
    """End an attempt that cannot be running any more. Returns False where its lease is still held, so it may be."""
    job = work.locked_job(job_id, number)
    attempt = work.attempt_row(job_id, number)
    if attempt is None:
        raise FencedError(_unknown_attempt(job, number))
    if attempt["ended_at"] is not None:
        return True
    if _leased(attempt, work.now):
        return False
    error = clean(reason) or "lost"
    if attempt["gives_way"] is not None and retryable:  # it was killed at the end of its grace, say
        _end(work, job, number, AttemptState.REQUEUED, error)
        _requeue(work, job, number, {"error": error})
        return True
    _end(work, job, number, AttemptState.LOST, error)
    _count_failure(work, job, "lost", {"error": error}, error, retryable=retryable, outage=outage)
    return True


def _gave_way(job: RowMapping, attempt: RowMapping, request: wire.FinishRequest) -> bool:
    """Return whether the attempt ended because it was asked to give way: it neither came to its own end before nor was
    cancelled with its job."""
    stopped = _lives(job) if request.outcome == "cancelled" else request.outcome == "failed" and request.retryable
    return attempt["gives_way"] is not None and stopped


def _lives(job: RowMapping) -> bool:
    return job["state"] not in (JobState.CANCELLING, JobState.CANCELLED)


def _requeue(work: Clocked, job: RowMapping, number: int, detail: dict[str, Any]) -> None:
    """Put the job of an attempt that gave way back into the line; end it, where that was asked for meanwhile."""
    attempt = work.attempt_row(job["id"], number)
    assert attempt is not None
    if job["state"] == JobState.CANCELLING:
        _leave(work, job, Trigger.STOP, "finished", detail)
    else:
        giving_way.requeue(work, job, attempt, detail)


def cancel_finished(work: Clocked, job_id: str, number: int) -> bool:
    """End a cancelled job's attempt that has no runner. Returns False if its lease is held, or it was not cancelled."""
    job = work.locked_job(job_id, number)
    attempt = work.attempt_row(job_id, number)
    if attempt is None:
        raise FencedError(_unknown_attempt(job, number))
    if attempt["ended_at"] is not None:
        return True
    if job["state"] != JobState.CANCELLING or _leased(attempt, work.now):
        return False
    _end(work, job, number, AttemptState.CANCELLED, None)
    _leave(work, job, Trigger.STOP, "cancelled", {})
    return True


# --- fencing and endings --------------------------------------------------------------------------------------------


def _open_attempt(
    work: Clocked, job_id: str, number: int, *, job: RowMapping | None = None
) -> tuple[RowMapping, RowMapping]:
    """Return the locked job and its newest attempt, if that is `number` and open. Raises FencedError otherwise."""
    job = job if job is not None else work.locked_job(job_id, number)
    if number < job["attempt"]:
        raise FencedError(f"attempt {number} of {job_id} has been superseded by attempt {job['attempt']}: stop at once")
    attempt = work.attempt_row(job_id, number)
    if attempt is None:
        raise FencedError(_unknown_attempt(job, number))
    if attempt["ended_at"] is not None:
        why = f" ({attempt['error']})" if attempt["error"] else ""
        raise FencedError(f"attempt {number} of {job_id} is over: {attempt['state']}{why}. Stop at once")
    return job, attempt


def held(work: Clocked, job_id: str, number: int) -> RowMapping:
    """Return the locked job, if `number` is its open attempt and claimed. Raises FencedError otherwise."""
    return _held(work, job_id, number, None)


def _held(
    work: Clocked, job_id: str, number: int, runner_id: str | None, *, job: RowMapping | None = None
) -> RowMapping:
    """Return the locked job, if `number` is its open attempt and claimed (by `runner_id`). Raises FencedError
    otherwise."""
    job, attempt = _open_attempt(work, job_id, number, job=job)
    if attempt["runner_id"] is None:
        raise FencedError(f"attempt {number} of {job_id} has not been claimed: claim it first")
    if runner_id is not None and attempt["runner_id"] != runner_id:
        raise FencedError(
            f"attempt {number} of {job_id} belongs to runner {attempt['runner_id']}, not {runner_id}: stop at once"
        )
    return job


def _unknown_attempt(job: RowMapping, number: int) -> str:
    return f"{job['id']} has no attempt {number}; its newest is {job['attempt']}"


def _leased(attempt: RowMapping, now: float) -> bool:
    return attempt["runner_id"] is not None and attempt["lease_until"] > now


def _reply(job: RowMapping, lease_seconds: float) -> wire.HeartbeatReply:
    return wire.HeartbeatReply(lease_seconds=lease_seconds, cancel=job["state"] == JobState.CANCELLING)


def _end(
    work: Clocked, job: RowMapping, number: int, state: AttemptState, error: str | None, *, log_uri: str | None = None
) -> None:
    values: dict[str, Any] = {"state": state.value, "ended_at": work.now, "error": error}
    if log_uri is not None:
        values["log_uri"] = log_uri
    work.update_attempt(job["id"], number, **values)


def _leave(
    work: Clocked, job: RowMapping, trigger: Trigger, kind: str, detail: dict[str, Any], **values: Any
) -> JobState:
    """Move the job to a final state."""
    return work.move(job, trigger, kind, detail=detail, ended_at=work.now, tracked=False, **values)


def _count_failure(
    work: Clocked,
    job: RowMapping,
    kind: str,
    detail: dict[str, Any],
    error: str | None,
    *,
    retryable: bool,
    outage: bool,
) -> None:
    """Queue the job again after a backoff, or make it FAILED when the budget is spent, CANCELLED if that was asked for.

    outage: machines were lost. It is counted apart, with a limit of its own so that nothing goes on for ever.
    """
    if job["state"] == JobState.CANCELLING:
        _leave(work, job, Trigger.STOP, kind, detail)
        return
    if outage and retryable:
        _count_outage(work, job, kind, detail, error)
        return
    failures = job["failures"] + 1
    if not retryable or failures >= job["max_attempts"]:
        _leave(work, job, Trigger.FAIL, kind, detail, failures=failures, reason=error)
        return
    wait = backoff(job["backoff_seconds"], failures)
    detail = detail | {"failures": failures, "backoff_seconds": wait}
    work.move(job, Trigger.REQUEUE, kind, detail=detail, failures=failures, outages=0, not_before=work.now + wait)


def _count_outage(work: Clocked, job: RowMapping, kind: str, detail: dict[str, Any], error: str | None) -> None:
    outages = job["outages"] + 1
    if outages > MAX_OUTAGES:
        reason = f"lost {outages} times in a row with its machines, without a checkpoint in between; at last: {error}"
        _leave(work, job, Trigger.FAIL, kind, detail, outages=outages, reason=reason)
        return
    wait = backoff(job["backoff_seconds"], outages)
    detail = detail | {"outages": outages, "backoff_seconds": wait}
    work.move(job, Trigger.REQUEUE, kind, detail=detail, outages=outages, not_before=work.now + wait)
