"""An evaluation on a Ray cluster: a gang of 1..N workers around `vae_models.evaluation.run.evaluate`."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from service.attempt import gang
from service.attempt.assignment import Assignment
from service.kinds.evaluate import plans
from service.kinds.evaluate.spec import Evaluated, EvaluateSpec, whole
from vae_models.measures import STORED

if TYPE_CHECKING:
    from service.kinds.evaluate.reports import EvaluationReports
    from vae_models.evaluation.findings import Findings

MOST_VALUES = 1000  # in the job's result; all of them lie in storage


def run(order: Assignment, spec: EvaluateSpec) -> dict[str, Any]:
    """Evaluate on the cluster; return the job's result. Raises UsageError where the plan does not suit the model, and
    Ray's TrainingFailedError."""
    _, config = whole(spec)
    plans.fitting(spec.plan, config)
    return gang.run(order, spec.resources, evaluate_worker)


def evaluate_worker(config: dict[str, Any]) -> None:
    """Evaluate, in every worker process."""
    from service.attempt.context import own_folder
    from service.attempt.reporting import NodeReport
    from service.kinds.evaluate.reports import EvaluationReports

    started = time.time()
    worker = gang.Worker(config)
    spec = EvaluateSpec.model_validate(worker.order.context.job.spec, context=STORED)
    artifacts = worker.order.artifacts(patience_seconds=90.0)
    scratch = own_folder(worker.scratch / f"rank-{worker.rank}")
    reports = node = None
    if worker.rank == 0:
        step = whole(spec)[0].step
        reports = EvaluationReports(
            worker.order, artifacts, scratch, worker.place, step=step, split=spec.plan.split
        )  # fmt: skip
    elif worker.place.node != 0 and worker.place.local_rank == 0:
        node = NodeReport(worker.order, artifacts, scratch, worker.place)
    try:
        findings = _evaluate(worker, spec, artifacts, reports)
    except BaseException:
        if reports is not None:
            reports.abandon()
        raise
    finally:
        if node is not None:
            node.close()
    if reports is not None:
        said = {"timings": {"worker_started": started}} | reports.close()
        worker.leave(_result(spec, findings) | said, artifacts)


def _evaluate(
    worker: gang.Worker, spec: EvaluateSpec, artifacts: Any, reports: EvaluationReports | None
) -> Mapping[str, Findings] | None:
    """Return the findings by key, whole on the first worker; None where the evaluation was stopped."""
    from service.attempt.context import Copies
    from service.data.fetch import Bucket
    from service.kinds.evaluate.kept import StoredKept
    from service.kinds.evaluate.pace import Pace
    from service.kinds.evaluate.weights import load
    from vae_models import data
    from vae_models.evaluation.run import evaluate
    from vae_models.evaluation.subject import Stopped, Subject
    from vae_models.training.polling import Poller

    said, _ = whole(spec)
    copies = Copies(artifacts, worker.scratch / "model", verify=lambda folder: None)  # which `load` does
    weights = load(copies.fetch(said.uri, said.manifest_sha256))
    evaluators = plans.fitting(spec.plan, weights.config)
    if reports is None:
        kept = StoredKept(artifacts, worker.order.access.job_id, device=worker.device)
        pace = Pace(kept, evaluators, show=lambda standing: None, stopping=lambda: Poller(_never, worker.device).tick)
    else:
        kept = StoredKept(
            artifacts,
            worker.order.access.job_id,
            device=worker.device,
            check=reports.check,
            on_findings=reports.log_findings,
        )
        asked = reports.stop_requested
        pace = Pace(kept, evaluators, show=reports.show, stopping=lambda: Poller(asked, worker.device).tick)
    dataset = data.load(weights.config.data, fetch=Bucket(artifacts=artifacts))
    subject = Subject(
        weights.model,
        weights.config,
        dataset,
        spec.plan,
        device=worker.device,
        tick=pace.tick,
        history={} if reports is None else _history(worker.order, said, reports),
    )
    try:
        subject.count()
        return evaluate(subject, kept=pace, say=print if reports is None else reports.note)
    except Stopped as stopped:
        if reports is not None:
            reports.note(f"was asked to end, and stops in {stopped}; what was found out before is kept")
        return None
    finally:
        subject.close()


def _never() -> bool:
    return False  # the first worker is asked


def _history(order: Assignment, model: Evaluated, reports: EvaluationReports) -> Mapping[str, list[tuple[int, float]]]:
    """Return the metrics of the run that trained the model, for pictures; none where MLflow does not tell."""
    from service.errors import VaesvcError
    from service.tracking.reports import histories

    uri = order.context.mlflow_uri
    if uri is None or model.run is None:
        return {}
    try:
        return histories(uri, model.run)
    except VaesvcError as error:
        reports.note(f"no pictures of the training: {error}")
        return {}


def _result(spec: EvaluateSpec, findings: Mapping[str, Findings] | None) -> dict[str, Any]:
    """Return what the queue keeps: the values; tables, pictures and tensors lie in storage."""
    from service.kinds.evaluate import metrics

    if findings is None:
        return {"stopped": True}
    values = [value for each in findings.values() for value in each.plain()["values"]]
    return {
        "evaluated": None if spec.model is None else spec.model.model_dump(mode="json"),
        "split": spec.plan.split,
        "evaluators": list(findings),
        "values": values[:MOST_VALUES],
        "metrics": metrics.of(spec.plan.split, values[:MOST_VALUES]),
    }
