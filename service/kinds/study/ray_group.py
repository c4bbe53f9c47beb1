"""A trial that needs several workers: a Ray Train group inside of a process of Ray Tune.

The first rank does for its trial what a pack's process does for all of its own (`ray_pack`): checkpoints to S3,
metrics to the child run, and the ear for a stop. The other ranks need the checkpoint to go on from and nothing else.
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from service.attempt.failures import of_ray_train
from service.data.fetch import Bucket
from service.kinds.study.orders import PackOrder, TrialOrder
from service.kinds.study.ray_pack import TrialContext, Work
from service.kinds.train.ray_run import scaling, torch_config, use_environment
from tuning.pack import outcome
from vae_models import data
from vae_models.collectives import broadcast_text
from vae_models.records import Progress
from vae_models.training.errors import NonFiniteLoss
from vae_models.training.lanes import Lane
from vae_models.training.loop import train


def train_group(told: PackOrder, share: Sequence[TrialOrder]) -> None:
    """Trains the trial in `share` with a group of `workers_per_trial`; called in a process of Ray Tune.

    A group that lost a worker raises, and Ray Tune calls again: the next one goes on from the last checkpoint. What
    would fail again is told to the board.
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
    """In every worker of the group."""
    from ray.train import get_context
    from ray.train.torch import get_device

    told, share = config["told"], config["share"]
    rank, world_size = get_context().get_world_rank(), get_context().get_world_size()
    work = Work(told, share)
    torch.set_num_threads(max(1, int(work.spec.resources.cpus_per_worker)))
    if rank > 0:
        member = _Member(work, rank, world_size, get_device())
        try:
            _trained(work, member)
        finally:
            shutil.rmtree(member.scratch, ignore_errors=True)
        return
    with work.process() as process:
        (lane,) = work.contexts(process)
        trained = _trained(work, _Member(work, rank, world_size, get_device(), lane))
        found = outcome(trained, work.stage.metric, stopping=process.stopping)
        if found.state != "missing":
            process.end(lane, found)
        process.close([lane])


def _trained(work: Work, member: _Member) -> Lane:
    try:
        config = work.left[0].config
        dataset = data.load(config.data, fetch=Bucket(artifacts=work.artifacts))
        return Lane(result=train(config, member, dataset=dataset))
    except NonFiniteLoss as error:  # on every rank; another try would end in the same way
        return Lane(error=error)


class _Member:
    """A `RunContext` of one rank. lane: the first rank's, which does the rest."""

    def __init__(
        self, work: Work, rank: int, world_size: int, device: torch.device, lane: TrialContext | None = None
    ) -> None:
        self.rank = rank
        self.world_size = world_size
        self.device = device
        self.scratch = lane.scratch if lane is not None else Path.cwd() / f"rank-{rank}"
        if lane is None:
            shutil.rmtree(self.scratch, ignore_errors=True)  # of a worker that was killed
            self.scratch.mkdir(parents=True)
        self._work = work
        self._lane = lane

    def latest_checkpoint(self) -> Path | None:
        """Rank 0 chooses; the others fetch the same."""
        path = self._lane.latest_checkpoint() if self._lane is not None else None
        uri = broadcast_text(self._lane.resumed_from if self._lane is not None else "", self.device)
        if self._lane is not None or not uri:
            return path
        self._work.storage.fetch(uri, self._work.order.access.number, self.scratch / "resume")
        return self.scratch / "resume"

    def origin(self) -> Path | None:
        if self._lane is not None:
            return self._lane.origin()
        found = self._work.origin(self._work.left[0])
        return None if found is None else self._work.storage.copy(found, self.scratch / "origin")

    def log_metrics(self, step: int, metrics: Mapping[str, float]) -> None:
        self._first.log_metrics(step, metrics)

    def log_picture(self, step: int, name: str, png: bytes) -> None:
        self._first.log_picture(step, name, png)

    def progress(self, progress: Progress) -> None:
        self._first.progress(progress)

    def save_checkpoint(self, step: int, directory: Path, metrics: Mapping[str, float]) -> None:
        self._first.save_checkpoint(step, directory, metrics)

    def stop_requested(self) -> bool:
        return self._first.stop_requested()

    @property
    def _first(self) -> TrialContext:
        if self._lane is None:
            raise RuntimeError(f"rank {self.rank} reports; only rank 0 does")
        return self._lane
