"""A call of the API that evaluations have beside every kind's own."""

from __future__ import annotations

from collections.abc import Iterator

import anyio.to_thread
from fastapi import APIRouter

from service.access import JobId
from service.areas import Area
from service.directories import MANIFEST, read_manifest
from service.errors import NotFoundError
from service.fitted import MOST_BYTES, PAYLOAD_TYPE, FittedFiles, FittedStatement, Sum
from service.kinds.evaluate.storage import PLACE
from service.queue.jobs import Job
from service.services import App, Services
from vae_models.evaluation.findings import TENSORS


def add(read: APIRouter, change: APIRouter) -> None:
    """Add the kind's calls to those of one job that read it."""

    @read.get("/fitted", summary="The samplers that an evaluation has fitted, signed")
    async def fitted(job_id: JobId, services: App) -> FittedFiles:
        """Return addresses of the fitted samplers, good for an hour, and what the service signed of them: sizes and
        sums, as the job wrote them beside the files."""
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
    """Yield the samplers' tensors of each complete evaluator as its manifest has them: none of them is read here."""
    for stored in services.artifacts.list(area.uri):
        key, _, name = stored.uri.removeprefix(f"{area.uri}/").partition("/")
        if name != MANIFEST or not key.startswith("samplers-"):
            continue
        sha256, size = read_manifest(area.get_bytes(stored.uri), stored.uri).get(TENSORS, ("", MOST_BYTES + 1))
        if size <= MOST_BYTES:
            yield f"{key}/{TENSORS}", Sum(sha256=sha256, bytes=size)
