"""A pruner: at every evaluation the worst of those that are left stops, until two are."""

from __future__ import annotations

from typing import ClassVar, Literal

from pydantic import Field

from tuning.pruners.specs import PrunerSpec


class WorstOut(PrunerSpec):
    """From `epochs` on."""

    compares: ClassVar = True
    kind: Literal["worst-out"] = "worst-out"
    epochs: float = Field(default=1.0, gt=0, le=1e6)

    def decider(self, pack):
        def decide(step, metrics):
            scores = pack.scores(metrics)
            if step < self.epochs * pack.steps_per_epoch or len(scores) <= 2:
                return ()
            return pack.lanes(metrics, {min(scores, key=scores.get)})

        return decide
