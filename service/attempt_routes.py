"""The API's calls of an attempt: what a runner says, with that attempt's own token."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import anyio.to_thread
from fastapi import APIRouter, Depends

from service import __version__, access, areas, wire
from service.access import AttemptNumber, JobId
from service.errors import ConflictError
from service.queue.jobs import Checkpoint, Job
from service.services import App
from service.tracking import login

_error: dict[str, Any] = {"model": wire.ErrorReply, "description": "an error; `code` names its kind"}
_errors: dict[int | str, dict[str, Any]] = {422: _error, "default": _error}
router = APIRouter(
    prefix="/v1/jobs/{job_id}/attempts/{number}",
    tags=["attempts"],
    dependencies=[Depends(access.attempt)],
    responses=_errors,
)


@router.post("/claim", summary="Become the attempt's runner")
def claim(job_id: JobId, number: AttemptNumber, request: wire.ClaimRequest, services: App) -> wire.AttemptContext:
    """Start the lease. The same runner may ask again; another one is refused for good."""
    if request.version != __version__:
        reason = (
            f"the cluster has vaesvc {request.version}, the service {__version__}: install the same version on "
            f"{request.host or 'every node'}"
        )
        services.store.attempt_lost(job_id, number, reason, retryable=False)
        raise ConflictError(reason)
    job, checkpoints = services.store.claim(job_id, number, request.runner_id)
    return wire.AttemptContext(
        job=job,
        number=number,
        lease_seconds=services.settings.lease_seconds,
        storage=services.settings.storage(),
        mlflow_uri=login.for_attempt(services.settings, services.secret, job_id, number),
        cancel_grace_seconds=services.settings.cancel_grace_seconds,
        checkpoints=tuple(checkpoints),
        avoid=services.store.limits.avoid(job_id, number),
        drained=services.store.nodes.kept_away_from(),
    )


@router.post("/heartbeat", summary="Renew the lease")
def heartbeat(
    job_id: JobId, number: AttemptNumber, request: wire.HeartbeatRequest, services: App
) -> wire.HeartbeatReply:
    return services.store.heartbeat(job_id, number, request.runner_id)


@router.post("/progress", summary="Say how far it is")
def progress(job_id: JobId, number: AttemptNumber, request: wire.ProgressReport, services: App) -> wire.HeartbeatReply:
    """Note how far the run is. The lease is not renewed: a hung runner's workers must not keep it alive."""
    return services.store.progress(job_id, number, request)


@router.post("/checkpoints", summary="Commit a checkpoint whose files are in storage")
def commit_checkpoint(job_id: JobId, number: AttemptNumber, request: Checkpoint, services: App) -> wire.CheckpointReply:
    """Make the job resume from this checkpoint. Idempotent by its address, which lies in the job's own directory."""
    areas.check_checkpoint(services.artifacts, job_id, request)
    return services.store.commit_checkpoint(job_id, number, request)


@router.get("/checkpoints", summary="The job's checkpoints, newest first")
def checkpoints(job_id: JobId, number: AttemptNumber, services: App) -> Sequence[Checkpoint]:
    return services.store.checkpoints(job_id)


@router.get("/drained", summary="Nodes that operators drain")
def drained(job_id: JobId, number: AttemptNumber, services: App) -> Sequence[str]:
    """Return Ray's ids of the nodes on which nothing of the attempt may begin, as of now."""
    return services.store.nodes.kept_away_from()


@router.post("/model", summary="Register the job's model, whose files are in storage")
async def register_model(
    job_id: JobId, number: AttemptNumber, request: wire.RegisterRequest, services: App
) -> wire.RegisterReply:
    """Read the model's files, and sign them if they are those of the job's best checkpoint. Idempotent."""
    job = await anyio.to_thread.run_sync(services.store.check_held, job_id, number)
    result = {"winner": request.winner}
    return await services.wait_for(lambda: services.models.sign(job, result, request.mlflow_version, number=number))


@router.post("/finish", summary="End the attempt")
def finish(job_id: JobId, number: AttemptNumber, request: wire.FinishRequest, services: App) -> Job:
    """Take the attempt's final report. Addresses of the log and of pictures lie in the job's own directories."""
    areas.check_finish(services.artifacts, job_id, request)
    return services.store.finish(job_id, number, request)
