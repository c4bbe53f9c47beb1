"""A study as far as it has come, worked out of what lies in storage. Light: the API and the dispatcher use it too."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from service.artifacts import Artifacts
from service.code.reference import absent
from service.kinds.study.spec import StudySpec
from service.kinds.study.storage import StageStorage, TrialRecord
from tuning import study, winners
from tuning.study import Outcome, StageConfig, Trial
from tuning.winners import Candidate
from vae_models.config.train import TrainConfig
from vae_models.open_union import foreign_allowed


@dataclass(frozen=True, kw_only=True)
class StageEnd:
    """What a stage has come to. winner: None where no assignment was trained to its end with every seed."""

    stage: StageConfig
    trials: Sequence[Trial]
    records: Mapping[int, TrialRecord]
    ranked: Sequence[Candidate]
    winner: Candidate | None

    @property
    def best(self) -> Trial:
        """Return the winner's trial with the best value: its configuration and its weights stand for the winner."""
        assert self.winner is not None
        return self.trials[self.winner.best_trial or 0]

    @property
    def outcomes(self) -> dict[int, Outcome]:
        return {number: record.outcome for number, record in self.records.items()}


def read(spec: StudySpec, artifacts: Artifacts, job_id: str) -> list[StageEnd]:
    """Return how far a study is: its stages up to the first that has no winner yet.

    A process that has not got the job's own code cannot tell the trials of a stage that a part of it searches.
    """
    with foreign_allowed(absent(spec.code)):
        return _read(spec, artifacts, job_id)


def _read(spec: StudySpec, artifacts: Artifacts, job_id: str) -> list[StageEnd]:
    ends: list[StageEnd] = []
    base = spec.study.base
    for stage in spec.study.stages:
        if stage.foreign:
            break
        every, records = known(stage, base, StageStorage(artifacts, job_id, stage.name).results())
        ends.append(ended(stage, every, records))
        if ends[-1].winner is None or len(records) < stage.planned():
            break
        base = ends[-1].best.config
    return ends


def known(
    stage: StageConfig, base: TrainConfig, results: Mapping[str, TrialRecord]
) -> tuple[list[Trial], dict[int, TrialRecord]]:
    """Return the trials known by now, and the records of those that have ended. results: by the trial's key."""
    every, _ = study.known(stage, base, lambda trial: results[trial.key].outcome if trial.key in results else None)
    return every, {trial.number: results[trial.key] for trial in every if trial.key in results}


def ended(stage: StageConfig, every: Sequence[Trial], records: Mapping[int, TrialRecord]) -> StageEnd:
    ranked = winners.rank(every, {number: record.outcome for number, record in records.items()}, stage.goal)
    return StageEnd(stage=stage, trials=every, records=records, ranked=ranked, winner=winners.winner(ranked))
