"""The experiment that a job's run belongs to: found by its name, which is unique, and said to be of trained models."""

from __future__ import annotations

from typing import Any

from service.errors import ConflictError
from service.queue.jobs import Job
from service.tracking import describe, notes
from service.tracking.server import client, explained

KIND = "mlflow.experimentKind"  # without it MLflow's pages guess, and open an empty list of evaluations of prompts
TRAINING = "custom_model_development"


def find_experiment(uri: str, job: Job) -> str | None:
    """Return the id of the job's experiment, if it exists and is not deleted. One request, whatever else the server
    has."""
    experiment = _by_name(uri, describe.experiment_name(job))
    return None if experiment is None or experiment.lifecycle_stage == "deleted" else str(experiment.experiment_id)


def make_experiment(uri: str, job: Job) -> str:
    """Return the id of the job's experiment: created, restored, or as it is; and of the right kind."""
    name = describe.experiment_name(job)
    experiment = _by_name(uri, name)
    if experiment is None:
        tags = {
            notes.NOTE: notes.experiment_note(job.kind, describe.measured(job)),
            KIND: TRAINING,
        }
        try:
            with explained(uri, f"create the experiment {name!r}"):
                return str(client(uri).create_experiment(name, tags=tags))
        except ConflictError:  # another job was faster
            return make_experiment(uri, job)
    with explained(uri, f"describe the experiment {name!r}"):
        if experiment.lifecycle_stage == "deleted":
            client(uri).restore_experiment(experiment.experiment_id)
        if KIND not in experiment.tags:  # an earlier version made it; what somebody chose stays
            client(uri).set_experiment_tag(experiment.experiment_id, KIND, TRAINING)
    return str(experiment.experiment_id)


def _by_name(uri: str, name: str) -> Any:
    with explained(uri, f"find the experiment {name!r}"):
        return client(uri).get_experiment_by_name(name)
