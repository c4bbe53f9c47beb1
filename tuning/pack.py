"""One process's part in a stage: what begins together, what it trains, and how each trial ended.

Whoever only fills the queue, a study's driver, does not import torch.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Protocol

from tuning.pruners.rules import Pack, Rungs
from tuning.study import Outcome, StageConfig, Trial, planned_steps
from vae_models.config.shape import stack_of

if TYPE_CHECKING:
    from vae_models import data
    from vae_models.config.train import TrainConfig
    from vae_models.data.config import DataConfig
    from vae_models.protocols import RunContext
    from vae_models.training.lanes import Lane, Widths

LANES = 64  # of one pack at a time: each holds a model and its optimizer's state


def units(left: Sequence[Trial], stage: StageConfig) -> list[list[list[Trial]]]:
    """Return by data set which trials begin together in one pack, in the order in which they are to begin.

    Where trials are compared while they train (halving, Hyperband, median), all of one data set begin together; where
    they stop early by what came to a rung, the seeds of one assignment, whose mean decides; else each by itself, the
    longest first, so that packs end together, and those of one shape side by side, which may be fused.
    """
    shapes: dict[str, int] = {}

    def order(trial: Trial) -> tuple[int, int]:
        shape = shapes.setdefault(stack_of(trial.config), len(shapes))
        return (-planned_steps(trial.config), shape)

    compares, prunes = stage.pruning.compares, stage.pruning.prunes
    by_data: dict[str, dict[tuple[int | None, int | None], list[Trial]]] = {}
    for trial in left if prunes else sorted(left, key=order):
        unit = (None if compares else trial.candidate, None if prunes else trial.seed)
        by_data.setdefault(trial.config.data.model_dump_json(), {}).setdefault(unit, []).append(trial)
    return [list(of_one_set.values()) for of_one_set in by_data.values()]


class Take(Protocol):
    """Where a pack has its trials from: `WorkQueue.take`, of this pack."""

    def __call__(self, most: int, running: int) -> Sequence[Trial]: ...


def train(
    stage: StageConfig,
    take: Take,
    context: Callable[[Trial], RunContext],
    *,
    begun: Sequence[Trial] = (),
    assignments: int,
    load: Callable[[DataConfig], data.Dataset],
    width: int | None,
    widths: Widths,
    rungs: Rungs,
    stopping: Callable[[], bool],
    on_end: Callable[[Trial, Outcome], None],
) -> None:
    """Train what `take` hands out until nothing is left, each trial from its context's checkpoint.

    begun: what is trained before that, another process having begun it. assignments: how many the whole stage has,
    ended ones included. load: asked for each data set. rungs: of the whole stage. stopping: whether a stop was
    requested; then nothing more is taken. on_end: called for each trial as soon as it has ended, and not for those
    that stop on request, which go on another time.
    """

    waiting = _by_data_set(begun)
    while not stopping():
        group = waiting.pop(0) if waiting else list(take(width or 1, 0))
        if not group:
            return
        waiting += _train_set(
            stage, group, take, context, assignments=assignments, dataset=load(group[0].config.data), width=width,
            widths=widths, rungs=rungs, stopping=stopping, on_end=on_end,
        )  # fmt: skip


def _train_set(
    stage: StageConfig,
    group: list[Trial],
    take: Take,
    context: Callable[[Trial], RunContext],
    *,
    assignments: int,
    dataset: data.Dataset,
    width: int | None,
    widths: Widths,
    rungs: Rungs,
    stopping: Callable[[], bool],
    on_end: Callable[[Trial, Outcome], None],
) -> list[list[Trial]]:
    """Train `group`, and what is handed out of the same data set; return what was handed out of another one."""
    from vae_models.training.lanes import train_pack

    following: list[list[Trial]] = []

    def ended(number: int, lane: Lane) -> None:
        ending = outcome(lane, stage.metric, stopping=stopping())
        if ending.state != "missing":
            on_end(group[number], ending)

    def more(most: int, running: int) -> list[tuple[TrainConfig, RunContext]]:
        if stopping() or running >= LANES:
            return []
        trials = list(take(min(most, LANES - running), running))
        if trials and trials[0].config.data != group[0].config.data:
            following.append(trials)
            return []
        group.extend(trials)
        return [(trial.config, context(trial)) for trial in trials]

    first = group[0].config
    steps_per_epoch = len(dataset.train.x) / first.batch_size
    seen = Pack(
        trials=group, goal=stage.goal, assignments=assignments, rungs=rungs, steps_per_epoch=steps_per_epoch,
        evaluate_every=first.evaluation.every_epochs * steps_per_epoch,
    )  # fmt: skip
    train_pack(
        [trial.config for trial in group], [context(trial) for trial in group], more=more, dataset=dataset,
        width=width, widths=widths, on_end=ended, decide=stage.pruning.decider(seen),
    )  # fmt: skip
    return following


def _by_data_set(trials: Sequence[Trial]) -> list[list[Trial]]:
    by_data: dict[str, list[Trial]] = {}
    for trial in trials:
        by_data.setdefault(trial.config.data.model_dump_json(), []).append(trial)
    return list(by_data.values())


def outcome(lane: Lane, metric: str, *, stopping: bool) -> Outcome:
    """Return how a trial ended. stopping: whether a stop was requested;
    a trial that stopped by that is still "missing".
    """
    if lane.error is not None:
        return Outcome(state="failed", error=str(lane.error))
    assert lane.result is not None
    metrics, steps = lane.result.metrics, lane.result.steps
    value = metrics.get(metric)
    if lane.result.stopped:
        return Outcome(state="missing" if stopping else "pruned", value=value, metrics=metrics, steps=steps)
    if value is None:
        error = f"{metric} was not measured, or not finite"
        return Outcome(state="failed", error=error, metrics=metrics, steps=steps)
    return Outcome(state="done", value=value, metrics=metrics, steps=steps)
