"""One process's share of a stage: which trials it trains, and how each of them ended.

Whoever only makes the shares, a study's driver, does not import torch.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from tuning.pruners.rules import Pack, Rungs
from tuning.study import Outcome, StageConfig, Trial

if TYPE_CHECKING:
    from vae_models import data
    from vae_models.protocols import RunContext
    from vae_models.training.lanes import Lane, Widths

LANES = 64  # of one pack: each holds a model and its optimizer's state


def packs(left: Sequence[Trial], stage: StageConfig, processes: int, lanes: int = LANES) -> list[list[Trial]]:
    """Return the trials in packs for `processes` that work side by side.

    Those of one pack have one data set; the seeds of one assignment stay together; no more than `lanes` are in one,
    unless they are compared while they train (halving, Hyperband): then all of one data set are in one.
    """
    by_data: dict[str, dict[int, list[Trial]]] = {}
    for trial in left:
        by_data.setdefault(trial.config.data.model_dump_json(), {}).setdefault(trial.candidate, []).append(trial)
    shared = []
    for candidates in by_data.values():
        total = sum(len(trials) for trials in candidates.values())
        wanted = 1 if stage.pruning.compares else max(processes, -(-total // lanes))
        shares: list[list[Trial]] = [[] for _ in range(min(wanted, len(candidates)))]
        for trials in candidates.values():
            min(shares, key=len).extend(trials)
        shared += shares
    return shared


def train(
    stage: StageConfig,
    pack: Sequence[Trial],
    contexts: Sequence[RunContext],
    *,
    assignments: int,
    dataset: data.Dataset,
    width: int | None,
    widths: Widths,
    rungs: Rungs,
    stopping: Callable[[], bool],
    on_end: Callable[[Trial, Outcome], None],
) -> None:
    """Train `pack`, each trial from its context's checkpoint; `on_end` is called for each as soon as it has ended.

    assignments: how many the whole stage has, ended ones included. rungs: of the whole stage. stopping: whether a stop
    was requested; `on_end` is not called for trials that stop by that, they go on another time.
    """

    from vae_models.training.lanes import train_pack

    def ended(number: int, lane: Lane) -> None:
        ending = outcome(lane, stage.metric, stopping=stopping())
        if ending.state != "missing":
            on_end(pack[number], ending)

    first = pack[0].config
    steps_per_epoch = len(dataset.train.x) / first.batch_size
    seen = Pack(
        trials=pack, goal=stage.goal, assignments=assignments, rungs=rungs, steps_per_epoch=steps_per_epoch,
        evaluate_every=first.evaluation.every_epochs * steps_per_epoch,
    )  # fmt: skip
    train_pack(
        [trial.config for trial in pack], contexts, dataset=dataset, width=width, widths=widths, on_end=ended,
        decide=stage.pruning.decider(seen),
    )  # fmt: skip


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
