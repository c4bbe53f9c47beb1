"""What won: the mean over the seeds that were asked for decides, never one lucky seed."""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from tuning.space import Assignment
from tuning.study import Outcome, State, Trial
from vae_models.measures import Goal


@dataclass(frozen=True, kw_only=True)
class Candidate:
    """One assignment with all its seeds. mean and standard_error are of the finite values; None without any, and the
    error None of a single one. complete: every seed was trained to its end and gave a finite value."""

    number: int
    assignment: Assignment
    values: tuple[float, ...]
    states: tuple[State, ...]
    mean: float | None
    standard_error: float | None
    complete: bool
    best_trial: int | None  # of its trials the one with the best value


def rank(trials: Sequence[Trial], outcomes: Mapping[int, Outcome], goal: Goal) -> list[Candidate]:
    """Return the candidates, best first: complete ones by their mean, then the others by theirs;
    ties in the space's order.

    outcomes by the trial's number; a trial without one is missing.
    """
    groups: dict[int, list[Trial]] = {}
    for trial in trials:
        groups.setdefault(trial.candidate, []).append(trial)
    candidates = [_candidate(number, group, outcomes, goal) for number, group in groups.items()]
    return sorted(candidates, key=lambda c: (not c.complete, -goal.score(c.mean), c.number))


def winner(ranked: Sequence[Candidate]) -> Candidate | None:
    """Return the first candidate, if it is complete: an assignment that failed for one seed does not win."""
    return ranked[0] if ranked and ranked[0].complete else None


def _candidate(number: int, group: Sequence[Trial], outcomes: Mapping[int, Outcome], goal: Goal) -> Candidate:
    ended = [(trial.number, outcomes.get(trial.number, Outcome(state="missing"))) for trial in group]
    finite = [(n, o.value) for n, o in ended if o.value is not None and math.isfinite(o.value)]
    values = tuple(value for _, value in finite)
    best = min(finite, key=lambda pair: (-goal.score(pair[1]), pair[0]), default=(None, 0.0))[0]
    return Candidate(
        number=number,
        assignment=group[0].assignment,
        values=values,
        states=tuple(outcome.state for _, outcome in ended),
        mean=statistics.fmean(values) if values else None,
        standard_error=statistics.stdev(values) / math.sqrt(len(values)) if len(values) > 1 else None,
        complete=len(values) == len(group) and all(outcome.state == "done" for _, outcome in ended),
        best_trial=best,
    )
