"""Registered models: the best checkpoint of a job as one version, its files in the bucket, `best` on the best of all.

A version's files lie in models/<name>/<job>/ of the bucket: MLmodel (python_function flavor, loaded by the installed
module service.pyfunc), model.safetensors, config.json and, last, manifest.json. They are copies: retention may delete
the checkpoint. Every step may be repeated after a crash, by several processes too.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
import math
import platform
import tempfile
import time
import uuid
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from types import MappingProxyType
from typing import Any, Literal

from service import __version__
from service.artifacts import Artifacts
from service.directories import MANIFEST, read_manifest
from service.errors import ConflictError, NotFoundError, UnavailableError, UsageError
from service.pyfunc import CONFIG, MODEL
from service.queue.jobs import Checkpoint, Job
from service.tracking import describe
from service.tracking.runs import PATIENCE, find_run
from service.tracking.server import PAGE, all_pages, client, explained, patiently
from service.wire import ModelVersion

ALIAS = "best"
MLMODEL = "MLmodel"
STATE = "state.json"  # of the checkpoint: knows the data's shape
STALE_SECONDS = 60.0  # a duplicate this old was left by a crash; a younger one is removed by who made it
RECENT_SECONDS = 60.0  # how far apart two registrations are that may not have seen each other
INSERTED_TWICE = ("IntegrityError", "UniqueViolation")  # what SQLite, MySQL and PostgreSQL call it in MLflow's answer

METRIC, VALUE, MODE, STEP = "vaesvc.metric", "vaesvc.value", "vaesvc.mode", "vaesvc.step"
MEASURE, DATA, CHECKPOINT = "vaesvc.measure", "vaesvc.data", "vaesvc.checkpoint"
COMPARABLE = (METRIC, MODE, MEASURE, DATA)  # versions that agree in these may be compared

Mode = Literal["max", "min"]


def register(
    mlflow_uri: str,
    artifacts: Artifacts,
    job: Job,
    checkpoint: Checkpoint,
    metric: str,
    mode: Mode,
    *,
    tags: Mapping[str, str] = MappingProxyType({}),
) -> ModelVersion:
    """The job's version of the model `register_as`, made unless it is there; `best` moved to it if it is better.

    A value that is not a finite number never becomes the best; neither is one compared with another metric's, another
    data set's, or a density with a mass. tags: of the version, beside its own. CorruptObjectError if the checkpoint is
    not what was committed.
    """
    name = str(job.spec["register_as"])
    source = _store(artifacts, job, checkpoint, name)
    value = checkpoint.metrics.get(metric, math.nan)
    all_tags = dict(tags) | {
        describe.JOB_ID: job.id,
        METRIC: metric,
        VALUE: repr(value),
        MODE: mode,
        STEP: str(checkpoint.step),
        MEASURE: describe.measure(job.spec),
        DATA: describe.data_name(job.spec),
        CHECKPOINT: checkpoint.uri,
    }
    version = patiently(lambda: _one_version(mlflow_uri, job, name, source, all_tags), PATIENCE)
    patiently(lambda: _move_alias(mlflow_uri, name, version), PATIENCE)
    found = patiently(lambda: versions(mlflow_uri, name), PATIENCE)
    return next(each for each in found if each.version == version)


def versions(mlflow_uri: str, name: str | None = None) -> list[ModelVersion]:
    """Every version of every model (or of `name`), oldest first."""
    door = client(mlflow_uri)
    with explained(mlflow_uri, "list models"):
        models = all_pages(lambda token: door.search_registered_models(max_results=PAGE, page_token=token))
    aliases: dict[tuple[str, str], list[str]] = {}
    for model in models:
        for alias, version in model.aliases.items():
            aliases.setdefault((model.name, str(version)), []).append(alias)
    found = [_record(each, aliases) for each in _versions(mlflow_uri, name)]
    return sorted(found, key=lambda each: (each.name, int(each.version)))


# --- files ----------------------------------------------------------------------------------------------------------


def _store(artifacts: Artifacts, job: Job, checkpoint: Checkpoint, name: str) -> str:
    """Copy what the model needs out of the checkpoint; nothing is done where the very same is there. The address."""
    target = artifacts.uri("models", name, job.id)
    with tempfile.TemporaryDirectory(prefix="vaesvc-model-") as scratch:
        folder = Path(scratch) / "model"
        artifacts.get_directory(checkpoint.uri, folder, checkpoint.manifest_sha256, only=(STATE,))
        sums = json.loads((folder / MANIFEST).read_bytes())["files"]
        shape = json.loads((folder / STATE).read_bytes())["data_shape"]
        mlmodel = _mlmodel(job, checkpoint, sums[MODEL]["bytes"], shape)
        own = {"sha256": hashlib.sha256(mlmodel).hexdigest(), "bytes": len(mlmodel)}
        manifest = {
            "format": 1,
            "step": checkpoint.step,
            "data_shape": shape,
            "files": {MLMODEL: own, MODEL: sums[MODEL], CONFIG: sums[CONFIG]},
            "metrics": checkpoint.metrics,
        }
        data = json.dumps(manifest, indent=1, sort_keys=True).encode()
        if not _is_there(artifacts, target, data):
            artifacts.get_directory(checkpoint.uri, folder, checkpoint.manifest_sha256, only=(MODEL, CONFIG))
            (folder / MLMODEL).write_bytes(mlmodel)
            (folder / MANIFEST).write_bytes(data)
            artifacts.put_directory(folder, target)
    return target


def _is_there(artifacts: Artifacts, target: str, manifest: bytes) -> bool:
    """The manifest is written last, so where it is, and every object has its size, the rest is, too."""
    sizes = {item.uri: item.bytes for item in artifacts.list(target)}
    wanted = {f"{target}/{file}": size for file, (_, size) in read_manifest(manifest, target).items()}
    if not wanted.items() <= sizes.items():
        return False
    try:
        return artifacts.get_bytes(f"{target}/{MANIFEST}") == manifest
    except NotFoundError:
        return False


def _mlmodel(job: Job, checkpoint: Checkpoint, size: int, shape: Sequence[int]) -> bytes:
    """MLflow's description of the model. The same job and checkpoint give the same bytes.

    There is no signature: as a tensor's it would refuse float64 and data frames.
    """
    import yaml

    made = datetime.fromtimestamp(checkpoint.committed_at, UTC)
    description = {
        "flavors": {
            "python_function": {"loader_module": "service.pyfunc", "python_version": platform.python_version()},
        },
        "metadata": {
            "vaesvc.version": __version__,
            "vaesvc.job_id": job.id,
            "vaesvc.step": checkpoint.step,
            "vaesvc.data_shape": list(shape),
        },
        "mlflow_version": importlib.metadata.version("mlflow"),
        "model_size_bytes": size,
        "model_uuid": uuid.uuid5(uuid.NAMESPACE_URL, f"{checkpoint.uri}#{checkpoint.manifest_sha256}").hex,
        "utc_time_created": made.strftime("%Y-%m-%d %H:%M:%S.%f"),
    }
    return yaml.safe_dump(description, sort_keys=True).encode()


# --- versions and the alias -----------------------------------------------------------------------------------------


def _one_version(uri: str, job: Job, name: str, source: str, tags: dict[str, str]) -> str:
    """The job's version. MLflow numbers versions in the order in which they are made and makes as many as it is asked
    for: of several, the first one counts."""
    door = client(uri)
    _make_model(uri, name)
    own = _of_job(uri, name, job)
    made = None
    if not own:
        with explained(uri, f"register a version of {name!r}"):
            made = door.create_model_version(
                name, source, run_id=find_run(uri, job), tags=tags, description=_text(tags), await_creation_for=0
            ).version
        own = _of_job(uri, name, job)
        if not own:
            raise NotFoundError(f"version {made} of model {name!r} was deleted while it was registered")
    first, *rest = own
    for each in rest:
        if str(each.version) == str(made) or _age(each) > STALE_SECONDS:
            _delete_version(uri, name, each.version)
    with explained(uri, f"describe version {first.version} of {name!r}"):
        for key, value in tags.items():
            if first.tags.get(key) != value:  # the job went on, and its best checkpoint is another one now
                door.set_model_version_tag(name, first.version, key, value)
        if first.description != _text(tags):
            door.update_model_version(name, first.version, description=_text(tags))
    return str(first.version)


def _move_alias(uri: str, name: str, version: str) -> None:
    """MLflow cannot compare and set in one step: so after setting look whether somebody better came meanwhile."""
    door = client(uri)
    there = {str(each.version): each for each in _versions(uri, name)}
    own = there[version]
    with explained(uri, f"read the alias {ALIAS!r} of {name!r}"):
        current = there.get(str(door.get_registered_model(name).aliases.get(ALIAS)))
    if math.isnan(_value(own)) or (current is not None and not _better(own, current)):
        return
    best = own
    while True:
        _set_alias(uri, name, best.version)
        since = own.creation_timestamp - RECENT_SECONDS * 1000
        recent = [each for each in _versions(uri, name) if each.creation_timestamp >= since]
        rivals = [each for each in recent if _better(each, best)]
        if not rivals:
            return
        best = rivals[0]


def _set_alias(uri: str, name: str, version: Any) -> None:
    """MLflow inserts an alias that it did not find: of two first ones in one moment the second is refused, and can be
    repeated (UnavailableError)."""
    try:
        with explained(uri, f"move the alias {ALIAS!r} of {name!r}"):
            client(uri).set_registered_model_alias(name, ALIAS, version)
    except UsageError as error:
        if any(word in str(error) for word in INSERTED_TWICE):
            raise UnavailableError(str(error)) from error
        raise


def _better(one: Any, other: Any) -> bool:
    """Strictly, and only where they can be compared."""
    if any(one.tags.get(key) != other.tags.get(key) for key in COMPARABLE):
        return False
    mine, theirs = _value(one), _value(other)
    if math.isnan(mine):
        return False
    return math.isnan(theirs) or (mine > theirs if one.tags.get(MODE) == "max" else mine < theirs)


def _value(version: Any) -> float:
    """NaN where there is no finite value."""
    try:
        value = float(version.tags.get(VALUE, "nan"))
    except ValueError:
        return math.nan
    return value if math.isfinite(value) else math.nan


def _make_model(uri: str, name: str) -> None:
    door = client(uri)
    try:
        with explained(uri, f"find the model {name!r}"):
            door.get_registered_model(name)
    except NotFoundError:
        try:
            with explained(uri, f"create the model {name!r}"):
                door.create_registered_model(name)
        except ConflictError:
            return  # another job was faster


def _delete_version(uri: str, name: str, version: str) -> None:
    try:
        with explained(uri, f"delete the duplicate version {version} of {name!r}"):
            client(uri).delete_model_version(name, version)
    except (NotFoundError, UsageError):
        return  # somebody else was faster


def _versions(uri: str, name: str | None) -> list[Any]:
    door = client(uri)
    where = f"name = '{name}'" if name is not None else ""
    with explained(uri, "list model versions"):
        return all_pages(lambda token: door.search_model_versions(where, max_results=PAGE, page_token=token))


def _of_job(uri: str, name: str, job: Job) -> list[Any]:
    """The job's versions, the one that was made first at the front."""
    own = [each for each in _versions(uri, name) if each.tags.get(describe.JOB_ID) == job.id]
    return sorted(own, key=lambda each: int(each.version))


def _age(version: Any) -> float:
    """Seconds."""
    return time.time() - float(version.creation_timestamp) / 1000


def _record(version: Any, aliases: dict[tuple[str, str], list[str]]) -> ModelVersion:
    value = _value(version)
    return ModelVersion(
        name=version.name,
        version=str(version.version),
        aliases=tuple(sorted(aliases.get((version.name, str(version.version)), []))),
        source=version.source,
        job_id=version.tags.get(describe.JOB_ID),
        metric=version.tags.get(METRIC),
        value=None if math.isnan(value) else value,
        created_at=version.creation_timestamp / 1000,
    )


def _text(tags: dict[str, str]) -> str:
    return f"{tags[METRIC]} = {tags[VALUE]} at step {tags[STEP]} of job {tags[describe.JOB_ID]}"
