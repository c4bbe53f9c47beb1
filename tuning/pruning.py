"""Which lanes of a pack stop early: successive halving, a pure function of what was measured."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Literal

from tuning.study import Halving, Trial


class Halver:
    """The `decide` of a pack: asked after every evaluation, it names the lanes to stop.

    Lanes are trials by their place; those of one assignment stand or fall together, by their mean, and one that failed
    takes its assignment with it. It has no state: of n assignments floor(n / factor^d) are left after d decisions, so
    a pack that was interrupted decides as it would have; `assignments` is n where some of them have ended before.
    """

    def __init__(
        self,
        pruning: Halving,
        trials: Sequence[Trial],
        *,
        metric: str,
        mode: Literal["max", "min"],
        steps_per_epoch: float,
        assignments: int | None = None,
    ) -> None:
        self._pruning = pruning
        self._trials = trials
        self._metric = metric
        self._sign = 1.0 if mode == "max" else -1.0
        self._steps_per_epoch = steps_per_epoch
        self._assignments = assignments or len({trial.candidate for trial in trials})

    def __call__(self, step: int, metrics: Mapping[int, Mapping[str, float]]) -> list[int]:
        """step: of the lanes that still run; metrics: of these, by their place. The places of those to stop."""
        keep = max(1, math.floor(self._assignments / self._pruning.factor ** self._decisions(step) + 1e-9))
        scores: dict[int, list[float]] = {}
        for lane, found in metrics.items():
            value = found.get(self._metric, math.nan)
            score = self._sign * value if math.isfinite(value) else -math.inf
            scores.setdefault(self._trials[lane].candidate, []).append(score)
        best = sorted(scores, key=lambda candidate: (-self._mean(candidate, scores[candidate]), candidate))[:keep]
        return [lane for lane in metrics if self._trials[lane].candidate not in best]

    def _mean(self, candidate: int, scores: Sequence[float]) -> float:
        asked = sum(trial.candidate == candidate for trial in self._trials)
        return sum(scores) / len(scores) if len(scores) == asked else -math.inf

    def _decisions(self, step: int) -> int:
        """How many of the decisions are due by now."""
        epochs = step / self._steps_per_epoch
        if epochs < self._pruning.epochs:
            return 0
        return 1 + math.floor(math.log(epochs / self._pruning.epochs) / math.log(self._pruning.factor) + 1e-9)
