"""What an evaluation has come to, for the API."""

from __future__ import annotations

from service.artifacts import Artifacts
from service.kinds.evaluate import tables
from service.kinds.evaluate.storage import findings_of
from service.queue.jobs import Job
from service.wire import JobView


def view(job: Job, artifacts: Artifacts) -> JobView:
    """Return tables of the values with their errors, and all of it for programs: {"model", "plan", "findings"}.

    As far as it has come: what is done lies in storage.
    """
    findings = findings_of(artifacts, job.id)
    done: list[str] = job.result.get("evaluators") or sorted(findings)
    inorder = {key: findings[key] for key in done if key in findings}
    plan = job.spec["plan"]
    detail = {"model": job.spec["model"], "plan": plan, "findings": inorder}
    return JobView(job=job, tables=tables.of(plan["split"], inorder), detail=detail)
