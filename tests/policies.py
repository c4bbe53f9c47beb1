"""Other policies for the same traces as the planner's, and what no policy can pass.

`fifo` starts jobs in their order and nobody passes; `clairvoyant` knows how long everything takes and lets pass
whatever ends before the first that waits could start, or needs nothing of what that one needs then (EASY backfilling
with perfect estimates: Lifka 1995, "The ANL/IBM SP scheduling system"); `fluid` splits gangs at will.
"""

from __future__ import annotations

import heapq
from collections import deque
from collections.abc import Sequence

from tests.simulation import Arrival, Began


def fifo(arrivals: Sequence[Arrival], gpus: int) -> list[Began]:
    """Return when everything starts where nobody passes anybody."""
    began: list[Began] = []
    ends: list[tuple[float, int]] = []
    free, now = gpus, 0.0
    for arrival in arrivals:
        now = max(now, arrival.at)
        while ends and (ends[0][0] <= now or free < arrival.gpus):
            end, count = heapq.heappop(ends)
            now, free = max(now, end), free + count
        free -= arrival.gpus
        began.append(Began(arrival=arrival, at=now, holds=arrival.seconds))
        heapq.heappush(ends, (now + arrival.seconds, arrival.gpus))
    return began


def clairvoyant(arrivals: Sequence[Arrival], gpus: int, until: float) -> list[Began]:
    """Return when everything starts under EASY backfilling that knows every time: until then."""
    began: list[Began] = []
    coming, free = deque(arrivals), gpus
    line: list[Arrival] = []
    ends: list[tuple[float, int]] = []

    def start(job: Arrival, now: float) -> None:
        began.append(Began(arrival=job, at=now, holds=job.seconds))
        heapq.heappush(ends, (now + job.seconds, job.gpus))

    while coming or ends:
        now = min(coming[0].at if coming else until, ends[0][0] if ends else until)
        if now >= until:
            break
        while ends and ends[0][0] <= now:
            free += heapq.heappop(ends)[1]
        while coming and coming[0].at <= now:
            line.append(coming.popleft())
        while line and line[0].gpus <= free:
            free -= line[0].gpus
            start(line.pop(0), now)
        if not line or not free:
            continue
        shadow, room = now, free  # when the first one can start, and what it leaves over then
        for end, count in sorted(ends):
            shadow, room = end, room + count
            if room >= line[0].gpus:
                break
        spare = room - line[0].gpus
        for job in list(line[1:]):
            if job.gpus <= free and (now + job.seconds <= shadow or job.gpus <= spare):
                spare -= 0 if now + job.seconds <= shadow else job.gpus
                free -= job.gpus
                line.remove(job)
                start(job, now)
            if not free:
                break
    return began


def fluid(arrivals: Sequence[Arrival], gpus: int, until: float) -> float:
    """Return the GPU-seconds by then of a cluster on which any job could use every GPU: nothing is ever idle beside
    something that waits."""
    rest = 0.0
    work = 0.0
    now = 0.0
    for arrival in [*arrivals, Arrival(at=until, job_id="", user="", gpus=1, seconds=0.0)]:
        at = min(arrival.at, until)
        step = min(rest, gpus * (at - now))
        rest, work, now = rest - step, work + step, at
        rest += arrival.gpus * arrival.seconds
    return work
