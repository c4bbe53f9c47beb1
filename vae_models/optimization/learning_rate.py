"""The learning rate as a pure function of the step."""

from __future__ import annotations

import math
from dataclasses import dataclass


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
