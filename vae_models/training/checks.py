"""What a run refuses before its first step."""

from __future__ import annotations

from pathlib import Path

from vae_models import collectives
from vae_models.config.longer import goes_on
from vae_models.config.train import TrainConfig
from vae_models.measures import evaluated
from vae_models.protocols import RunContext
from vae_models.training.errors import IncompatibleCheckpoint


def check_run(config: TrainConfig, context: RunContext) -> None:
    """Raise ValueError if the workers are not the context's, if one would have no datum,
    or if the metric is not measured.
    """
    if (context.rank, context.world_size) != (collectives.rank(), collectives.world_size()):
        raise ValueError(
            f"the context is of worker {context.rank} of {context.world_size}, torch.distributed of worker "
            f"{collectives.rank()} of {collectives.world_size()}: initialize the process group first"
        )
    if config.batch_size < context.world_size:
        raise ValueError(
            f"batch_size {config.batch_size} is smaller than the number of workers, {context.world_size}: "
            "every worker needs at least one datum; use fewer workers or a larger batch"
        )
    if config.compile != "off" and context.world_size > 1:
        raise ValueError(
            f"compile {config.compile} is of one worker, and there are {context.world_size}: set compile to off, or "
            "train with one worker"
        )
    selectable = evaluated(bound=True, more=config.evaluation.measures)
    if config.checkpoint.metric not in selectable:
        raise ValueError(f"checkpoint.metric {config.checkpoint.metric!r} is not measured; allowed: {list(selectable)}")


def check_same(kept: TrainConfig, asked: TrainConfig, path: Path | None) -> None:
    """Raise IncompatibleCheckpoint for one of another config: the result would belong to neither.
    A shorter run's is taken.
    """
    if goes_on(kept, asked):
        return
    mine, theirs = asked.determining(), kept.determining()
    different = [f"{key}: {theirs[key]!r} there, {mine[key]!r} here" for key in mine if mine[key] != theirs[key]]
    if different:
        raise IncompatibleCheckpoint(
            f"{path} is of a run with another config ({'; '.join(different)}); use another folder or the same config"
        )
