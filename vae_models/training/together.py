"""Evaluations that several runs are due for, in one pass over each split for all of them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from vae_models.precision import Precision
from vae_models.training.errors import NonFiniteLoss
from vae_models.training.evaluation import Subject, evaluate_together
from vae_models.training.polling import Poller

if TYPE_CHECKING:
    from vae_models.training.loop import Run


def make_evaluations(runs: Sequence[Run]) -> None:
    """Make the evaluations that are due at the runs' steps, each in one pass for the runs that it is of.

    Every run finds in `made` what it would have measured alone, to the bit, and reports it when its turn comes. One
    whose state is not finite is left to say so itself.
    """
    due = [run for run in runs if run.evaluations()]
    for run in due:
        run.speed.pause()
    sound = [run for run in due if _is_sound(run)]
    for name in dict.fromkeys(name for run in sound for name in run.evaluations()):
        passes: dict[tuple[object, ...], list[Run]] = {}
        for run in sound:
            if name in run.evaluations() and name not in run.made:
                part, settings = run.evaluations()[name], run.config.evaluation
                same = (part, id(run.splits[part]), settings.batch_size, settings.limit, run.config.shortest)
                passes.setdefault(same, []).append(run)
        for together in passes.values():
            evaluate_runs(together, name)
    for run in due:
        run.speed.go_on()


def evaluate_runs(runs: Sequence[Run], name: str) -> None:
    """Make the evaluation `name` of runs whose split and batches are the same.

    `made[name]` of a run is its metrics, or the first that is not finite, or None where it was asked to stop meanwhile;
    it is absent where others alone were.
    """
    first = runs[0]
    part, settings = first.evaluations()[name], first.config.evaluation
    stopped: list[Run] = []

    def ask() -> bool:
        stopped.extend(run for run in runs if run.ask())
        return bool(stopped)

    poller = Poller(ask, first.device, seconds=min(run.poll_seconds for run in runs))
    subjects = [
        Subject(model=run.model, source=run.noise, betas=run.betas_due(), measures=run.config.evaluation.measures)
        for run in runs
    ]
    with Precision(device_type=first.device.type).products():  # whatever training multiplies with
        results = evaluate_together(
            subjects, first.splits[part], name=name, size=settings.batch_size, limit=settings.limit,
            masks=first.splits.masks(part, shortest=first.config.shortest), stop=poller.tick,
        )  # fmt: skip
    if results is None:
        for run in stopped if first.context.world_size == 1 else runs:
            run.made[name] = None
        return
    for run, result in zip(runs, results, strict=True):
        run.made[name] = result


def _is_sound(run: Run) -> bool:
    try:
        run.check_state()
    except NonFiniteLoss:
        return False
    return True
