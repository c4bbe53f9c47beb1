"""A run on a Ray cluster: a gang of 1..N workers around `vae_models.training.loop.train`."""

from __future__ import annotations

import contextlib
import time
from typing import Any

from service.attempt import gang
from service.attempt.assignment import Assignment
from service.kinds.train.spec import TrainSpec
from vae_models.measures import STORED


def run(order: Assignment, spec: TrainSpec) -> dict[str, Any]:
    """Train on the cluster; return the job's result. Raises Ray's TrainingFailedError."""
    return gang.run(order, spec.resources, train_worker)


def train_worker(config: dict[str, Any]) -> None:
    """Train, in every worker process."""
    from service.attempt.run_context import RunProcess
    from service.data.fetch import Bucket
    from vae_models import data
    from vae_models.collectives import on_first_rank
    from vae_models.training.errors import NonFiniteLoss
    from vae_models.training.loop import train

    started = time.time()
    worker = gang.Worker(config)
    spec = TrainSpec.model_validate(worker.order.context.job.spec, context=STORED)
    process = RunProcess(
        worker.order,
        rank=worker.rank,
        world_size=worker.world_size,
        device=worker.device,
        scratch=worker.scratch,
        goal=spec.train.checkpoint.goal,
        place=worker.place,
        weights=None if spec.start_from is None else spec.start_from.model,
    )
    context = process.context
    if process.reports is not None:
        process.reports.timings["worker_started"] = started
    try:
        dataset = data.load(spec.train.data, fetch=Bucket(artifacts=process.artifacts))
        if process.reports is not None:
            process.reports.timings["data_ready"] = time.time()
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
        worker.leave(summary, process.artifacts)
