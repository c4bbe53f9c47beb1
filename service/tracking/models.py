"""The model of a run as MLflow 3 shows it: a logged model on the run's page, with its metrics, linked to its versions.

Its files are those of the registered version (`service.registry`), where the service signs them; there are no others.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from service.errors import NotFoundError, UsageError
from service.queue.jobs import Checkpoint
from service.tracking.notes import NOTE
from service.tracking.runs import SETTLE
from service.tracking.server import PARAMS_PER_CALL, all_pages, client, explained
from vae_models.measures import is_evaluation

MODEL_TYPE = "vae"
FILES, STEP = "vaesvc.files", "vaesvc.step"  # tags
PARAM_LENGTH = 500  # characters; half of what all databases behind MLflow take


@dataclass(frozen=True, kw_only=True)
class Shown:
    """What a logged model shows. files: the address of the version's files; note: its description, as Markdown."""

    name: str
    owner: str
    files: str
    note: str
    params: Mapping[str, str]
    tags: Mapping[str, str]


def log_model(uri: str, run_id: str, shown: Shown, checkpoint: Checkpoint) -> str:
    """Return the id of the run's model, made unless it exists, with the checkpoint's evaluation linked to it. Several
    processes that make it at once get the same one, and delete their own; repeating it changes nothing."""
    mlflow = client(uri)
    with explained(uri, f"read run {run_id}"):
        run = mlflow.get_run(run_id)
    experiment = run.info.experiment_id
    models, made = _models(uri, experiment, run_id), None
    if not models:
        made = _make(uri, experiment, run_id, shown)
        time.sleep(SETTLE)  # until others that were as fast have theirs
        models = _models(uri, experiment, run_id)
    if not models:
        raise NotFoundError(f"the model of run {run_id} was deleted while it was made")
    first = models[0]
    if made is not None and made != first.model_id:
        _delete(uri, made)
    _complete(uri, run, first, shown, checkpoint)
    return str(first.model_id)


def model_of(uri: str, run_id: str) -> str | None:
    """Return the id of the run's logged model; None where it has none."""
    with explained(uri, f"read run {run_id}"):
        experiment = client(uri).get_run(run_id).info.experiment_id
    models = _models(uri, experiment, run_id)
    return str(models[0].model_id) if models else None


def _make(uri: str, experiment: str, run_id: str, shown: Shown) -> str:
    mlflow = client(uri)
    params = {key: value[:PARAM_LENGTH] for key, value in shown.params.items()}
    name = shown.name.replace(".", "-")  # which MLflow does not allow here
    with explained(uri, f"log the model of run {run_id}"):
        made = mlflow.create_logged_model(
            experiment, name, source_run_id=run_id, tags=dict(shown.tags), params=params, model_type=MODEL_TYPE
        )
    return str(made.model_id)


def _models(uri: str, experiment: str, run_id: str) -> list[Any]:
    """Return the run's models, oldest first."""
    mlflow, where = client(uri), f"source_run_id = '{run_id}'"
    with explained(uri, f"look for the model of run {run_id}"):
        logged = all_pages(lambda token: mlflow.search_logged_models([experiment], where, page_token=token))
    return sorted(logged, key=lambda model: (model.creation_timestamp, model.model_id))


def _complete(uri: str, run: Any, model: Any, shown: Shown, checkpoint: Checkpoint) -> None:
    """Add what a crash, or an earlier and worse checkpoint, left out."""
    server, run_id, model_id = client(uri), run.info.run_id, model.model_id
    from mlflow.entities import LoggedModelOutput, LoggedModelStatus

    tags = dict(shown.tags) | {
        FILES: shown.files,
        STEP: str(checkpoint.step),
        NOTE: model.tags.get(NOTE) or shown.note,  # whoever edited it keeps it
        "mlflow.user": shown.owner,
        "mlflow.source.name": "vaesvc",
        "mlflow.source.type": "JOB",
    }
    with explained(uri, f"describe the model of run {run_id}"):
        if changed := {key: value for key, value in tags.items() if model.tags.get(key) != value}:
            server.set_logged_model_tags(model_id, changed)
        if not any(output.model_id == model_id for output in run.outputs.model_outputs):
            server.log_outputs(run_id, [LoggedModelOutput(model_id, checkpoint.step)])
        known = {(metric.key, metric.step) for metric in model.metrics or []}
        _link(
            uri,
            run,
            model_id,
            {k: v for k, v in checkpoint.metrics.items() if (k, checkpoint.step) not in known},
            checkpoint,
        )
        if model.status != LoggedModelStatus.READY:
            server.finalize_logged_model(model_id, LoggedModelStatus.READY)


def _link(uri: str, run: Any, model_id: str, metrics: Mapping[str, float], checkpoint: Checkpoint) -> None:
    """Link the checkpoint's evaluation, as the run has it, to the model, too. A point that is logged again with the
    very same time stays one point of the run."""
    server, run_id = client(uri), run.info.run_id
    from mlflow.entities import Metric

    data = next((each.dataset for each in run.inputs.dataset_inputs), None)
    points = []
    for key, value in sorted(metrics.items()):
        if not is_evaluation(key):
            continue
        at = [point for point in server.get_metric_history(run_id, key) if point.step == checkpoint.step]
        made_at, value = (at[0].timestamp, at[0].value) if at else (int(checkpoint.committed_at * 1000), value)
        linked = {"model_id": model_id, "run_id": run_id}
        if data is not None:
            linked |= {"dataset_name": data.name, "dataset_digest": data.digest}
        points.append(Metric(key, value, made_at, checkpoint.step, **linked))
    for start in range(0, len(points), PARAMS_PER_CALL):
        server.log_batch(run_id, metrics=points[start : start + PARAMS_PER_CALL])


def _delete(uri: str, model_id: str) -> None:
    try:
        with explained(uri, f"delete the duplicate model {model_id}"):
            client(uri).delete_logged_model(model_id)
    except (NotFoundError, UsageError):
        return  # somebody else was faster
