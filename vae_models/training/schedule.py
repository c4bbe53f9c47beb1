"""How long a run is, when things are due, and the learning rate: pure functions of the step."""

from __future__ import annotations

import math
from dataclasses import dataclass

from vae_models.config.train import TrainConfig
from vae_models.optimization.specs import CosineScheduleConfig, ScheduleConfig


@dataclass(frozen=True, kw_only=True)
class LearningRate:
    """lr of step t = 0, 1, ..., with u = t + 1, w warm-up steps and T steps in all:

    u < w:     peak * u / w
    constant:  peak
    cosine:    peak * (f + (1 - f) * (1 + cos(pi * (u - w) / (T - w))) / 2), which is peak * f at the last step
    """

    peak: float
    warmup_steps: float
    total_steps: int
    final: float | None  # f of the cosine; None: constant

    def __call__(self, step: int) -> float:
        taken = step + 1
        if taken < self.warmup_steps:
            return self.peak * taken / self.warmup_steps
        if self.final is None or self.total_steps <= self.warmup_steps:
            return self.peak
        fraction = min(1.0, (taken - self.warmup_steps) / (self.total_steps - self.warmup_steps))
        return self.peak * (self.final + (1 - self.final) * (1 + math.cos(math.pi * fraction)) / 2)


def learning_rate(config: ScheduleConfig, *, peak: float, steps_per_epoch: float, total_steps: int) -> LearningRate:
    return LearningRate(
        peak=peak,
        warmup_steps=config.warmup_epochs * steps_per_epoch,
        total_steps=total_steps,
        final=config.final if isinstance(config, CosineScheduleConfig) else None,
    )


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
        """After the first step at or beyond each multiple of `evaluate_every`."""
        if steps == 0:
            return False
        crossed = math.floor(steps / self.evaluate_every) > math.floor((steps - 1) / self.evaluate_every)
        return crossed or self.is_last(steps)
