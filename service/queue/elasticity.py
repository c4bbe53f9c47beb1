"""When elastic gangs change their size: pure functions of what runs, beside the planner.

A result does not depend on the number of workers, so a gang that checkpoints may go on with more or fewer of them. To
change it, its attempt is asked to give way; the planner starts the next one with as many workers as there is room for.

    shrinking   elastic attempts of lower priorities whose room, given up, lets the head start and every one of them go
                on beside it, smaller: then nobody has to be preempted. The fewest, and of these whom preemption would
                take first; where there are more than MOST_SETS sets of so many, the first in that order that are
                enough. As the planner starts them, that is: the first of them gets as many workers as it may have,
                so it is seldom more than one. At most MOST_PLANS sets that make room for the head are planned with.
    growing     the elastic attempt that could go on with more workers than it has, on what is free and as quotas allow:
                while nobody waits for room and nobody is leaving. One at a time: of the highest priority, the oldest.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from math import comb

from service.queue.jobs import Capacity, Resources
from service.queue.preemption import Clearing, Holding, first_to_leave, sets
from service.queue.scheduling import Admission, lanes, plan
from service.queue.sharing import NOBODY, Sharing
from service.queue.turns import Queued

MOST_SETS = 2000
MOST_PLANS = 20  # each costs as much as a plan of the whole cluster
_HEAD = ""  # sorts before every job


def shrinking(head: Resources, priority: int, holding: Iterable[Holding], capacity: Capacity) -> tuple[str, ...]:
    """Return the jobs whose attempts are to go on smaller by this module's rule; none where the head fits without it,
    or where it would not be enough."""
    staying = [gang for gang in holding if not gang.leaving]
    room = Clearing(head.sized(head.fewest), staying, capacity)
    if room.fits:
        return ()
    first = Queued(job_id=_HEAD, resources=head, priority=priority)
    elastic = [
        gang
        for gang in staying
        if gang.preemptible
        and gang.priority < priority
        and gang.resources.workers > _job(gang).fewest
        and room.helps(gang)
    ]
    elastic.sort(key=first_to_leave)
    looked = planned = 0
    for some in _candidates(elastic):
        looked += 1
        if looked > MOST_SETS or planned >= MOST_PLANS:
            break
        with room.without(some):
            if not room.fits:
                continue
        planned += 1
        if _all_go_on(first, some, staying, capacity):
            return tuple(gang.job_id for gang in some)
    return ()


def _candidates(elastic: Sequence[Holding]) -> Iterator[list[Holding]]:
    """Yield the sets by size, while sets of a size are few; then the first so many in order, more and more of them."""
    size, count = 1, len(elastic)
    while size <= count and comb(count, size) <= MOST_SETS:
        for indices in sets(count, size):
            yield [elastic[index] for index in indices]
        size += 1
    for first in range(size, count + 1):
        yield list(elastic[:first])


def _all_go_on(first: Queued, some: Sequence[Holding], staying: Sequence[Holding], capacity: Capacity) -> bool:
    """Return whether the head and all of these start where these have given up their room."""
    rest = [gang for gang in staying if gang not in some]
    return len(_started([first, *map(_queued, some)], rest, capacity)) == 1 + len(some)


def growing(holding: Iterable[Holding], capacity: Capacity, sharing: Sharing = NOBODY) -> str | None:
    """Return the job whose attempt could go on with more workers by this module's rule; None where none could."""
    held = list(holding)
    if any(gang.leaving for gang in held):
        return None
    room: dict[Resources, bool] = {}  # whether there is room for one more of these workers
    for gang in sorted(held, key=lambda gang: (-gang.priority, gang.since, gang.job_id)):
        if gang.resources.workers < _job(gang).workers:
            worker = gang.resources.sized(1)
            if worker not in room:
                room[worker] = Clearing(worker, held, capacity).fits
            if not room[worker]:
                continue
            others = [other for other in held if other is not gang]
            made = _started([_queued(gang)], others, capacity, sharing)
            if any(len(admission.nodes) > gang.resources.workers for admission in made):
                return gang.job_id
    return None


def _job(gang: Holding) -> Resources:
    return gang.resources if gang.job is None else gang.job


def _queued(gang: Holding) -> Queued:
    return Queued(job_id=gang.job_id, resources=_job(gang), priority=gang.priority, owner=gang.owner, begun=True)


def _started(
    queue: Sequence[Queued], running: Sequence[Holding], capacity: Capacity, sharing: Sharing = NOBODY
) -> tuple[Admission, ...]:
    """Return what the planner would start beside what runs."""
    return plan(lanes(queue), running, capacity, 0.0, sharing=sharing).admit
