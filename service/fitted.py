"""Samplers that were fitted to a registered model: signed by the service, and fetched beside the model's files.

A job that fits samplers keeps them in the bucket. The service signs their sums and sizes as the job wrote them beside
them; whoever uses the model checks the signature, every byte, and that the samplers are of exactly these weights.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from pydantic import Field

from service import signing
from service.directories import altered
from service.download import get_bytes, trusted_keys
from service.errors import NotFoundError, UntrustedError
from service.queue.jobs import Job, JobState, Record
from vae_models.samplers.specs import FOLDER

if TYPE_CHECKING:
    from service.client import Client
    from service.model_files import Statement
    from service.settings import Settings
    from vae_models.evaluation.fitting.fitted import Fitted

PAYLOAD_TYPE = "application/vnd.vaesvc.fitted.v1+json"
MOST_BYTES = 256 << 20  # of one file of samplers
MOST_JOBS = 20  # of one model that are asked, the newest first
PAGE = 100


class Sum(Record):
    """A file by its SHA-256 and its size."""

    sha256: str = Field(pattern=r"^[0-9a-f]{64}$")
    bytes: int = Field(ge=0, le=MOST_BYTES)


class FittedStatement(Record):
    """What the service signs. job: that fitted; manifest_sha256: of the model that it fitted to; files: by their names,
    each safetensors of one evaluation."""

    job: str
    manifest_sha256: str
    files: dict[str, Sum]


class FittedFiles(Record):
    """files: name -> presigned address; envelope: the signed `FittedStatement`."""

    files: dict[str, str]
    envelope: str


def read(client: Client, model: Statement, keys: Collection[str]) -> dict[str, Fitted]:
    """Return the samplers that jobs have fitted to the model, by name: the newest of each.

    Raise UntrustedError or CorruptObjectError for what is not what the service signed, UnavailableError if it or the
    storage does not answer.
    """
    samplers: dict[str, Fitted] = {}
    for job in _jobs(client, model):
        for data in _contents(client, job, keys):
            samplers = _unpacked(data) | samplers
    return samplers


def fetch(client: Client, model: Statement, settings: Settings, folder: Path) -> tuple[str, ...]:
    """Write the samplers that jobs have fitted to the model into `samplers` of its folder, and return the names of
    those that came: what is there already stays. Raise what `read` does.
    """
    place = folder / FOLDER
    samplers = read(client, model, trusted_keys(client, settings))
    new = [sampler for name, sampler in samplers.items() if not (place / name).exists()]
    for sampler in new:
        sampler.save(place)
    return tuple(sampler.name for sampler in new)


@dataclass(frozen=True, kw_only=True)
class Later:
    """`read` of one model when it is called. client: opens the service that signed the model."""

    model: Statement
    client: Callable[[], AbstractContextManager[Client]]
    settings: Settings

    def __call__(self) -> Mapping[str, Fitted]:
        """Return the samplers by name. Raise what `read` does."""
        with self.client() as client:
            return read(client, self.model, trusted_keys(client, self.settings))


def _jobs(client: Client, model: Statement) -> Iterator[Job]:
    """Yield the jobs that were about this model and have ended well, newest first."""
    asked, before = 0, None
    while page := client.jobs(states=[JobState.SUCCEEDED], limit=PAGE, before=before):
        for job in page:
            if _is_about(job, model):
                yield job
                asked += 1
        if asked >= MOST_JOBS or len(page) < PAGE or page[-1].id < model.job_id:  # ids grow with the time
            return
        before = page[-1].id


def _is_about(job: Job, model: Statement) -> bool:
    """Return whether a job was about these very weights: the version's files, or the checkpoint that it was made of."""
    about = job.spec.get("model")
    if not isinstance(about, Mapping) or about.get("job") != model.job_id:
        return False
    same_files = about.get("manifest_sha256") == model.manifest_sha256
    return same_files or str(about.get("uri", "")).rstrip("/") == model.checkpoint.rstrip("/")


def _contents(client: Client, job: Job, keys: Collection[str]) -> Iterator[bytes]:
    try:
        answer = client.job_call(job.id, "fitted", FittedFiles)
    except NotFoundError:  # of a kind that fits none
        return
    what = f"the samplers of job {job.id}"
    signed = FittedStatement.model_validate(signing.verify(answer.envelope, keys, PAYLOAD_TYPE, what))
    if signed.job != job.id or signed.manifest_sha256 != job.spec["model"]["manifest_sha256"]:
        raise UntrustedError(f"{what}: the signature is about those of job {signed.job}, or of another model")
    for name, promised in signed.files.items():
        if name not in answer.files:
            raise UntrustedError(f"{what}: the service gives no address for {name}")
        data = get_bytes(answer.files[name], promised.bytes)
        if (actual := hashlib.sha256(data).hexdigest()) != promised.sha256:
            raise altered(f"{what}: {name}", promised.sha256, actual)
        yield data


def _unpacked(data: bytes) -> dict[str, Fitted]:
    from safetensors.torch import load

    from vae_models.evaluation.fitting.fitted import UnfitSampler, unpacked

    try:
        return unpacked(load(data))
    except UnfitSampler:  # of another version
        return {}
