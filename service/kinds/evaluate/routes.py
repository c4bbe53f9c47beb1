"""A call of the API that evaluations have beside every kind's own."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator

import anyio.to_thread
from fastapi import APIRouter

from service.access import JobId
from service.areas import Area
from service.directories import MANIFEST
from service.errors import NotFoundError, UntrustedError
from service.fitted import MOST_BYTES, PAYLOAD_TYPE, FittedFiles, FittedStatement, Sum
from service.kinds.evaluate.storage import PLACE
from service.queue.jobs import Job
from service.services import App, Services
from vae_models.evaluation.findings import TENSORS


def add(read: APIRouter, change: APIRouter) -> None:
    """Add the kind's calls to those of one job that read it."""

    @read.get("/fitted", summary="The samplers that an evaluation has fitted, signed")
    async def fitted(job_id: JobId, services: App) -> FittedFiles:
        """Return addresses of the fitted samplers, good for an hour, and what the service signed of them after reading
        them."""
        job = await anyio.to_thread.run_sync(services.store.job, job_id)
        if job.kind != "evaluate" or not job.spec.get("model"):
            raise NotFoundError(f"job {job_id} is no evaluation of a model: it has fitted no samplers")
        return await services.wait_for(lambda: _signed(services, job))


def _signed(services: Services, job: Job) -> FittedFiles:
    area = Area(services.artifacts, PLACE, job.id)
    files = dict(_files(services, area))
    statement = FittedStatement(job=job.id, manifest_sha256=job.spec["model"]["manifest_sha256"], files=files)
    return FittedFiles(
        files={name: area.presign(f"{area.uri}/{name}") for name in files},
        envelope=services.key.sign(statement.model_dump(mode="json"), PAYLOAD_TYPE),
    )


def _files(services: Services, area: Area) -> Iterator[tuple[str, Sum]]:
    """Yield the samplers' tensors of each complete evaluator, read and compared with its manifest."""
    for stored in services.artifacts.list(area.uri):
        key, _, name = stored.uri.removeprefix(f"{area.uri}/").partition("/")
        if name != MANIFEST or not key.startswith("samplers-"):
            continue
        promised = json.loads(area.get_bytes(f"{area.uri}/{key}/{MANIFEST}"))["files"].get(TENSORS)
        if promised is None or promised["bytes"] > MOST_BYTES:
            continue
        data = area.get_bytes(f"{area.uri}/{key}/{TENSORS}")
        if hashlib.sha256(data).hexdigest() != promised["sha256"]:
            raise UntrustedError(f"the samplers of {area.uri}/{key} are not what was stored: evaluate the model anew")
        yield f"{key}/{TENSORS}", Sum(sha256=promised["sha256"], bytes=len(data))
