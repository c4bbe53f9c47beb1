"""More epochs for a run: when a longer run goes on from a shorter one's last checkpoint, as if it had been longer.

Batches, noise, the warm-up of the learning rate and beta's schedules are functions of the step and of the epoch, not of
the length of a run: so after the same steps the weights and the optimizer are the same, to the bit. A cosine falls to
its end over the whole run, and there a longer one is another run from its first step.

What stays of the shorter run is that it was evaluated, and its curves logged, after its last step: one point more in
the curves, and one evaluation more among which the best checkpoint is chosen.
"""

from __future__ import annotations

from typing import Any

from vae_models.config import size
from vae_models.config.train import TrainConfig

BUDGETS = ("epochs", "steps")


def goes_on(before: TrainConfig, after: TrainConfig) -> bool:
    """Return whether `after` is `before`, or the same for longer."""
    return before == after or refusal(before, after) is None


def refusal(before: TrainConfig, after: TrainConfig) -> str | None:
    """Return why a run of `after` cannot go on from a checkpoint of `before`; None where it can."""
    if different := [name for name, value in _but_length(before).items() if value != _but_length(after)[name]]:
        return f"it differs in {', '.join(different)}"
    if size.steps(after) < size.steps(before):
        return f"{_length(after)} is less than the {_length(before)} that it has been given"
    if before.schedule.whole_run and size.steps(after) != size.steps(before):
        kind, why = before.schedule.kind, before.schedule.whole_run
        return (
            f"schedule.kind={kind} {why}, so {_length(after)} is another run from its first step on, and not "
            f"more of {_length(before)}"
        )
    return None


def _but_length(config: TrainConfig) -> dict[str, Any]:
    return {name: value for name, value in config.determining().items() if name not in BUDGETS}


def _length(config: TrainConfig) -> str:
    return f"epochs={config.epochs:g}" if config.epochs is not None else f"steps={config.steps}"
