"""How long a run is, and when things are due: pure functions of the step."""

from __future__ import annotations

import math
from dataclasses import dataclass

from vae_models.config.train import TrainConfig


@dataclass(frozen=True, kw_only=True)
class Timetable:
    """What is due after how many steps. The last step has everything."""

    total_steps: int
    steps_per_epoch: float
    log_every: int
    checkpoint_every: int
    evaluate_every: float  # steps, not whole when an epoch is not

    @classmethod
    def of(cls, config: TrainConfig, steps_per_epoch: float) -> Timetable:
        epochs = config.epochs or 0.0
        return cls(
            total_steps=config.steps or max(1, round(epochs * steps_per_epoch)),
            steps_per_epoch=steps_per_epoch,
            log_every=config.log_every_steps,
            checkpoint_every=config.checkpoint.every_steps,
            evaluate_every=config.evaluation.every_epochs * steps_per_epoch,
        )

    def is_last(self, steps: int) -> bool:
        return steps >= self.total_steps

    def log_due(self, steps: int) -> bool:
        return (steps > 0 and steps % self.log_every == 0) or self.is_last(steps)

    def checkpoint_due(self, steps: int) -> bool:
        return (steps > 0 and steps % self.checkpoint_every == 0) or self.is_last(steps)

    def evaluation_due(self, steps: int) -> bool:
        """Return whether this is the first step at or beyond a multiple of `evaluate_every`, or the last step."""
        if steps == 0:
            return False
        crossed = math.floor(steps / self.evaluate_every) > math.floor((steps - 1) / self.evaluate_every)
        return crossed or self.is_last(steps)
