"""The learning rate as a pure function of the step."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Protocol, runtime_checkable


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


@runtime_checkable
class FollowsEvaluations(Protocol):
    """A learning rate that depends on the evaluations before a step, and on nothing else but the step."""

    def __call__(self, step: int) -> float: ...

    def observe(self, step: int, score: float) -> None:
        """Take the score of the evaluation after so many steps, larger is better; in their order, each once."""
        ...


@dataclass(kw_only=True)
class Plateau:
    """peak, times `factor` whenever the score has not risen for `patience_steps` since it last did, or since
    the rate last fell.

    It is never below `least`. Warm-up as of `LearningRate`.
    """

    peak: float
    warmup_steps: float
    factor: float
    patience_steps: float
    least: float
    _best: float = field(default=-math.inf, init=False)
    _since: int = field(default=0, init=False)  # the step of the last rise, or of the last fall of the rate
    _scale: float = field(default=1.0, init=False)

    def observe(self, step: int, score: float) -> None:
        """Take the score of the evaluation after so many steps."""
        if score > self._best:
            self._best, self._since = score, step
        elif step - self._since > self.patience_steps - 1:  # evaluations are after whole steps, epochs are not
            self._scale, self._since = self._scale * self.factor, step

    def __call__(self, step: int) -> float:
        """Return the learning rate of step 0, 1, ..."""
        warm = min(1.0, (step + 1) / self.warmup_steps) if self.warmup_steps else 1.0
        return max(self.least, self.peak * self._scale) * warm
