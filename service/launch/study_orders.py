"""What a study's driver tells the processes of Ray Tune, and where they begin: there, not here, torch is imported."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, kw_only=True)
class PackOrder:
    """What a pack's process is told: plain data, but for the handle of the board."""

    order: str  # an Assignment, as JSON
    stage: int  # its place in the study
    base: str  # the TrainConfig that the stage starts from, as JSON
    board: Any  # the actor of service.launch.study_board
    assignments: int  # that are compared while they train


# number, candidate, seed, assignment, epochs, origin: what `tuning.study.made` takes
TrialOrder = tuple[int, int, int, Mapping[str, Any], float | None, str | None]


def train_pack(told: PackOrder, share: Sequence[TrialOrder]) -> None:
    """Trains the trials in `share` that have not ended yet, side by side in this process."""
    from service.launch import study_worker

    study_worker.train_pack(told, share)


def train_group(told: PackOrder, share: Sequence[TrialOrder]) -> None:
    """Trains the trial in `share` with a Ray Train group of `workers_per_trial`."""
    from service.launch import study_group

    study_group.train_group(told, share)
