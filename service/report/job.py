"""What is shown of a job of the service: a training run with what evaluations found out about it, or one evaluation."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from service import kinds
from service.download import get_bytes
from service.errors import UsageError, VaesvcError
from service.kinds.kind import loaded
from service.kinds.plain import trained as one_model
from service.report.records import Curve, Evaluated, Reported
from service.tracking import describe
from service.tracking.reports import histories

if TYPE_CHECKING:
    from service.client import Client
    from service.queue.jobs import Job
    from service.wire import JobView
    from vae_models.evaluation.findings import Picture

EVALUATE = "evaluate"
PAGE = 1000  # jobs that one question is answered with
PICTURE_BYTES = 64 * 2**20  # of one


def reported(client: Client, job_id: str, mlflow_uri: str | None) -> Reported:
    """Return what there is of the job's model. Raise UsageError for one that trains several models, or none."""
    job = client.job(job_id).job
    spec = kinds.config(job.spec)
    model: Mapping[str, Any] = job.spec.get("model") or {} if job.kind == EVALUATE else {"job": job.id}
    several = loaded(kinds.named(job.kind).trained) is not one_model
    if several or not spec or not model:
        raise UsageError(
            f"{job_id} is {kinds.named(job.kind).called}: a report is of training runs and of evaluations; evaluate a "
            "study's winner or trial first (vaesvc evaluate JOB, vaesvc evaluate JOB/STAGE/TRIAL)"
        )
    trainer = job if job.kind != EVALUATE else client.job(str(model["job"])).job
    view = client.view(job_id)
    views = [view] if job.kind == EVALUATE else list(_evaluations(client, job))
    run_id = None if model.get("trial") else trainer.run_id
    curves, why = _curves(mlflow_uri, run_id)
    return Reported(
        name=f"{job.name} ({job.id})",
        facts=dict(_facts(job, spec, model)),
        spec=spec,
        curves=curves,
        pictures=() if job.kind == EVALUATE else tuple(_pictures(view)),
        evaluated=tuple(every for each in views for every in evaluated(each)),
        notes=(why,) if why else (),
        run_id=run_id,
    )


def _facts(job: Job, spec: Mapping[str, Any], model: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    yield "job", f"{job.id}, {kinds.named(job.kind).noun} by {job.owner}: {job.state.value.lower()}"
    if job.kind == EVALUATE:
        trial = f"/{model['trial']}" if model.get("trial") else ""
        yield "evaluates", f"{job.spec['of']}: job {model['job']}{trial}, step {model['step']:,}"
        yield "weights", str(model["manifest_sha256"])[:12]
    if job.spec.get("recipe"):
        yield "recipe", str(job.spec["recipe"])
    yield "compared as", f"{describe.data_name(spec)} ({describe.measure(spec)})"


def _evaluations(client: Client, job: Job) -> Iterator[JobView]:
    """Yield the evaluations of the job's model, the older first: of the weights that the newest one is about."""
    evaluations = [
        other for other in _jobs(client, since=job.created_at)
        if other.kind == EVALUATE and other.state.value == "SUCCEEDED" and _is_of(other, job)
    ]  # fmt: skip
    weights = evaluations[0].spec["model"]["manifest_sha256"] if evaluations else None
    for other in reversed(evaluations):
        if other.spec["model"]["manifest_sha256"] == weights:
            yield client.view(other.id)


def _is_of(evaluation: Job, job: Job) -> bool:
    model = evaluation.spec.get("model") or {}
    return model.get("job") == job.id and model.get("trial") is None


def _jobs(client: Client, since: float) -> Iterator[Job]:
    """Yield the jobs that were submitted since then, newest first."""
    before: str | None = None
    while page := client.jobs(limit=PAGE, before=before):
        yield from (job for job in page if job.created_at >= since)
        if len(page) < PAGE or page[-1].created_at < since:
            return
        before = page[-1].id


def _curves(mlflow_uri: str | None, run_id: str | None) -> tuple[Mapping[str, Curve], str]:
    """Return what MLflow has of the run, and why there is nothing."""
    if run_id is None:
        return {}, "no curves: it has no run of its own in MLflow"
    if mlflow_uri is None:
        return {}, "no curves: no MLflow server is set (VAESVC_MLFLOW_URI)"
    try:
        return histories(mlflow_uri, run_id), ""
    except VaesvcError as error:
        return {}, f"no curves: {error}"


def _pictures(view: JobView) -> Iterator[Picture]:
    from vae_models.evaluation.findings import Picture

    for name, address in view.pictures.items():
        yield Picture(name=name, png=get_bytes(address, PICTURE_BYTES))


def _gif(view: JobView, name: str) -> bytes | None:
    address = view.pictures.get(f"{name}.gif")
    return None if address is None else get_bytes(address, PICTURE_BYTES)


def evaluated(view: JobView) -> Sequence[Evaluated]:
    """Return what an evaluation has found out, with its pictures."""
    from vae_models.evaluation.findings import Picture, of_plain

    evaluated = []
    for each in view.detail["findings"].values():
        pictures = tuple(
            Picture(
                name=said["name"],
                caption=said["caption"],
                png=get_bytes(view.pictures[said["name"]], PICTURE_BYTES),
                gif=_gif(view, said["name"]),
            )
            for said in each["pictures"]
            if said["name"] in view.pictures
        )
        findings = replace(of_plain(each), pictures=pictures)
        evaluated.append(Evaluated(plan=view.detail["plan"], findings=findings))
    return evaluated
