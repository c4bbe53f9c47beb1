"""What a study's driver tells the processes of Ray Tune."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, kw_only=True)
class PackOrder:
    """The order that a pack's process gets: plain data, but for the handle of the board."""

    order: str  # an Assignment, as JSON
    at: float  # when it was given [s since 1970]
    stage: int  # its place in the study
    base: str  # the TrainConfig that the stage starts from, as JSON
    board: Any  # the actor of service.kinds.study.board, which hands out the trials
    assignments: int  # that are compared while they train


# number, candidate, seed, assignment, epochs, origin: what `tuning.study.made` takes
TrialOrder = tuple[int, int, int, Mapping[str, Any], float | None, str | None]
