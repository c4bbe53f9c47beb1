"""A run on a Ray cluster: `TorchTrainer` with 1..N workers around `vae_models.training.loop.train`.

Ray Train starts the workers, joins them in a process group (gloo, or nccl with GPUs) and starts the whole group again
when a worker dies; the group then goes on from the last committed checkpoint. Ray's own checkpoints are not used.
"""

from __future__ import annotations

import contextlib
import json
import time
from pathlib import Path
from typing import Any

from service.attempt.assignment import VERDICT, Assignment, Outcome, result_uri_parts, write_outcome
from service.attempt.failures import worst
from service.attempt.ray_cluster import scaling, torch_config
from service.errors import NotFoundError, UnavailableError, VaesvcError
from service.kinds.train.spec import TrainSpec
from vae_models.measures import STORED

GROUP_RESTARTS = 8  # worker deaths that one attempt survives
_PLACEMENT_TRIES = 4


def run(order: Assignment, spec: TrainSpec) -> dict[str, Any]:
    """Train on the cluster; return the job's result. Raises Ray's TrainingFailedError."""
    fit(order, spec)
    return _result(order)


def _result(order: Assignment) -> dict[str, Any]:
    """Return what rank 0 left in storage."""
    artifacts = order.artifacts()
    uri = artifacts.uri(*result_uri_parts(order.access.job_id, order.access.number))
    try:
        result: dict[str, Any] = json.loads(artifacts.get_bytes(uri))
    except NotFoundError as error:
        raise UnavailableError("the workers ended without a result") from error
    with contextlib.suppress(VaesvcError):
        artifacts.delete_prefix(uri)
    return result


def fit(order: Assignment, spec: TrainSpec) -> None:
    """Run the workers to their end. Raises Ray's TrainingFailedError; rank 0 leaves its result in storage."""
    from ray.train import FailureConfig, RunConfig
    from ray.train.torch import TorchTrainer

    trainer = TorchTrainer(
        train_worker,
        train_loop_config={"order": order.model_dump_json()},
        scaling_config=scaling(spec.resources),
        torch_config=torch_config(spec.resources),
        run_config=RunConfig(
            name=order.access.name,
            storage_path=str(order.scratch / "ray"),  # required, and left empty
            failure_config=FailureConfig(max_failures=GROUP_RESTARTS, controller_failure_limit=_PLACEMENT_TRIES),
            callbacks=[_watch_errors(order.scratch)],
        ),
    )
    trainer.fit()


def _watch_errors(folder: Path) -> Any:
    """Return a callback of Ray Train that ends the attempt when the group, started again, would fail the same way.

    It runs in Ray Train's controller, which Ray places on the driver's own node: they share `folder`.
    """
    from ray.train import UserCallback

    class Watch(UserCallback):  # type: ignore[misc]
        def after_exception(self, run_context: Any, worker_exceptions: dict[int, Exception]) -> None:
            rank, failure = worst(worker_exceptions)
            print(f"[vaesvc] worker {rank} failed: {failure.text}", flush=True)  # noqa: T201
            if failure.ends_attempt:
                outcome = Outcome(
                    outcome="failed", error=failure.text, retryable=failure.retryable, outage=failure.outage
                )
                write_outcome(outcome, folder / VERDICT)

    return Watch()


def train_worker(config: dict[str, Any]) -> None:
    """Train, in every worker process."""
    import logging

    import torch
    from ray.train import get_context
    from ray.train.torch import get_device

    from service.attempt.reporting import Place
    from service.attempt.run_context import RunProcess
    from service.data.fetch import Bucket
    from vae_models import data
    from vae_models.collectives import on_first_rank
    from vae_models.training.errors import NonFiniteLoss
    from vae_models.training.loop import train

    started = time.time()
    logging.getLogger("httpx").setLevel(logging.WARNING)  # it tells of every request
    order = Assignment.model_validate_json(config["order"])
    spec = TrainSpec.model_validate(order.context.job.spec, context=STORED)
    ray_context = get_context()
    # set here, in the thread that computes: a result depends on the number of threads in its last bits
    torch.set_num_threads(max(1, int(spec.resources.cpus_per_worker)))
    process = RunProcess(
        order,
        rank=ray_context.get_world_rank(),
        world_size=ray_context.get_world_size(),
        device=get_device(),
        scratch=Path.cwd(),  # Ray's folder of this run, the same for all ranks on a machine
        goal=spec.train.checkpoint.goal,
        place=Place(
            node=ray_context.get_node_rank(),
            local_rank=ray_context.get_local_rank(),
            alone=ray_context.get_local_world_size() == ray_context.get_world_size(),
        ),
    )
    context = process.context
    if process.reports is not None:
        process.reports.timings["worker_started"] = started
    try:
        dataset = data.load(spec.train.data, fetch=Bucket(artifacts=process.artifacts))
        result = train(spec.train, context, dataset=dataset)
        said = process.close()
    except NonFiniteLoss:  # on every rank, and the first to raise ends them all: they wait until rank 0 has told
        with contextlib.suppress(Exception):  # where rank 0 is gone there is nobody to wait for
            on_first_rank(process.abandon, context.device)
        raise
    except BaseException:
        process.abandon()
        raise
    if context.rank == 0:
        summary = {"steps": result.steps, "stopped": result.stopped, "metrics": dict(result.metrics)} | said
        uri = process.artifacts.uri(*result_uri_parts(order.access.job_id, order.access.number))
        process.artifacts.put_bytes(uri, json.dumps(summary).encode(), "application/json")
