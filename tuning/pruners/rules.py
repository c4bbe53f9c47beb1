"""Which lanes of a pack stop early.

Halving and Hyperband compare the lanes of one pack, and are pure functions of the measured values; the median rule
remembers the evaluations before. ASHA compares all trials that reached a rung, in any process: `Rungs` keeps their
scores.
"""

from __future__ import annotations

import math
import statistics
from collections import Counter
from collections.abc import Callable, Container, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from vae_models.measures import Goal

# (step, metrics of each lane that still runs, by its number) -> the numbers of those that shall stop here
Decide = Callable[[int, Mapping[int, Mapping[str, float]]], Iterable[int]]


class Tried(Protocol):
    """What is asked of a trial: which assignment it is of."""

    @property
    def candidate(self) -> int: ...


class Rungs(Protocol):
    """What came to the rungs of one stage. The same record again changes nothing."""

    def record(self, rung: int, candidate: int, score: float) -> Sequence[float]:
        """Return the scores of all that have reached this rung, this one included; larger is better."""
        ...


class Memory:
    """Rungs for one process and one attempt."""

    def __init__(self) -> None:
        self._scores: dict[int, dict[int, float]] = {}

    def record(self, rung: int, candidate: int, score: float) -> Sequence[float]:
        there = self._scores.setdefault(rung, {})
        there.setdefault(candidate, score)
        return list(there.values())


@dataclass(frozen=True, kw_only=True)
class Pack:
    """What is known of a pack when its decisions begin.

    trials:          by their place, which is a lane's number
    assignments:     of the whole stage that are trained side by side, in this pack or another
    steps_per_epoch: optimizer steps
    evaluate_every:  steps between two evaluations
    rungs:           of the whole stage
    """

    trials: Sequence[Tried]
    goal: Goal
    assignments: int
    steps_per_epoch: float
    evaluate_every: float
    rungs: Rungs

    def scores(self, metrics: Mapping[int, Mapping[str, float]]) -> dict[int, float]:
        """Return candidate -> mean over its seeds, larger is better; -inf where one is missing or not finite."""
        measured: dict[int, list[float]] = {}
        for lane, values in metrics.items():
            measured.setdefault(self.trials[lane].candidate, []).append(self.goal.score(values.get(self.goal.metric)))
        asked = Counter(trial.candidate for trial in self.trials)
        return {
            candidate: sum(scores) / len(scores) if len(scores) == asked[candidate] else -math.inf
            for candidate, scores in measured.items()
        }

    def lanes(self, metrics: Mapping[int, Mapping[str, float]], candidates: Container[int]) -> list[int]:
        """Return the lanes of these candidates among those that still run."""
        return [lane for lane in metrics if self.trials[lane].candidate in candidates]

    def decisions(self, step: int, first_epochs: float, factor: float) -> int:
        """Return how many decisions are due after `step`: see `decisions_due`."""
        return decisions_due(step, self.steps_per_epoch, first_epochs, factor)


def decisions_due(step: int, steps_per_epoch: float, first_epochs: float, factor: float) -> int:
    """Return how many of the decisions are due after `step`:
    those after first, first x factor, first x factor^2, ... epochs.
    """
    epochs = step / steps_per_epoch
    if epochs < first_epochs:
        return 0
    return 1 + math.floor(math.log(epochs / first_epochs) / math.log(factor) + 1e-9)


@dataclass(frozen=True, kw_only=True)
class Halver:
    """The `decide` of a pack: called after every evaluation, it returns the lanes to stop.

    Lanes are trials by their place; those of one assignment stand or fall together, by their mean, and one that failed
    takes its assignment with it. It has no state: of n assignments floor(n / factor^d) are left after d decisions, so
    a pack that was interrupted decides as it would have; `assignments` is n where some of them have ended before.
    """

    pack: Pack
    epochs: float
    factor: float
    assignments: int

    def __call__(self, step: int, metrics: Mapping[int, Mapping[str, float]]) -> list[int]:
        """Return the indices of the lanes to stop.
        step: of the lanes that still run; metrics: theirs, by their index.
        """
        decisions = self.pack.decisions(step, self.epochs, self.factor)
        keep = max(1, math.floor(self.assignments / self.factor**decisions + 1e-9))
        scores = self.pack.scores(metrics)
        losers = sorted(scores, key=lambda candidate: (-scores[candidate], candidate))[keep:]
        return self.pack.lanes(metrics, losers)


@dataclass(frozen=True, kw_only=True)
class Brackets:
    """Hyperband in one pack: candidate c belongs to bracket c mod `count`; each bracket is halved on its own."""

    pack: Pack
    count: int
    halvers: tuple[Halver, ...]

    @classmethod
    def of(cls, pack: Pack, *, epochs: float, factor: float, brackets: int) -> Brackets:
        """Make one `Halver` for each bracket that has an assignment: in bracket b the first decision is later."""
        halvers = tuple(
            Halver(
                pack=pack,
                epochs=epochs * factor**bracket,
                factor=factor,
                assignments=len(range(bracket, pack.assignments, brackets)),
            )
            for bracket in range(min(brackets, pack.assignments))
        )
        return cls(pack=pack, count=brackets, halvers=halvers)

    def __call__(self, step: int, metrics: Mapping[int, Mapping[str, float]]) -> list[int]:
        stopped = []
        for bracket, halver in enumerate(self.halvers):
            inside = {
                lane: values
                for lane, values in metrics.items()
                if self.pack.trials[lane].candidate % self.count == bracket
            }
            stopped += halver(step, inside)
        return stopped


@dataclass(frozen=True, kw_only=True)
class AsyncHalver:
    """ASHA: asked after every evaluation, it decides at the first one at or after each rung.

    A candidate that failed for one seed is worse than any other.
    """

    pack: Pack
    epochs: float
    factor: float

    def __call__(self, step: int, metrics: Mapping[int, Mapping[str, float]]) -> list[int]:
        rung = self.pack.decisions(step, self.epochs, self.factor)
        before = self.pack.decisions(step - round(self.pack.evaluate_every), self.epochs, self.factor)
        if rung in (0, before):
            return []
        losers = set()
        for candidate, score in self.pack.scores(metrics).items():
            there = sorted(self.pack.rungs.record(rung, candidate, score), reverse=True)
            keep = max(1, math.floor(len(there) / self.factor + 1e-9))
            if score < there[keep - 1] or score == -math.inf:
                losers.add(candidate)
        return self.pack.lanes(metrics, losers)


@dataclass(frozen=True, kw_only=True)
class MedianStopper:
    """The median rule among the lanes of one pack; candidates that have ended still count with the means they had.

    first_step: before it no lane is stopped
    """

    pack: Pack
    first_step: float
    _seen: dict[int, list[float]] = field(default_factory=dict)  # candidate -> its scores, larger is better

    def __call__(self, step: int, metrics: Mapping[int, Mapping[str, float]]) -> list[int]:
        scores = self.pack.scores(metrics)
        for candidate, score in scores.items():
            self._seen.setdefault(candidate, []).append(score)
        if step < self.first_step:
            return []
        return self.pack.lanes(metrics, {candidate for candidate in scores if self._is_worse(candidate)})

    def _is_worse(self, candidate: int) -> bool:
        others = [statistics.fmean(seen) for other, seen in self._seen.items() if other != candidate]
        return bool(others) and max(self._seen[candidate]) < statistics.median(others)
