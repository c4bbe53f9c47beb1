"""Which trained model a text means, looked up in the service: exactly, verified, and the asker's to see."""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from service import areas, kinds, model_files
from service.areas import Area
from service.attempt.best import Choice, choose
from service.code.reference import CodeRef
from service.directories import MANIFEST, read_manifest
from service.errors import NotFoundError, UntrustedError, UsageError
from service.kinds.kind import loaded
from service.model_files import Reference
from service.pyfunc import CONFIG
from service.queue.ids import ID_PATTERN
from service.queue.jobs import Checkpoint, Job, JobState
from service.queue.rows import unknown_job
from service.specs.trained import TrainedModel
from vae_models.config.train import TrainConfig
from vae_models.measures import STORED
from vae_models.open_union import foreign_allowed

if TYPE_CHECKING:
    from service.kinds.house import House

JOB = ID_PATTERN.removeprefix("^").removesuffix("$")
_TRIAL = re.compile(rf"({JOB})/([^/]+/[^/]+)")


@dataclass(frozen=True, kw_only=True)
class Meant:
    """model: exactly. config: how it was trained. code: the package of own code that it takes, if any."""

    model: TrainedModel
    config: TrainConfig
    code: CodeRef | None


def look_up(of: str, house: House, *, known: TrainedModel | None = None, code: CodeRef | None = None) -> Meant:
    """Return the model that was written, its configuration, and the package of own code that it takes.

    known: the model, where it was looked up before: taken by its word, if the service has just that. code: the package
    that is brought. Raises UsageError or NotFoundError where there is no such model, UntrustedError where it is not
    what was committed or signed.
    """
    model = known or _meant(of, house)
    job = _job(model.job, house)
    model = model.model_copy(update={"run": None if model.trial else job.run_id})
    config = _config(model, house, job)
    needed = None if job.spec.get("code") is None else CodeRef.model_validate(job.spec["code"])
    if None not in (needed, code) and needed != code:
        raise UsageError(f"code: the model was trained with {needed}, not with {code}: leave --code out")
    return Meant(model=model, config=config, code=needed or code)


def _meant(of: str, house: House) -> TrainedModel:
    """Return the model that was written."""
    if re.fullmatch(JOB, of):
        return _chosen(_job(of, house), house)
    if trial := _TRIAL.fullmatch(of):
        return _trial(_job(trial[1], house), trial[2], house)
    if of.startswith("s3://"):
        return _at(of, house)
    return _version(model_files.reference(of), house)


def _job(job_id: str, house: House) -> Job:
    """Return the job. Raises NotFoundError where there is none that the asker may see."""
    if not house.sees(job_id):
        raise unknown_job(job_id)
    return house.store.job(job_id)


def _chosen(job: Job, house: House) -> TrainedModel:
    """Return the model that a job that is over came to: a run's best checkpoint, a study's winner."""
    if not job.state.final:
        raise UsageError(f"job {job.id} is {job.state}: its model is chosen when it is over (vaesvc watch {job.id})")
    try:
        choice = choose(job, job.result, lambda: house.store.checkpoints(job.id))
    except (KeyError, TypeError, ValueError) as error:
        raise UsageError(f"what job {job.id} came to is not understood ({type(error).__name__})") from error
    if choice is None:
        raise UsageError(f"job {job.id}, {kinds.named(job.kind).called}, has no model to evaluate")
    return _trained(job, choice)


def _trial(job: Job, name: str, house: House) -> TrainedModel:
    """Return one of several models that a job trained."""
    every = loaded(kinds.named(job.kind).trained)(job, house.artifacts)
    if name not in every:
        there = ", ".join(list(every)[:20]) or "none"
        raise NotFoundError(f"job {job.id} has no trained model {name!r}; there are: {there}")
    return _trained(job, every[name], trial=name)


def _trained(job: Job, choice: Choice, trial: str | None = None) -> TrainedModel:
    kept = choice.checkpoint
    return TrainedModel(job=job.id, trial=trial, uri=kept.uri, manifest_sha256=kept.manifest_sha256, step=kept.step)


def _at(uri: str, house: House) -> TrainedModel:
    """Return the checkpoint at an address, which must be one of a job's that is committed."""
    match = re.search(rf"/({JOB})/", uri)
    if match is None:
        raise UsageError(f"{uri!r} is no address of a checkpoint: `vaesvc show JOB --json` has them")
    job = _job(match[1], house)
    for kept in house.store.checkpoints(job.id):
        if kept.uri.rstrip("/") == uri.rstrip("/"):
            return TrainedModel(job=job.id, uri=kept.uri, manifest_sha256=kept.manifest_sha256, step=kept.step)
    raise NotFoundError(f"job {job.id} keeps no checkpoint at {uri}: `vaesvc show {job.id} --json` has them")


def _version(asked: Reference, house: House) -> TrainedModel:
    """Return the files of a version that the service has signed."""

    def seen(versions: list[Any]) -> list[Any]:
        return [version for version in versions if version.job_id is not None and house.sees(version.job_id)]

    row, said = house.models.signed(asked, seen)
    uri = house.artifacts.uri(*model_files.source(row.name, row.job_id))
    return TrainedModel(
        job=row.job_id,
        name=row.name,
        version=row.version,
        uri=uri,
        manifest_sha256=said.manifest_sha256,
        step=said.step,
    )


def _config(model: TrainedModel, house: House, job: Job) -> TrainConfig:
    """Return how the model was trained, after its address, its manifest and its configuration were verified."""
    area = _area(model, house)
    place = model.uri.rstrip("/")
    try:
        manifest, data = (area.get_bytes(f"{place}/{name}") for name in (MANIFEST, CONFIG))
    except NotFoundError:
        raise NotFoundError(_gone(model, job)) from None
    if _sha256(manifest) != model.manifest_sha256:
        raise UntrustedError(f"{place}/{MANIFEST} has the SHA-256 {_sha256(manifest)}, not {model.manifest_sha256}")
    if read_manifest(manifest, place).get(CONFIG) != (_sha256(data), len(data)):
        raise UntrustedError(f"{place}/{CONFIG} is not what its {MANIFEST} says")
    try:
        with foreign_allowed(job.spec.get("code") is not None):
            return TrainConfig.model_validate_json(data, context=STORED)
    except ValidationError as error:
        raise UsageError(f"{place}/{CONFIG} is no configuration of this version of vaesvc") from error


def _area(model: TrainedModel, house: House) -> Area:
    """Return the directory that the model's files must lie in. Raises UntrustedError for an address outside of it, and
    where a version is not the one that was signed."""
    if model.name is not None:
        row, said = house.models.signed(Reference(name=model.name, version=model.version))
        if (row.job_id, said.manifest_sha256) != (model.job, model.manifest_sha256):
            raise UntrustedError(f"model: version {row.version} of {row.name} is not what the service has signed")
        area = Area(house.artifacts, *model_files.source(model.name, model.job))
        if model.uri.rstrip("/") != area.uri:
            raise UntrustedError(f"the address {model.uri[:300]!r} is not {area.uri}: it is not read")
        return area
    checkpoint = Checkpoint(
        attempt=0, step=model.step, uri=model.uri, manifest_sha256=model.manifest_sha256, bytes=0
    )  # fmt: skip
    areas.check_checkpoint(house.artifacts, model.job, checkpoint)
    run, study = areas.checkpoint_areas(house.artifacts, model.job)
    return study if model.uri.startswith(f"{study.uri}/") else run


def _gone(model: TrainedModel, job: Job) -> str:
    if model.trial is not None:
        return (
            f"the weights of trial {model.trial} of {job.id} are not kept: a study keeps its winner's; with "
            "`keep: all` in its spec every trial's"
        )
    again = "" if job.state is not JobState.SUCCEEDED else f"; name the job, {job.id}, or its registered model"
    return f"the checkpoint {model.uri} is gone: a better one, or a later one, took its place{again}"


def _sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()
