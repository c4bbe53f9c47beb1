"""Registered models: the best checkpoint of a job as one version, its files in the bucket, and MLflow's view of it.

A version's files lie in models/<name>/<job>/ of the bucket: MLmodel (python_function flavor, loaded by the installed
module service.pyfunc), model.safetensors, config.json and, last, manifest.json. They are copies: retention may delete
the checkpoint. The service signs them (`service.models`), and SQL says which versions there are and which is the best:
MLflow's registry shows it, and nothing is ever read back from there. Every step may be repeated after a crash, by
several processes too.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import logging
import math
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any

from service import kinds
from service.artifacts import Artifacts
from service.directories import MANIFEST, read_manifest
from service.errors import ConflictError, NotFoundError, UnavailableError, UsageError
from service.mlmodel import examples, mlmodel
from service.model_files import BEST, MLMODEL, source
from service.pyfunc import CODE, CONFIG, MODEL
from service.queue.jobs import Checkpoint, Job
from service.tracking import describe, notes
from service.tracking.experiments import find_experiment
from service.tracking.models import Shown, log_model
from service.tracking.page import run_page
from service.tracking.runs import PATIENCE, find_run
from service.tracking.server import PAGE, all_pages, client, explained, patiently
from service.wire import ModelVersion, RegisterReply
from vae_models.data.config import DataConfig
from vae_models.measures import STORED, Mode

log = logging.getLogger(__name__)

STATE = "state.json"  # of the checkpoint: knows the data's shape
STALE_SECONDS = 60.0  # a duplicate this old was left by a crash; a younger one is removed by who made it
INSERTED_TWICE = ("IntegrityError", "UniqueViolation")  # what SQLite, MySQL and PostgreSQL call it in MLflow's answer

METRIC, VALUE, MODE, STEP = "vaesvc.metric", "vaesvc.value", "vaesvc.mode", "vaesvc.step"
MEASURE, DATA, CHECKPOINT = "vaesvc.measure", "vaesvc.data", "vaesvc.checkpoint"
VERSION, SIGNATURE = "vaesvc.version", "vaesvc.signature"

Sign = Callable[[int | None], RegisterReply]  # given MLflow's number of the version, where there is one


def register(
    mlflow_uri: str | None,
    artifacts: Artifacts,
    job: Job,
    checkpoint: Checkpoint,
    metric: str,
    mode: Mode,
    *,
    sign: Sign,
    tags: Mapping[str, str] = MappingProxyType({}),
) -> ModelVersion:
    """Register the job's version of the model `register_as`: files stored, shown in MLflow, signed by the service.

    tags: of MLflow's version, beside its own. While MLflow is away the version is signed all the same, and then
    UnavailableError raised: to be repeated. Raises CorruptObjectError if the checkpoint is not what was committed.
    """
    name = str(job.spec["register_as"])
    uri = _store(artifacts, job, checkpoint, name)
    if mlflow_uri is None:
        return sign(None).version
    value, config = checkpoint.metrics.get(metric, math.nan), kinds.config(job.spec)
    all_tags = dict(tags) | {
        describe.JOB_ID: job.id,
        METRIC: metric,
        VALUE: repr(value),
        MODE: mode,
        STEP: str(checkpoint.step),
        MEASURE: describe.measure(config),
        DATA: describe.data_name(config),
        CHECKPOINT: checkpoint.uri,
        **describe.code_tags(job.spec),
    }
    try:
        number = patiently(lambda: _one_version(mlflow_uri, job, checkpoint, name, uri, all_tags), PATIENCE)
    except UnavailableError:
        sign(None)
        raise
    reply = sign(int(number))
    patiently(lambda: show(mlflow_uri, name, number, reply.version.version, reply.envelope), PATIENCE)
    if reply.best is not None:
        best = reply.best
        patiently(lambda: show_best(mlflow_uri, best), PATIENCE)
    return reply.version


# --- MLflow's view --------------------------------------------------------------------------------------------------


def show(mlflow_uri: str, name: str, number: str, version: str, envelope: str) -> None:
    """Write the service's `version` and its signature as tags of MLflow's version `number`."""
    mlflow = client(mlflow_uri)
    with _set(mlflow_uri, f"describe version {number} of {name!r}"):
        there = mlflow.get_model_version(name, number).tags
        for key, value in ((VERSION, version), (SIGNATURE, envelope)):
            if there.get(key) != value:
                mlflow.set_model_version_tag(name, number, key, value)


def show_best(mlflow_uri: str, best: ModelVersion) -> None:
    """Put MLflow's alias `best` on the service's best version."""
    if best.mlflow_version is not None and _alias(mlflow_uri, best.name) != best.mlflow_version:
        _move_alias(mlflow_uri, best)


def put_back(mlflow_uri: str, known: Sequence[ModelVersion]) -> list[ModelVersion]:
    """Move MLflow's alias back to the best versions, and return those it was not on. known: all of the service's
    versions."""
    aliases = _aliases(mlflow_uri)
    moved = [best for best in _shown_bests(known) if aliases.get(best.name, best.mlflow_version) != best.mlflow_version]
    return [best for best in moved if _move_alias(mlflow_uri, best)]


def differences(mlflow_uri: str, known: Sequence[ModelVersion]) -> list[str]:
    """Return where MLflow's registry differs from the service's models: a sentence each."""
    lines = []
    sources = {(version.name, version.mlflow_version): version.source.rstrip("/") for version in known}
    strange: dict[str, list[str]] = {name: [] for name in sorted({version.name for version in known})}
    for there in _versions(mlflow_uri, None):
        number = str(there.version)
        if there.name in strange and sources.get((there.name, number)) != str(there.source).rstrip("/"):
            strange[there.name].append(number)
    for name, numbers in strange.items():
        if numbers:
            which = ", ".join(sorted(numbers, key=int))
            lines.append(f"MLflow has version {which} of {name!r}, which this service did not make: do not load it")
    aliases = _aliases(mlflow_uri)
    for best in _shown_bests(known):
        alias = aliases.get(best.name)
        if alias != best.mlflow_version:
            where = f"on version {alias}" if alias else "nowhere"
            lines.append(
                f"MLflow's alias {best.name}@{BEST} is {where}; the service's best is {best.mlflow_version}, which "
                "`vaesvc pull` takes"
            )
    return lines


def _shown_bests(known: Sequence[ModelVersion]) -> list[ModelVersion]:
    """Return the best of each model, where MLflow shows it."""
    return [version for version in known if BEST in version.aliases and version.mlflow_version is not None]


def _aliases(uri: str) -> dict[str, str]:
    """Return, for every model in MLflow, the version that its alias is on; "" where there is none."""
    mlflow = client(uri)
    with explained(uri, "list models"):
        models = all_pages(lambda token: mlflow.search_registered_models(max_results=PAGE, page_token=token))
    return {model.name: str(model.aliases.get(BEST, "")) for model in models}


def _alias(uri: str, name: str) -> str:
    """Return the version that MLflow's alias is on; "" where there is none."""
    with explained(uri, f"read the alias {BEST!r} of {name!r}"):
        return str(client(uri).get_registered_model(name).aliases.get(BEST, ""))


# --- files ----------------------------------------------------------------------------------------------------------


def _store(artifacts: Artifacts, job: Job, checkpoint: Checkpoint, name: str) -> str:
    """Copy what the model needs out of the checkpoint, unless it is stored already; return the address."""
    target = artifacts.uri(*source(name, job.id))
    with tempfile.TemporaryDirectory(prefix="vaesvc-model-") as scratch:
        folder = Path(scratch) / "model"
        artifacts.get_directory(checkpoint.uri, folder, checkpoint.manifest_sha256, only=(STATE,))
        sums = json.loads((folder / MANIFEST).read_bytes())["files"]
        state = json.loads((folder / STATE).read_bytes())
        shape = state["data_shape"]
        config = kinds.config(job.spec)
        trained_on = DataConfig.model_validate(dict(config["data"]), context=STORED)
        described = mlmodel(job, checkpoint, sums[MODEL]["bytes"], shape, trained_on, str(config["dtype"]))
        own = examples(shape) | {MLMODEL: described}
        sums |= {file: {"sha256": hashlib.sha256(text).hexdigest(), "bytes": len(text)} for file, text in own.items()}
        manifest = {
            "format": 1,
            "step": checkpoint.step,
            "data_shape": shape,
            "files": {file: sums[file] for file in (*own, MODEL, CONFIG)},
            "metrics": checkpoint.metrics,
        }
        if state.get("vocabulary") is not None:
            manifest["vocabulary"] = state["vocabulary"]
        if job.spec.get("code") is not None:
            manifest[CODE] = job.spec["code"]
        data = json.dumps(manifest, indent=1, sort_keys=True).encode()
        if not _is_there(artifacts, target, data):
            artifacts.get_directory(checkpoint.uri, folder, checkpoint.manifest_sha256, only=(MODEL, CONFIG))
            for file, text in {**own, MANIFEST: data}.items():
                (folder / file).write_bytes(text)
            artifacts.put_directory(folder, target)
    return target


def _is_there(artifacts: Artifacts, target: str, manifest: bytes) -> bool:
    """Return whether it is stored: the manifest is written last, so with it and every object's size right, all is."""
    sizes = {item.uri: item.bytes for item in artifacts.list(target)}
    wanted = {f"{target}/{file}": size for file, (_, size) in read_manifest(manifest, target).items()}
    if not wanted.items() <= sizes.items():
        return False
    try:
        return artifacts.get_bytes(f"{target}/{MANIFEST}") == manifest
    except NotFoundError:
        return False


# --- versions in MLflow ---------------------------------------------------------------------------------------------


def _one_version(uri: str, job: Job, checkpoint: Checkpoint, name: str, files: str, tags: dict[str, str]) -> str:
    """Return the job's version. MLflow numbers versions in the order in which they are made and makes as many as it is
    asked for: of several, the first one counts. Only one with these files does: tags are anybody's to write."""
    mlflow = client(uri)
    _make_model(uri, name)
    own = _of_job(uri, name, job, files)
    run_id = find_run(uri, job)
    model_id = None if run_id is None else _logged(uri, run_id, job, checkpoint, name, files, tags)
    made = None
    if not own:
        with explained(uri, f"register a version of {name!r}"):
            made = mlflow.create_model_version(
                name,
                files,
                run_id=run_id,
                model_id=model_id,
                tags=tags,
                description=_description(uri, job, run_id, tags),
                await_creation_for=0,
            ).version
        own = _of_job(uri, name, job, files)
        if not own:
            raise NotFoundError(f"version {made} of model {name!r} was deleted while it was registered")
    first, *rest = own
    for each in rest:
        if str(each.version) == str(made) or _age(each) > STALE_SECONDS:
            _delete_version(uri, name, each.version)
    with _set(uri, f"describe version {first.version} of {name!r}"):
        for key, value in tags.items():
            if first.tags.get(key) != value:  # the job went on, and its best checkpoint is another one now
                mlflow.set_model_version_tag(name, first.version, key, value)
        line, _, text = (first.description or "").partition("\n")
        if line != _text(tags) and line.endswith(f" of job {job.id}"):  # what somebody else wrote stays
            mlflow.update_model_version(name, first.version, description=f"{_text(tags)}\n{text}".rstrip("\n"))
    return str(first.version)


def _move_alias(uri: str, best: ModelVersion) -> bool:
    """Move the alias, and return whether it was: not to a version that is gone, or has other files (attempts say its
    number)."""
    try:
        with explained(uri, f"read version {best.mlflow_version} of {best.name!r}"):
            files = str(client(uri).get_model_version(best.name, best.mlflow_version).source).rstrip("/")
    except NotFoundError:
        return False
    if files == best.source.rstrip("/"):
        _set_alias(uri, best.name, best.mlflow_version)
    return files == best.source.rstrip("/")


def _set_alias(uri: str, name: str, version: Any) -> None:
    with _set(uri, f"move the alias {BEST!r} of {name!r}"):
        client(uri).set_registered_model_alias(name, BEST, version)


@contextlib.contextmanager
def _set(uri: str, doing: str) -> Iterator[None]:
    """Raise UnavailableError, for another try, where MLflow refuses an alias or a tag: it inserts one that it did not
    find, and of two first ones in one moment the second is refused."""
    try:
        with explained(uri, doing):
            yield
    except UsageError as error:
        if any(word in str(error) for word in INSERTED_TWICE):
            raise UnavailableError(str(error)) from error
        raise


def _make_model(uri: str, name: str) -> None:
    mlflow = client(uri)
    try:
        with explained(uri, f"find the model {name!r}"):
            there = mlflow.get_registered_model(name)
            if not there.description:  # an earlier version made it
                mlflow.update_registered_model(name, notes.model_note(name))
    except NotFoundError:
        try:
            with explained(uri, f"create the model {name!r}"):
                mlflow.create_registered_model(name, description=notes.model_note(name))
        except ConflictError:
            return  # another job was faster


def _delete_version(uri: str, name: str, version: str) -> None:
    try:
        with explained(uri, f"delete the duplicate version {version} of {name!r}"):
            client(uri).delete_model_version(name, version)
    except (NotFoundError, UsageError):
        return  # somebody else was faster


def _versions(uri: str, name: str | None, job: Job | None = None) -> list[Any]:
    mlflow = client(uri)
    where = [f"name = '{name}'"] if name is not None else []
    where += [f"tags.`{describe.JOB_ID}` = '{job.id}'"] if job is not None else []
    with explained(uri, "list model versions"):
        return all_pages(
            lambda token: mlflow.search_model_versions(" AND ".join(where), max_results=PAGE, page_token=token)
        )


def _logged(
    uri: str, run_id: str, job: Job, checkpoint: Checkpoint, name: str, files: str, tags: Mapping[str, str]
) -> str | None:
    """Return the run's logged model; None where MLflow's server is older than those."""
    params = dict(describe.flatten({"model": kinds.config(job.spec)["model"]}))
    try:
        note = _description(uri, job, run_id, tags)
        shown = Shown(name=name, owner=job.owner, files=files, note=note, params=params, tags=tags)
        return log_model(uri, run_id, shown, checkpoint)
    except (NotFoundError, UsageError) as error:
        log.warning("the run's page shows no model: %s", error)
        return None


def _description(uri: str, job: Job, run_id: str | None, tags: Mapping[str, str]) -> str:
    page = None if run_id is None else run_page(str(find_experiment(uri, job)), run_id)
    return notes.version_note(_text(tags), job, tags[DATA], tags[MEASURE], page)


def _of_job(uri: str, name: str, job: Job, files: str) -> list[Any]:
    """Return the job's versions, the one that was made first at the front."""
    every = _versions(uri, name, job)
    own = [each for each in every if str(each.source).rstrip("/") == files]
    return sorted(own, key=lambda each: int(each.version))


def _age(version: Any) -> float:
    """Return the age in seconds."""
    return time.time() - float(version.creation_timestamp) / 1000


def _text(tags: Mapping[str, str]) -> str:
    return f"{tags[METRIC]} = {tags[VALUE]} at step {tags[STEP]} of job {tags[describe.JOB_ID]}"
