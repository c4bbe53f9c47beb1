"""The trials of a stage that no pack has begun: packs take them from here, each trial once."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Generic, TypeVar

T = TypeVar("T")


class WorkQueue(Generic[T]):
    """What is left of a stage, for packs that train side by side.

    A *unit* is what begins together in one pack: a trial, or those that are compared while they train. Each pack is
    handed an even share of all trials, a group at a time as it asks; from then on it takes over what others have not
    begun, half of it at a time. What was handed to a pack stays its own, so a pack that is started again asks what its
    process before had (`taken`).
    """

    def __init__(self, units: Sequence[Sequence[Sequence[T]]], packs: int) -> None:
        """Keep the units by data set, in the order in which they are to begin. packs: that ask."""
        self._waiting = [list(of_one_set) for of_one_set in units]
        self._taken: dict[int, list[T]] = {pack: [] for pack in range(packs)}
        self._set_of: dict[int, int] = {}  # pack -> the place of the data set that it takes from
        total = sum(len(unit) for of_one_set in units for unit in of_one_set)
        self._share = -(-total // packs) if packs else 0

    def taken(self, pack: int) -> list[T]:
        """Return all that was handed to the pack, ended or not."""
        return list(self._taken[pack])

    def take(self, pack: int, most: int, running: int = 0) -> list[T]:
        """Hand the pack the next trials, of one data set; none where nothing is left for it.

        most: trials that it has room for; one unit is handed out though it be larger, to a pack that runs none.
        running: trials that it runs; to those it is given more of the same data set, within its even share alone.
        """
        if not running and not self._choose_set(pack):
            return []
        waiting = self._waiting[self._set_of[pack]]
        room = self._share - len(self._taken[pack])
        if room <= 0 and not running:
            room = -(-sum(map(len, waiting)) // 2)
        if not running:
            room = min(room, sum(map(len, waiting)))
            room = -(-room // -(-room // most))  # groups of like sizes
        trials: list[T] = []
        while waiting and (len(trials) + len(waiting[0]) <= min(room, most) or not (trials or running)):
            trials += waiting.pop(0)
        self._taken[pack] += trials
        return trials

    def _choose_set(self, pack: int) -> bool:
        """Have the pack take from its data set, or where that is through, from the one with the most for each pack.
        Return whether anything is left.
        """
        if pack in self._set_of and self._waiting[self._set_of[pack]]:
            return True
        others = [place for other, place in self._set_of.items() if other != pack]

        def of_each(place: int) -> float:
            return sum(map(len, self._waiting[place])) / (1 + others.count(place))

        place = max(range(len(self._waiting)), key=of_each, default=None)
        if place is None or not self._waiting[place]:
            return False
        self._set_of[pack] = place
        return True
