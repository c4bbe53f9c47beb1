"""What is left to be done in MLflow when an evaluation is over: the model's own run and version get what was found."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from service import tracking
from service.directories import MANIFEST
from service.errors import UntrustedError
from service.kinds.evaluate import metrics, tables
from service.kinds.evaluate.spec import Evaluated, EvaluateSpec
from service.kinds.evaluate.storage import PLACE, SUMMARY, findings_of
from service.queue.jobs import Job, JobState
from service.tracking.evaluations import Evaluation, log_evaluation, point_to
from vae_models.evaluation.findings import TENSORS
from vae_models.measures import STORED

if TYPE_CHECKING:
    from service.artifacts import Artifacts
    from service.kinds.house import House


def follow(uri: str, job: Job, house: House, folder: Path) -> None:
    """Log the findings of an evaluation that succeeded: all of them, or, where MLflow is away, later. Harmless to
    repeat.

    uri: MLflow's; folder: of this process, for files on their way
    """
    spec = EvaluateSpec.model_validate(job.spec, context=STORED)
    if job.state is not JobState.SUCCEEDED or spec.model is None:
        return
    trained = house.store.job(spec.model.job)
    run_id = _run(uri, trained, spec.model)
    if run_id is None:
        return  # the model was trained without MLflow
    files = folder / f"{job.id}-evaluation"
    try:
        findings = findings_of(house.artifacts, job.id)
        log_evaluation(uri, run_id, _evaluation(job, spec, spec.model, findings, house, files))
        if (own := tracking.find_run(uri, job)) is not None:
            point_to(uri, own, spec.of, run_id)
    finally:
        shutil.rmtree(files, ignore_errors=True)


def _run(uri: str, trained: Job, model: Evaluated) -> str | None:
    """Return the run of the model: of a trial its own, else the job's, which its version points to."""
    if model.trial is None:
        return tracking.find_run(uri, trained)
    return tracking.find_trial(uri, trained, *model.trial.split("/"))


def _evaluation(
    job: Job, spec: EvaluateSpec, model: Evaluated, findings: Mapping[str, Mapping[str, Any]], house: House, files: Path
) -> Evaluation:
    values = [value for each in findings.values() for value in each["values"]]
    _fetch(house.artifacts, job.id, findings, files)
    (files / SUMMARY).write_text(
        json.dumps({"job": job.id, "of": spec.of, **_plain(spec), "findings": findings}, indent=1) + "\n"
    )
    drawn = {
        metrics.picture(spec.plan.split, picture["name"]): (files / key / f"{picture['name']}.png").read_bytes()
        for key, each in findings.items()
        for picture in each["pictures"]
    }
    return Evaluation(
        job=job.id, step=model.step, at=int(1000 * (job.ended_at or 0)), metrics=metrics.of(spec.plan.split, values),
        texts={f"vaesvc.{name}": text for name, text in _texts(spec.plan.split, values).items()}, pictures=drawn,
        files=files, version=_version(model, house),
    )  # fmt: skip


def _plain(spec: EvaluateSpec) -> dict[str, Any]:
    return {name: spec.model_dump(mode="json")[name] for name in ("model", "plan")}


def _texts(split: str, values: list[Mapping[str, Any]]) -> dict[str, str]:
    """Return each value with error and unit, by its metric's name."""
    texts = {}
    for value in values:
        shown, error = tables.with_error(value["value"], value["error"])
        (name,) = metrics.of(split, [{**value, "error": None}])
        texts[name] = f"{shown}{'' if error is None else f' +- {error}'} {value['unit']}"
    return texts


def _fetch(artifacts: Artifacts, job_id: str, findings: Mapping[str, Any], files: Path) -> None:
    """Copy the findings, without tensors, which stay where they are."""
    for key in findings:
        uri = artifacts.uri(PLACE, job_id, key)
        names = (stored.uri.removeprefix(f"{uri}/") for stored in artifacts.list(uri))
        artifacts.get_directory(uri, files / key, only=[name for name in names if name not in (TENSORS, MANIFEST)])


def _version(model: Evaluated, house: House) -> tuple[str, str] | None:
    """Return the version that these very weights are, as MLflow numbers it; None where they are none."""
    row = house.store.model_version(model.job)
    if row is None or row.mlflow_version is None:
        return None
    try:
        said = house.models.said(row)
    except UntrustedError:
        return None
    same = said.manifest_sha256 == model.manifest_sha256 if model.name is not None else said.checkpoint == model.uri
    return (row.name, str(row.mlflow_version)) if same else None
