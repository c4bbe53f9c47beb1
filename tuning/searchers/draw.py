"""What a searcher chooses, one at a time."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from tuning.space import Assignment

Value = Callable[[int], float | None]  # of the assignment of this number: the mean over its seeds; None: it failed
Over = Callable[[int], bool]  # whether all seeds of the assignment of this number have ended


@dataclass(frozen=True, kw_only=True)
class Draw:
    """One assignment. epochs: that it is trained in all, None for what the configuration says; origin: the number of
    the assignment whose last checkpoints it starts from."""

    assignment: Assignment
    epochs: float | None = None
    origin: int | None = None
