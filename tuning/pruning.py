"""Which lanes of a pack stop early.

Halving and Hyperband compare the lanes of one pack, and are pure functions of what was measured; the median rule
remembers the evaluations before. ASHA compares all that
came to a rung, in whatever process: `Rungs` is where these are kept.
"""

from __future__ import annotations

import math
import statistics
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Protocol

from tuning.study import Asha, Halving, Hyperband, Median, StageConfig, Trial
from vae_models.measures import Goal

if TYPE_CHECKING:
    from vae_models.training.lanes import Decide


class Rungs(Protocol):
    """What came to the rungs of one stage. The same record again changes nothing."""

    def record(self, rung: int, candidate: int, score: float) -> Sequence[float]:
        """Scores of all that have come to this rung, this one included; larger is better."""
        ...


class Memory:
    """Rungs for one process and one attempt."""

    def __init__(self) -> None:
        self._scores: dict[int, dict[int, float]] = {}

    def record(self, rung: int, candidate: int, score: float) -> Sequence[float]:
        there = self._scores.setdefault(rung, {})
        there.setdefault(candidate, score)
        return list(there.values())


def decider(
    stage: StageConfig, pack: Sequence[Trial], *, assignments: int, steps_per_epoch: float, rungs: Rungs
) -> Decide:
    """The `decide` of `train_pack`. assignments: of the whole stage; rungs: of the whole stage."""
    pruning = stage.pruning
    if isinstance(pruning, Halving):
        return Halver(
            pruning, pack, goal=stage.goal, steps_per_epoch=steps_per_epoch,
            assignments=assignments,
        )  # fmt: skip
    if isinstance(pruning, Hyperband):
        return Brackets(
            pruning, pack, goal=stage.goal, steps_per_epoch=steps_per_epoch,
            assignments=assignments,
        )  # fmt: skip
    if isinstance(pruning, Asha):
        every = pack[0].config.evaluation.every_epochs
        return AsyncHalver(
            pruning, pack, rungs, goal=stage.goal, steps_per_epoch=steps_per_epoch,
            evaluate_every=every * steps_per_epoch,
        )  # fmt: skip
    if isinstance(pruning, Median):
        return MedianStopper(pruning, pack, goal=stage.goal, steps_per_epoch=steps_per_epoch)
    return lambda step, metrics: ()


def compares_lanes(stage: StageConfig) -> bool:
    """Whether all assignments of the stage have to be in one pack."""
    return isinstance(stage.pruning, Halving | Hyperband | Median)


def decisions_due(step: int, steps_per_epoch: float, first_epochs: float, factor: float) -> int:
    """How many of the decisions after first, first x factor, first x factor^2, ... epochs are due after `step`."""
    epochs = step / steps_per_epoch
    if epochs < first_epochs:
        return 0
    return 1 + math.floor(math.log(epochs / first_epochs) / math.log(factor) + 1e-9)


def mean_scores(trials: Sequence[Trial], metrics: Mapping[int, Mapping[str, float]], goal: Goal) -> dict[int, float]:
    """candidate -> mean over its seeds, larger is better; -inf where one is missing or not finite."""
    found: dict[int, list[float]] = {}
    for lane, measured in metrics.items():
        found.setdefault(trials[lane].candidate, []).append(goal.score(measured.get(goal.metric)))
    asked = Counter(trial.candidate for trial in trials)
    return {
        candidate: sum(scores) / len(scores) if len(scores) == asked[candidate] else -math.inf
        for candidate, scores in found.items()
    }


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
        goal: Goal,
        steps_per_epoch: float,
        assignments: int | None = None,
    ) -> None:
        self._pruning = pruning
        self._trials = trials
        self._goal = goal
        self._steps_per_epoch = steps_per_epoch
        self._assignments = assignments or len({trial.candidate for trial in trials})

    def __call__(self, step: int, metrics: Mapping[int, Mapping[str, float]]) -> list[int]:
        """step: of the lanes that still run; metrics: of these, by their place. The places of those to stop."""
        decisions = decisions_due(step, self._steps_per_epoch, self._pruning.epochs, self._pruning.factor)
        keep = max(1, math.floor(self._assignments / self._pruning.factor**decisions + 1e-9))
        scores = mean_scores(self._trials, metrics, self._goal)
        best = sorted(scores, key=lambda candidate: (-scores[candidate], candidate))[:keep]
        return [lane for lane in metrics if self._trials[lane].candidate not in best]


class Brackets:
    """Hyperband in one pack: candidate c belongs to bracket c mod `brackets`; each bracket is halved on its own."""

    def __init__(
        self,
        pruning: Hyperband,
        trials: Sequence[Trial],
        *,
        goal: Goal,
        steps_per_epoch: float,
        assignments: int,
    ) -> None:
        self._trials = trials
        self._count = pruning.brackets
        self._halvers = [
            Halver(
                Halving(epochs=pruning.epochs * pruning.factor**bracket, factor=pruning.factor),
                trials,
                goal=goal,
                steps_per_epoch=steps_per_epoch,
                assignments=len(range(bracket, assignments, pruning.brackets)),
            )
            for bracket in range(min(pruning.brackets, assignments))
        ]

    def __call__(self, step: int, metrics: Mapping[int, Mapping[str, float]]) -> list[int]:
        stopped = []
        for bracket, halver in enumerate(self._halvers):
            inside = {lane: m for lane, m in metrics.items() if self._trials[lane].candidate % self._count == bracket}
            stopped += halver(step, inside)
        return stopped


class AsyncHalver:
    """ASHA: asked after every evaluation, it decides at the first one at or after each rung.

    evaluate_every: steps between evaluations. A candidate that failed for one seed is worse than any other.
    """

    def __init__(
        self,
        pruning: Asha,
        trials: Sequence[Trial],
        rungs: Rungs,
        *,
        goal: Goal,
        steps_per_epoch: float,
        evaluate_every: float,
    ) -> None:
        self._pruning = pruning
        self._trials = trials
        self._rungs = rungs
        self._goal = goal
        self._steps_per_epoch = steps_per_epoch
        self._evaluate_every = evaluate_every

    def __call__(self, step: int, metrics: Mapping[int, Mapping[str, float]]) -> list[int]:
        rung = self._due(step)
        if rung == 0 or rung == self._due(step - round(self._evaluate_every)):
            return []
        losers = set()
        for candidate, score in mean_scores(self._trials, metrics, self._goal).items():
            there = sorted(self._rungs.record(rung, candidate, score), reverse=True)
            keep = max(1, math.floor(len(there) / self._pruning.factor + 1e-9))
            if score < there[keep - 1] or score == -math.inf:
                losers.add(candidate)
        return [lane for lane in metrics if self._trials[lane].candidate in losers]

    def _due(self, step: int) -> int:
        return decisions_due(step, self._steps_per_epoch, self._pruning.epochs, self._pruning.factor)


class MedianStopper:
    """The median rule among the lanes of one pack; candidates that have ended still count with the means they had."""

    def __init__(
        self,
        pruning: Median,
        trials: Sequence[Trial],
        *,
        goal: Goal,
        steps_per_epoch: float,
    ) -> None:
        self._trials = trials
        self._goal = goal
        self._first_step = pruning.epochs * steps_per_epoch
        self._seen: dict[int, list[float]] = {}  # candidate -> its scores, larger is better

    def __call__(self, step: int, metrics: Mapping[int, Mapping[str, float]]) -> list[int]:
        scores = mean_scores(self._trials, metrics, self._goal)
        for candidate, score in scores.items():
            self._seen.setdefault(candidate, []).append(score)
        if step < self._first_step:
            return []
        losers = {candidate for candidate in scores if self._is_worse(candidate)}
        return [lane for lane in metrics if self._trials[lane].candidate in losers]

    def _is_worse(self, candidate: int) -> bool:
        others = [statistics.fmean(seen) for other, seen in self._seen.items() if other != candidate]
        return bool(others) and max(self._seen[candidate]) < statistics.median(others)
