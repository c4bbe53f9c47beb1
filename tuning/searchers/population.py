"""Population based training (Jaderberg et al. 2017), a generation at a time.

The search has no state of its own. The members of a generation are a function of what those of the one before gave, so
a search that was killed goes on where it was; a member that goes on from another one starts from its last checkpoint.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Protocol

from tuning import space as spaces
from tuning.searchers.draw import Draw
from tuning.space import Assignment, Space
from vae_models.measures import Goal


class Numbers(Protocol):
    """Of a population: see `tuning.searchers.specs.PopulationSearch`."""

    size: int
    generations: int
    epochs: float
    quantile: float
    resample: float
    seed: int


def draws(
    search: Numbers,
    space: Space,
    goal: Goal,
    value: Callable[[int], float | None],
    over: Callable[[int], bool],
) -> Iterator[Draw]:
    """Yield the members known by now: generation after generation, up to the first in which not every member has ended.

    Member i of generation g is number g x size + i. over, value: of the assignment with this number, whether all its
    seeds have ended, and their mean; None for one that failed. Where all of a generation failed there is no next one.
    """
    members = [
        Draw(assignment=spaces.sample(space, number, search.seed), epochs=search.epochs)
        for number in range(search.size)
    ]
    for generation in range(search.generations):
        yield from members
        first = generation * search.size
        numbers = range(first, first + search.size)
        if not all(over(number) for number in numbers):
            return
        values = [value(number) for number in numbers]
        scores = [goal.score(score_of) for score_of in values]
        members = _next(search, space, [member.assignment for member in members], scores, generation)


def _next(search: Numbers, space: Space, members: list[Assignment], scores: list[float], generation: int) -> list[Draw]:
    best_first = sorted(range(search.size), key=lambda i: (-scores[i], i))
    count = min(max(1, math.floor(search.size * search.quantile + 1e-9)), search.size // 2)
    donors = [i for i in best_first[:count] if scores[i] > -math.inf]
    if not donors:
        return []
    replaced = {*best_first[-count:], *(i for i in best_first if scores[i] == -math.inf)}
    first, epochs = generation * search.size, search.epochs * (generation + 2)
    assignments = []
    for i, assignment in enumerate(members):
        number = first + search.size + i
        origin = i
        if i in replaced:
            origin = donors[int(spaces.uniform(search.seed, number, "donor") * len(donors))]
            assignment = _explored(search, space, members[origin], number)
        assignments.append(Draw(assignment=assignment, epochs=epochs, origin=first + origin))
    return assignments


def _explored(search: Numbers, space: Space, assignment: Assignment, number: int) -> Mapping[str, Any]:
    """Return the assignment with each value drawn again with probability `resample`, else moved a little,
    up or down.
    """
    explored = {}
    for path, domain in space.items():
        if spaces.uniform(search.seed, number, f"{path}/again") < search.resample:
            explored[path] = domain.at(spaces.uniform(search.seed, number, path))
        else:
            up = spaces.uniform(search.seed, number, f"{path}/up") < 0.5
            explored[path] = domain.near(assignment[path], up=up)
    return explored
