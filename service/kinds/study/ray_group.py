"""A trial that needs several workers: a Ray Train group inside of a process of Ray Tune.

The first rank does for its trial what a pack's process does for all of its own (`ray_pack`): checkpoints to S3,
metrics to the child run, and the ear for a stop. The other ranks need the checkpoint to go on from and nothing else.
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch

from service.attempt.context import Copies, WorkerContext, own_folder
from service.attempt.failures import of_ray_train
from service.attempt.ray_cluster import scaling, torch_config, use_environment
from service.data.fetch import Bucket
from service.kinds.study.orders import PackOrder, TrialOrder
from service.kinds.study.ray_pack import Work
from tuning.pack import outcome
from vae_models import data
from vae_models.training.errors import NonFiniteLoss
from vae_models.training.lanes import Lane
from vae_models.training.loop import train


def train_group(told: PackOrder, share: Sequence[TrialOrder]) -> None:
    """Train the trial in `share` with a group of `workers_per_trial`; called in a process of Ray Tune.

    A group that lost a worker raises, and Ray Tune calls again: the next one goes on from the last checkpoint. What
    would fail again is reported to the board.
    """
    use_environment()
    import ray
    from ray.train import FailureConfig, RunConfig
    from ray.train.torch import TorchTrainer

    work = Work(told, share)
    if not work.left or work.stopped():
        return
    resources = work.spec.resources.model_copy(update={"workers": work.spec.workers_per_trial})
    trainer = TorchTrainer(
        _train_worker,
        train_loop_config={"told": told, "share": list(share)},
        scaling_config=scaling(resources),
        torch_config=torch_config(resources),
        run_config=RunConfig(
            name=f"{work.order.access.name}-{work.stage.name}-{work.left[0].number}",
            storage_path=str(work.order.scratch / "ray"),  # required, and left empty
            failure_config=FailureConfig(max_failures=0),
        ),
    )
    try:
        trainer.fit()
    except Exception as error:
        failure = of_ray_train(error)
        if not failure.ends_attempt:
            raise
        ray.get(told.board.fail.remote(failure.text, failure.retryable))


def _train_worker(config: Mapping[str, Any]) -> None:
    """Train, in every worker of the group."""
    from ray.train import get_context
    from ray.train.torch import get_device

    work = Work(config["told"], config["share"])
    rank, world_size = get_context().get_world_rank(), get_context().get_world_size()
    torch.set_num_threads(max(1, int(work.spec.resources.cpus_per_worker)))
    (trial,) = work.left
    copies = Copies(work.artifacts, Path.cwd() / "copies")
    member = partial(
        WorkerContext, rank=rank, world_size=world_size, device=get_device(), copies=copies,
        start_from=work.start_from(trial),
    )  # fmt: skip
    if rank > 0:
        scratch = own_folder(Path.cwd() / f"rank-{rank}")
        try:
            _trained(work, member(scratch=scratch, reports=None))
        finally:
            shutil.rmtree(scratch, ignore_errors=True)
        return
    with work.process() as process:
        (reports,) = work.reports(process)
        trained = _trained(work, member(scratch=reports.scratch, reports=reports))
        ending = outcome(trained, work.stage.metric, stopping=process.stopping)
        if ending.state != "missing":
            process.end(reports, ending)
        process.close([reports])
    copies.clear()


def _trained(work: Work, member: WorkerContext) -> Lane:
    config = work.left[0].config
    try:
        dataset = data.load(config.data, fetch=Bucket(artifacts=work.artifacts))
        return Lane(result=train(config, member, dataset=dataset))
    except NonFiniteLoss as error:  # on every rank; another try would end in the same way
        return Lane(error=error)
