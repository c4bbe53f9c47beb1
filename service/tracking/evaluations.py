"""What an evaluation found out, on the run of the model that it is about, on its logged model and on its version.

Everything may be repeated: a point that is logged again with the same time stays one point, files and pictures are
written over. Nothing here is read back by anybody who chooses a model.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any

from service.errors import NotFoundError
from service.tracking import pictures
from service.tracking.models import model_of
from service.tracking.page import run_page
from service.tracking.runs import PATIENCE
from service.tracking.server import POINTS_PER_CALL, client, explained, patiently

FOLDER = "evaluation"  # of a run's artifacts
OF, RUN = "vaesvc.evaluates", "vaesvc.evaluates_run"  # tags of the evaluation's own run


@dataclass(frozen=True, kw_only=True)
class Evaluation:
    """What is logged.

    job:      the evaluation's own
    step:     of the checkpoint that was evaluated
    at:       when the evaluation ended, milliseconds since 1970
    metrics:  by name; a text of each for a version's page
    pictures: PNG by name
    files:    a folder of what is kept beside them, or none
    version:  (name, MLflow's number) of the registered version that these weights are; none where they are none
    """

    job: str
    step: int
    at: int
    metrics: Mapping[str, float]
    texts: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))
    pictures: Mapping[str, bytes] = field(default_factory=lambda: MappingProxyType({}))
    files: Path | None = None
    version: tuple[str, str] | None = None


def log_evaluation(uri: str, run_id: str, evaluation: Evaluation) -> None:
    """Log it to the model's run, and to its version. Raises UnavailableError where MLflow does not answer."""
    patiently(lambda: _log_metrics(uri, run_id, evaluation), PATIENCE)
    for name, png in evaluation.pictures.items():
        patiently(lambda name=name, png=png: pictures.put(uri, run_id, name, evaluation.step, png), PATIENCE)  # type: ignore[misc]
    patiently(lambda: _log_files(uri, run_id, evaluation), PATIENCE)
    patiently(lambda: _tag_version(uri, evaluation), PATIENCE)


def point_to(uri: str, own: str, of: str, run_id: str) -> None:
    """Let the evaluation's own run say which model it is about, and where that model's run is."""

    def once() -> None:
        server = client(uri)
        with explained(uri, f"tag run {own}"):
            experiment = str(server.get_run(run_id).info.experiment_id)
            server.set_tag(own, OF, of)
            server.set_tag(own, RUN, run_page(experiment, run_id))

    patiently(once, PATIENCE)


def _log_metrics(uri: str, run_id: str, evaluation: Evaluation) -> None:
    server = client(uri)
    from mlflow.entities import Metric

    linked: dict[str, Any] = {"run_id": run_id}
    if evaluation.version is not None and (model_id := model_of(uri, run_id)) is not None:
        linked["model_id"] = model_id
    points: Sequence[Any] = [
        Metric(name, value, evaluation.at, evaluation.step, **linked) for name, value in evaluation.metrics.items()
    ]
    with explained(uri, f"log the evaluation {evaluation.job} to run {run_id}"):
        for start in range(0, len(points), POINTS_PER_CALL):
            server.log_batch(run_id, metrics=points[start : start + POINTS_PER_CALL])


def _log_files(uri: str, run_id: str, evaluation: Evaluation) -> None:
    if evaluation.files is not None:
        with explained(uri, f"keep the files of the evaluation {evaluation.job}"):
            client(uri).log_artifacts(run_id, str(evaluation.files), f"{FOLDER}/{evaluation.job}")


def _tag_version(uri: str, evaluation: Evaluation) -> None:
    """Write the values on the version's page, where there is such a version."""
    if evaluation.version is None:
        return
    name, number = evaluation.version
    server = client(uri)
    try:
        with explained(uri, f"describe version {number} of {name!r}"):
            there = server.get_model_version(name, number).tags
            for key, text in evaluation.texts.items():
                if there.get(key) != text:
                    server.set_model_version_tag(name, number, key, text)
    except NotFoundError:
        return  # somebody deleted it there: the service's version has no page then
