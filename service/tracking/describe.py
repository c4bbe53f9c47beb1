"""What a run is called, and what it says about itself. Pure functions of the job."""

from __future__ import annotations

import importlib.metadata
import json
import platform
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from service import kinds
from service.code import path
from service.queue.jobs import Job
from service.specs.job import JobSpec
from service.tracking import notes
from service.tracking.source import source
from vae_models.data.noises import NOISES
from vae_models.likelihoods.specs import LIKELIHOODS

JOB_ID = "vaesvc.job_id"
STUDY = "vaesvc.study_id"  # of a child run: the job that it belongs to
TRIAL = "vaesvc.trial_id"  # of a child run: job/stage/key
CODE, CODE_DIGEST = "vaesvc.code", "vaesvc.code_sha256"  # of a model version, too
PARAM_LENGTH = 6000  # MLflow's limits, characters
TAG_LENGTH = 8000

# The result does not depend on these: they would only blur a comparison. The tag vaesvc.spec has them, too.
ASIDE = frozenset({"log_every_steps", "evaluation", "checkpoint"})


def handle(owner: str) -> str:
    """Return the tag by which runs of `owner` (a job's id, a trial's) are found. MLflow's index is over the tags'
    names, so a name that nobody else has is found at once among any number of runs; its pages hide what begins with
    `mlflow.`."""
    return f"mlflow.vaesvc.{owner}"


def trials_of(job: Job) -> str:
    """Return the owner of all child runs of a study."""
    return f"{job.id}.trials"


def data_name(config: Mapping[str, Any]) -> str:
    """Return the data as the model sees them: `mnist`, `mnist-dynamic` where they are binarized, noise where there is
    some. A set of a user's own has the beginning of its digest, since its name may come to mean another set.

    config: a `TrainConfig`, as data.
    """
    data = config["data"]
    binarize, noise = data.get("binarize", "none"), data.get("noise", {"kind": "none"})
    digest = data.get("digest")
    which = data["name"] if digest is None else f"{data['name']}@{digest[:8]}"
    name = str(which) if binarize == "none" else f"{which}-{binarize}"
    part = NOISES.find(noise["kind"])
    called = noise["kind"] if part is None else part.model_validate(noise).called()  # None: of a job's own code
    return f"{name}-{called}" if called else name


def measure(config: Mapping[str, Any]) -> str:
    """Return the measure of log p(x|z): "density", "mass" (of two levels), "mass of 256 levels". Their nats are never
    compared."""
    model = config["model"]
    kind = model["likelihood"]["kind"] if "likelihood" in model else model["kind"]
    part = LIKELIHOODS.find(kind)
    # of a job's own code, which the service does not import: its nats are compared with its own alone
    if part is None or path.brings(part):
        return f"measure of {kind}"
    return part.measure if part.levels in (None, 2) else f"{part.measure} of {part.levels} levels"


def experiment_name(job: Job) -> str:
    """Return the experiment's name: one per data and measure, since exactly within one are two runs' nats comparable.

    Jobs that are about no training configuration have one for each kind.
    """
    config = kinds.config(job.spec)
    return f"{data_name(config)} ({measure(config)})" if config else f"jobs of kind {job.kind}"


def run_name(job: Job) -> str:
    return f"{job.name} {job.id}"


@dataclass(frozen=True, kw_only=True)
class TrialRun:
    """One trial of a study, as its child run shows it. config: its `TrainConfig`, as data."""

    stage: str
    number: int
    key: str  # of the trial in its stage: it changes with the configuration
    candidate: int
    seed: int
    assignment: Mapping[str, Any]
    config: Mapping[str, Any]

    def id(self, job: Job) -> str:
        return f"{job.id}/{self.stage}/{self.key}"


def flatten(config: Mapping[str, Any], path: str = "") -> Iterator[tuple[str, str]]:
    """Yield dotted paths and texts. A part's kind stands for the part: {"beta": {"kind": "warmup", "epochs": 10.0}}
    gives beta = warmup and beta.epochs = 10.0."""
    for key, value in config.items():
        where = path if key == "kind" and path else f"{path}.{key}" if path else key
        if isinstance(value, Mapping):
            yield from flatten(value, where)
        else:
            yield where, _text(value)


def params(job: Job) -> dict[str, str]:
    """Return the resolved config, what was chosen to run it with, and where it came from, as MLflow's params."""
    flat = _config_params(kinds.config(job.spec) or _own_part(job.spec))
    flat["workers"] = str(job.resources.workers)
    if job.spec.get("recipe"):
        flat["recipe"] = str(job.spec["recipe"])
    if job.spec.get("code"):
        flat["code"] = str(job.spec["code"]["digest"])
    return {key: value[:PARAM_LENGTH] for key, value in flat.items()}


def _own_part(spec: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return what a spec has beside the fields of every job."""
    return {name: value for name, value in spec.items() if name not in JobSpec.model_fields}


def trial_params(trial: TrialRun) -> dict[str, str]:
    return _config_params(trial.config)


def _config_params(config: Mapping[str, Any]) -> dict[str, str]:
    flat = flatten({key: value for key, value in config.items() if key not in ASIDE})
    return {key: value[:PARAM_LENGTH] for key, value in flat}


def trial_name(trial: TrialRun) -> str:
    """Return the trial's name. What was tried comes first: lists of runs show the beginning."""
    tried = ", ".join(f"{path}={_short(value)}" for path, value in trial.assignment.items())
    return f"{tried} (seed {trial.seed}, {trial.stage} {trial.number})"


def _short(value: Any) -> str:
    if isinstance(value, Mapping):
        return str(value.get("kind", _text(value)))
    return f"{value:g}" if isinstance(value, float) else _text(value)


def trial_tags(job: Job, trial: TrialRun, number: int, parent: str) -> dict[str, str]:
    """Return the trial's tags: MLflow shows a run with its parent's id below its parent."""
    return {
        "mlflow.parentRunId": parent,
        handle(trial.id(job)): "1",
        handle(trials_of(job)): "1",
        notes.NOTE: notes.trial_note(job, trial.stage, trial.number, trial.assignment),
        TRIAL: trial.id(job),
        STUDY: job.id,
        "vaesvc.stage": trial.stage,
        "vaesvc.trial": str(trial.number),
        "vaesvc.key": trial.key,
        "vaesvc.candidate": str(trial.candidate),
        "vaesvc.attempt": str(number),
        "vaesvc.owner": job.owner,
        "vaesvc.data": data_name(trial.config),
        "vaesvc.measure": measure(trial.config),
        "vaesvc.seed": str(trial.seed),
        "mlflow.user": job.owner,
        "mlflow.source.name": "vaesvc",
        "mlflow.source.type": "JOB",
        "vaesvc.assignment": json.dumps(dict(trial.assignment), sort_keys=True)[:TAG_LENGTH],
        **code_tags(job.spec),
        **source().tags(),
    }


def tags(job: Job, number: int) -> dict[str, str]:
    config = kinds.config(job.spec)
    labels = {
        JOB_ID: job.id,
        handle(job.id): "1",
        notes.NOTE: notes.run_note(job, config, measured(job)),
        "vaesvc.attempt": str(number),
        "vaesvc.owner": job.owner,
        **({"vaesvc.data": data_name(config), "vaesvc.measure": measure(config)} if config else {}),
        "vaesvc.seed": _text(config.get("seed")),
        "vaesvc.workers": str(job.resources.workers),
        "mlflow.user": job.owner,
        "mlflow.source.name": "vaesvc",
        "mlflow.source.type": "JOB",
        **{f"version.{name}": version for name, version in versions().items()},
        **code_tags(job.spec),
        **source().tags(),
    }
    spec = json.dumps(job.spec, sort_keys=True)
    if len(spec) <= TAG_LENGTH:  # half a JSON text would help nobody
        labels[notes.SPEC] = spec
    return labels


def code_tags(spec: Mapping[str, Any]) -> dict[str, str]:
    """Return the tags of the user's own package, where the job has one: its name for people, and its digest."""
    code = spec.get("code")
    return {} if code is None else {CODE: f"{code['name']} {code['version']}", CODE_DIGEST: str(code["digest"])}


def measured(job: Job) -> str | None:
    """Return on what the job is measured, and in which unit; None where nothing is."""
    config = kinds.config(job.spec)
    return f"{data_name(config)}; nats per datum of a {measure(config)}" if config else None


def versions() -> dict[str, str]:
    """Return the versions of what computes: read from the installed packages, nothing is imported."""
    numbers = {"python": platform.python_version()}
    for name in ("vaesvc", "torch", "ray", "mlflow"):
        try:
            numbers[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            try:
                numbers[name] = importlib.metadata.version(f"{name}-skinny")
            except importlib.metadata.PackageNotFoundError:
                continue
    return numbers


def _text(value: Any) -> str:
    if value is None:
        return "none"
    return value if isinstance(value, str) else json.dumps(value)
