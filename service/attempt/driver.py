"""The runner's child: reads its orders, does what the job's kind does, registers the best checkpoint, leaves the end.

Started by `service.attempt.runner` as `python -m service.attempt.driver PARENT_PID`, with an `Assignment` on standard
input. It ends with its parent, however that ends.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Mapping
from typing import Any

from service import kinds
from service.attempt import preload, ray_cluster, timeline
from service.attempt.assignment import CANCELLED, OUTCOME, Assignment, Outcome, write_outcome
from service.attempt.best import choose
from service.attempt.failures import Failure, Kind, classify, of_gang
from service.attempt.processes import die_with_parent
from service.attempt.stacks import tell_when_asked
from service.code.parts import check_job
from service.collector import collect_rarely
from service.kinds.kind import loaded
from service.retry import patiently
from service.wire import RegisterReply, RegisterRequest

_API_SECONDS = 60.0
_PAUSE_SECONDS = 2.0
_REGISTRY_SECONDS = 30.0  # MLflow may be away this long; after that the dispatcher registers the model


def run(order: Assignment) -> Outcome:
    """Run the attempt: from its assignment to its outcome."""
    timings = {"driver_started": time.time()}
    artifacts = order.artifacts(patience_seconds=_API_SECONDS)
    try:
        check_job(order.context.job.spec)
        spec = kinds.parse(order.context.job.spec)
        spec = spec.model_copy(update={"resources": order.context.job.resources})  # of this attempt: gangs are elastic
        artifacts.check()  # wrong keys or no bucket: say so before any worker starts
        ray_cluster.connect(spec.resources)
        timings["ray_joined"] = time.time()
        ray_cluster.wait_until_feasible(spec.resources)
        try:
            result = loaded(kinds.named(spec.kind).run)(order, spec)
        finally:
            if not ray_cluster.needs_environment(spec.resources):
                preload.refill(spec.resources)
        timings["workers_ended"] = time.time()
    except Exception as error:
        failure = _failure(error)
        return Outcome(outcome="failed", error=failure.text, retryable=failure.retryable, outage=failure.outage)
    result["timings"] = timings | result.get("timings", {})
    _tell(order, result["timings"])
    if result.pop("stopped", False):
        return CANCELLED.model_copy(update={"result": result})
    result |= _register(order, result, artifacts)
    return Outcome(outcome="succeeded", result=result)


def _tell(order: Assignment, timings: Mapping[str, float]) -> None:
    """Write to the log where the seconds up to the first step went."""
    job, driver = order.context.job, timings["driver_started"]
    since = job.created_at if order.access.number == 1 else driver  # a later attempt did not begin with the job
    moments = dict(timings)
    if job.started_at is not None and since != driver:
        moments["claimed"] = job.started_at
    print(f"[vaesvc] {timeline.line(since, moments)}", flush=True)  # noqa: T201


def _failure(error: Exception) -> Failure:
    retryable = getattr(error, "retryable", None)
    if retryable is not None:  # a study's own verdict
        return Failure(text=str(error), kind=Kind.ENDING if retryable else Kind.HOPELESS)
    return of_gang(error)


def _register(order: Assignment, result: Mapping[str, Any], artifacts: Any) -> dict[str, Any]:
    """Register the best checkpoint as a model version. An MLflow that is away costs the result nothing but this
    entry."""
    winner, mlflow_uri = result.get("winner"), order.context.mlflow_uri
    with order.access.client(retry_seconds=_API_SECONDS) as client:
        choice = choose(order.context.job, result, client.checkpoints)
        if choice is None:
            return {}
        registered: dict[str, Any] = {"checkpoint": choice.checkpoint.uri, "checkpoint_step": choice.checkpoint.step}

        def sign(mlflow_version: int | None) -> RegisterReply:
            return client.register(RegisterRequest(winner=winner, mlflow_version=mlflow_version))

        try:
            version = patiently(
                lambda: choice.register(mlflow_uri, artifacts, sign),
                seconds=_REGISTRY_SECONDS,
                pause_seconds=_PAUSE_SECONDS,
            )
            return registered | {"model": version.model_dump()}
        except Exception as error:  # whatever it is, the training is done and its checkpoints are safe
            print(f"[vaesvc] the model is not registered yet: {classify(error).text}", flush=True)  # noqa: T201
            return registered


def main() -> int:
    collect_rarely()
    die_with_parent(int(sys.argv[1]))
    tell_when_asked()
    ray_cluster.load()  # while the parent claims the attempt
    order = Assignment.model_validate_json(sys.stdin.buffer.read())
    outcome = run(order)
    write_outcome(outcome, order.scratch / OUTCOME)
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(0)  # Ray's own exit handlers take seconds; the driver's end is all that the cluster needs to know


if __name__ == "__main__":
    sys.exit(main())
