"""When elastic gangs change their size: pure functions of what runs, beside the planner.

A result does not depend on the number of workers, so a gang that checkpoints may go on with more or fewer of them. To
change it, its attempt is asked to give way; the planner starts the next one with as many workers as there is room for.

    shrinking   elastic attempts of lower priorities whose room, given up, lets the head start and every one of them go
                on beside it, smaller: then nobody has to be preempted. The fewest, and of these whom preemption would
                take first. Sets of up to MOST_SETS are looked at.
    growing     the elastic attempt that could go on with more workers than it has, on what is free and as quotas allow:
                while nobody waits for room and nobody is leaving. One at a time: of the highest priority, the oldest.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from math import comb

from service.queue.jobs import Capacity, Resources
from service.queue.preemption import Holding, first_to_leave, sets
from service.queue.scheduling import Admission, lanes, plan
from service.queue.sharing import NOBODY, Sharing
from service.queue.turns import Queued

MOST_SETS = 100  # each is a plan of its own
_HEAD = ""  # sorts before every job


def shrinking(head: Resources, priority: int, holding: Iterable[Holding], capacity: Capacity) -> tuple[str, ...]:
    """Return the jobs whose attempts are to go on smaller by this module's rule; none where the head fits without it,
    or where it would not be enough."""
    staying = [gang for gang in holding if not gang.leaving]
    first = Queued(job_id=_HEAD, resources=head, priority=priority)
    if _started([first], staying, capacity):
        return ()
    elastic = [
        gang
        for gang in staying
        if gang.preemptible and gang.priority < priority and gang.resources.workers > _job(gang).fewest
    ]
    elastic.sort(key=first_to_leave)
    looked = 0
    for size in range(1, len(elastic) + 1):
        looked += comb(len(elastic), size)
        if looked > MOST_SETS:
            break
        for indices in sets(len(elastic), size):
            some = [elastic[index] for index in indices]
            rest = [gang for gang in staying if gang not in some]
            if len(_started([first, *map(_queued, some)], rest, capacity)) == 1 + len(some):
                return tuple(gang.job_id for gang in some)
    return ()


def growing(holding: Iterable[Holding], capacity: Capacity, sharing: Sharing = NOBODY) -> str | None:
    """Return the job whose attempt could go on with more workers by this module's rule; None where none could."""
    held = list(holding)
    if any(gang.leaving for gang in held):
        return None
    for gang in sorted(held, key=lambda gang: (-gang.priority, gang.since, gang.job_id)):
        if gang.resources.workers < _job(gang).workers:
            others = [other for other in held if other is not gang]
            made = _started([_queued(gang)], others, capacity, sharing)
            if any(len(admission.nodes) > gang.resources.workers for admission in made):
                return gang.job_id
    return None


def _job(gang: Holding) -> Resources:
    return gang.resources if gang.job is None else gang.job


def _queued(gang: Holding) -> Queued:
    return Queued(job_id=gang.job_id, resources=_job(gang), priority=gang.priority, owner=gang.owner)


def _started(
    queue: Sequence[Queued], running: Sequence[Holding], capacity: Capacity, sharing: Sharing = NOBODY
) -> tuple[Admission, ...]:
    """Return what the planner would start beside what runs."""
    return plan(lanes(queue), running, capacity, 0.0, sharing=sharing).admit
