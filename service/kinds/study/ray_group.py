"""A trial that needs several workers: a gang that a process of Ray Tune starts.

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

from service.attempt import gang
from service.attempt.context import Copies, WorkerContext, own_folder
from service.attempt.failures import of_gang
from service.attempt.members import HeldGang
from service.attempt.ray_cluster import use_environment
from service.data.fetch import Bucket
from service.kinds.study.orders import PackOrder, TrialOrder
from service.kinds.study.ray_pack import Work
from tuning.pack import outcome
from tuning.study import Trial
from vae_models import data
from vae_models.data.config import DataConfig
from vae_models.training.errors import NonFiniteLoss
from vae_models.training.lanes import Lane
from vae_models.training.loop import train

_BOARD_SECONDS = 30.0
_HELD = HeldGang()  # Ray Tune calls this process for one trial after another
_DATA: dict[str, data.Dataset] = {}  # what a worker's last trial was trained on


def train_group(told: PackOrder, share: Sequence[TrialOrder]) -> None:
    """Train the trial in `share` with a group of `workers_per_trial`; called in a process of Ray Tune.

    The gang's processes stay for the next trial. One that lost a worker raises, and Ray Tune calls again: a new gang
    goes on from the last checkpoint. What would fail again is reported to the board.
    """
    use_environment()
    import ray

    work = Work(told)
    left = work.unended(share)
    if not left or work.closed():
        return
    try:
        gang.start(
            _train_worker,
            {"told": told, "share": list(share)},
            work.spec.resources.model_copy(update={"workers": work.spec.workers_per_trial}),
            name=f"{work.order.access.name}-{work.stage.name}-{left[0].number}",
            scratch=work.order.scratch,
            restarts=0,
            held=_HELD,
            drained=ray.get(told.board.drained.remote(), timeout=_BOARD_SECONDS),
        )
    except Exception as error:
        failure = of_gang(error)
        if not failure.ends_attempt:
            raise
        ray.get(told.board.fail.remote(failure.text, failure.retryable))


def _train_worker(config: Mapping[str, Any]) -> None:
    """Train, in every worker of the group."""
    work = Work(config["told"])
    here = gang.member(config)
    rank = here.rank
    torch.set_num_threads(max(1, int(work.spec.resources.cpus_per_worker)))
    (trial,) = work.unended(config["share"])
    copies = Copies(work.artifacts, Path.cwd() / "copies")
    member = partial(
        WorkerContext, rank=rank, world_size=here.world_size, device=gang.device(config), copies=copies,
        start_from=work.start_from(trial),
    )  # fmt: skip
    if rank > 0:
        scratch = own_folder(Path.cwd() / f"rank-{rank}")
        try:
            _trained(work, trial, member(scratch=scratch, reports=None))
        finally:
            shutil.rmtree(scratch, ignore_errors=True)
        return
    with work.process() as process:
        reports = work.reports(process, trial)
        trained = _trained(work, trial, member(scratch=reports.scratch, reports=reports))
        ending = outcome(trained, work.stage.metric, stopping=process.stopping)
        if ending.state != "missing":
            process.end(reports, ending)
        process.close()
    copies.clear()


def _trained(work: Work, trial: Trial, member: WorkerContext) -> Lane:
    try:
        return Lane(result=train(trial.config, member, dataset=_dataset(work, trial.config.data)))
    except NonFiniteLoss as error:  # on every rank; another try would end in the same way
        return Lane(error=error)


def _dataset(work: Work, config: DataConfig) -> data.Dataset:
    """Return the data, those of the trial before where they are the same."""
    name = config.model_dump_json()
    if name not in _DATA:
        _DATA.clear()
        _DATA[name] = data.load(config, fetch=Bucket(artifacts=work.artifacts))
    return _DATA[name]
