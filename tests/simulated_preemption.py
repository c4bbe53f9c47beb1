"""What attempts cost that give way, in a virtual cluster, and who is asked to: the real rule on a virtual clock.

An attempt that begins with `done` seconds of its job's `seconds` behind it takes `start` seconds before its first step,
then makes (workers / gpus) seconds of progress a second. Asked to give way at a time t, it stops and writes a
checkpoint, which takes c seconds, log-normal and drawn for each attempt:

    c <= grace      it leaves at t + c, and nothing of what it did is lost
    c > grace       it is killed at t + grace, and its job goes on from the last of the checkpoints that are written
                    every `every` seconds of progress; what it did since is lost

Who would have ended by then ends. The job goes back into the line at its old place; `begins` starts it again. Of every
job that has ended the seconds that its gangs were held are accounted for, in GPU-seconds, exactly:

    held = gpus * seconds + lost + starts + idle

`starts`: before first steps; `idle`: from being asked to leaving. Where attempts are bounded in time, each of a job's
has the whole bound anew, as in the service.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from random import Random

from service.queue.elasticity import growing, shrinking
from service.queue.jobs import Capacity
from service.queue.preemption import Holding, victims
from tests.simulation import Arrival, Began


@dataclass(kw_only=True)
class Account:
    """What has become of a job's time. done: seconds of its `seconds`; all others in GPU-seconds."""

    done: float = 0.0
    held: float = 0.0
    lost: float = 0.0
    starts: float = 0.0
    idle: float = 0.0
    attempts: int = 0
    preempted: int = 0
    resized: int = 0
    first_preempted: float | None = None
    ended: float | None = None


@dataclass(kw_only=True)
class Preemption:
    """The costs, seconds, and the accounts of the jobs. grow: idle room is given to elastic gangs after so long."""

    grace: float = 60.0
    every: float = 1800.0
    start: float = 45.0
    median: float = 20.0
    spread: float = 0.8
    grow: float = 600.0
    accounts: dict[str, Account] = field(default_factory=dict)
    killed: int = 0
    _idle: tuple[str, float] | None = None

    def begins(self, arrival: Arrival, workers: int) -> float:
        """Return the seconds for which an attempt that begins now holds its gang, undisturbed."""
        account = self.accounts.setdefault(arrival.job_id, Account())
        account.attempts += 1
        holds = self.start + (arrival.seconds - account.done) * arrival.gpus / workers
        assert arrival.limit is None or holds <= arrival.limit, "an attempt ends before its bound"
        return holds

    def longest(self, arrival: Arrival) -> float:
        """Return the seconds of its longest attempt: with the fewest workers, and nothing done before."""
        return self.start + arrival.seconds * arrival.gpus / (arrival.fewest or arrival.gpus)

    def ask(
        self, head: Arrival | None, running: Mapping[str, Began], capacity: Capacity, now: float
    ) -> Sequence[Began]:
        """Ask attempts to give way as `service.queue.room` does; return those that were asked, or end before they could
        leave."""
        if head is None:
            chosen: Sequence[str] = self._grows(running, capacity, now)
            for job_id in chosen:
                self.accounts[job_id].resized += self._leaves(running[job_id], now)
        else:
            self._idle = None
            if all(held.arrival.priority >= head.priority or held.leaving for held in running.values()):
                return []
            holding = [_holding(held) for held in running.values()]
            smaller = shrinking(head.resources, head.priority, holding, capacity)
            chosen = smaller or victims(head.resources, head.priority, holding, capacity)
            for job_id in chosen:
                gang = running[job_id]
                assert gang.arrival.priority < head.priority, "never an equal"
                assert not gang.leaving, "nobody is asked twice"
                account = self.accounts[job_id]
                if self._leaves(gang, now):
                    account.resized += bool(smaller)
                    account.preempted += not smaller
                    if not smaller and account.first_preempted is None:
                        account.first_preempted = now
        return [running[job_id] for job_id in chosen]

    def _grows(self, running: Mapping[str, Began], capacity: Capacity, now: float) -> Sequence[str]:
        """Return the attempt that goes on with more workers, when there has been room for it for so long."""
        elastic = any(held.workers < held.arrival.gpus for held in running.values())
        chosen = growing([_holding(held) for held in running.values()], capacity) if elastic else None
        if chosen is None:
            self._idle = None
            return []
        if self._idle is None or self._idle[0] != chosen:
            self._idle = chosen, now
        if now < self._idle[1] + self.grow:
            return []
        self._idle = None
        return [chosen]

    def _leaves(self, gang: Began, now: float) -> bool:
        """Let the attempt give way, unless it ends before it could; return whether it does."""
        takes = self._checkpoint(gang)
        leaves = now + min(takes, self.grace)
        if gang.end <= leaves:
            gang.leave(None, now + self.grace)
            return False
        gang.leave(leaves, now + self.grace)
        account, rate = self.accounts[gang.arrival.job_id], gang.workers / gang.arrival.gpus
        did = max(0.0, now - gang.at - self.start) * rate
        kept = did
        if takes > self.grace:
            self.killed += 1
            kept = did - did % self.every
            assert 0.0 <= did - kept < self.every, "no more is lost than since the last checkpoint"
        account.done += kept
        account.lost += (did - kept) * gang.arrival.gpus
        account.starts += min(self.start, now - gang.at) * gang.workers
        account.idle += (leaves - now) * gang.workers
        return True

    def _checkpoint(self, gang: Began) -> float:
        """Return the seconds that this attempt's checkpoint takes."""
        number = self.accounts[gang.arrival.job_id].attempts
        return self.median * Random(f"{gang.arrival.job_id} {number}").lognormvariate(0.0, self.spread)

    def ended(self, gang: Began) -> None:
        """Account for an attempt that has ended; where its job has, everything must add up."""
        account, arrival = self.accounts[gang.arrival.job_id], gang.arrival
        account.held += gang.workers * (gang.end - gang.at)
        if gang.leaves is None:
            account.starts += self.start * gang.workers
            account.ended = gang.end
            known = arrival.gpus * arrival.seconds + account.lost + account.starts + account.idle
            assert abs(account.held - known) <= 1e-6 * known, "what was lost is what the model says"


def _holding(gang: Began) -> Holding:
    return Holding(
        job_id=gang.arrival.job_id,
        resources=gang.resources,
        nodes=gang.nodes,
        job=gang.arrival.resources if gang.arrival.fewest is not None else None,
        owner=gang.arrival.user,
        priority=gang.arrival.priority,
        since=gang.at,
        leaving=gang.leaving,
    )
