"""A stage of a study as the API and the command line show it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType

from service.kinds.study.messages import StudyCandidate, StudyStage, StudyTrial
from tuning.study import Outcome, StageConfig, Trial
from tuning.winners import Candidate
from vae_models.measures import VALIDATION


def view(
    stage: StageConfig,
    trials: Sequence[Trial],
    outcomes: Mapping[int, Outcome],
    ranked: Sequence[Candidate],
    winner: Candidate | None,
    running: Mapping[int, int] = MappingProxyType({}),
) -> StudyStage:
    """Return the stage as a table, best first. running: steps of the trials that are trained now, by number."""
    places = {candidate.number: place for place, candidate in enumerate(ranked)}
    lines = [_line(trial, outcomes.get(trial.number), running) for trial in trials]
    lines.sort(
        key=lambda line: (
            _ORDER.index(line.state),
            -stage.goal.score(line.value),
            places[line.candidate],
            line.number,
        )
    )
    return StudyStage(
        name=stage.name,
        metric=stage.metric,
        mode=stage.mode,
        trials=tuple(lines),
        candidates=tuple(
            StudyCandidate(
                number=each.number, assignment=dict(each.assignment), mean=each.mean,
                standard_error=each.standard_error, values=each.values, complete=each.complete,
            )
            for each in ranked
        ),
        winner=None if winner is None else winner.number,
    )  # fmt: skip


_ORDER = ("done", "running", "waiting", "pruned", "failed")


def _line(trial: Trial, outcome: Outcome | None, running: Mapping[int, int]) -> StudyTrial:
    state = "running" if trial.number in running else "waiting"
    if outcome is not None and outcome.state != "missing":
        state = outcome.state
    return StudyTrial(
        number=trial.number,
        candidate=trial.candidate,
        seed=trial.seed,
        origin=None if trial.origin is None else int(trial.origin.partition("-")[0]),
        assignment=dict(trial.assignment),
        state=state,
        value=None if outcome is None else outcome.value,
        steps=running.get(trial.number, 0) if outcome is None else outcome.steps,
        error=None if outcome is None else outcome.error,
        metrics={} if outcome is None else {k: v for k, v in outcome.metrics.items() if k.startswith(f"{VALIDATION}/")},
    )
