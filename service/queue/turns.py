"""The line: whose turn it is, one job after another, while a plan is made.

A **lane** is the jobs of one priority, owner and kind of gang, those that have begun before apart from those that have
not. Lanes are read only as far as their jobs start.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

from service.queue.jobs import Resources
from service.queue.sharing import Ledger


@dataclass(frozen=True, kw_only=True)
class Queued:
    """A job that waits."""

    job_id: str
    resources: Resources
    priority: int = 0
    not_before: float = 0.0  # backoff: seconds since 1970
    owner: str = ""
    seconds: float | None = None  # for which an attempt may run at most; none: no bound
    begun: bool = False  # it was admitted before


@dataclass(frozen=True, kw_only=True)
class Lane:
    """The jobs of one priority, owner, kind of gang and class of bounds, oldest first, read once and as far as they are
    needed. seconds: the bound of their attempts; begun: they were admitted before."""

    resources: Resources
    priority: int
    jobs: Iterator[Queued]
    name: str = ""
    owner: str = ""
    seconds: float | None = None
    begun: bool = False


Turn = tuple[Lane, Queued]


class _User:
    """The lanes of a user, or of all users who are in no group, in the order of their oldest jobs."""

    def __init__(self, owner: str) -> None:
        self.owner = owner
        self._lanes: list[tuple[str, int, Lane, Queued]] = []

    def __bool__(self) -> bool:
        return bool(self._lanes)

    @property
    def oldest(self) -> str:
        return self._lanes[0][0]

    def push(self, number: int, lane: Lane, job: Queued) -> None:
        heapq.heappush(self._lanes, (job.job_id, number, lane, job))

    def pop(self) -> tuple[int, Lane, Queued]:
        return heapq.heappop(self._lanes)[1:]


Member = tuple[float, str, str, _User]  # score, oldest job, name: the least goes first
Account = tuple[float, float, str, str, list[Member]]  # score, that of the member whose turn it is, oldest job, name


class Line:
    """The lanes' jobs in the order of the line: priority, then shares as the ledger has them at that moment, then age.

    A lane is left after each job, unless `go_on` is called before the next one is asked for. first: the name of the
    lane whose first job goes before all others of its priority, whatever the shares have become.
    """

    def __init__(self, lanes: Iterable[Lane], ledger: Ledger, first: str | None = None) -> None:
        self._ledger, self._first = ledger, first
        self._classes: dict[int, list[Lane]] = {}
        for lane in lanes:
            self._classes.setdefault(lane.priority, []).append(lane)
        self._again = False

    def go_on(self) -> None:
        """Let the lane of the last job go on."""
        self._again = True

    def __iter__(self) -> Iterator[Turn]:
        for priority in sorted(self._classes, reverse=True):
            users: dict[tuple[str, str], _User] = {}
            for number, lane in enumerate(self._classes[priority]):
                job = next(lane.jobs, None)
                if job is not None and self._first is not None and lane.name == self._first:
                    self._again = False
                    yield lane, job
                    job = self._following(lane)
                if job is not None:
                    group = self._ledger.sharing.group(lane.owner)
                    owner = lane.owner if group else ""
                    users.setdefault((group, owner), _User(owner)).push(number, lane, job)
            yield from self._by_shares(users)

    def _following(self, lane: Lane) -> Queued | None:
        return next(lane.jobs, None) if self._again else None

    def _by_shares(self, users: Mapping[tuple[str, str], _User]) -> Iterator[Turn]:
        """Yield the turns. Only the scores of whose turn it was can have changed when the next one is asked for: the
        heaps stay right."""
        groups: dict[str, list[Member]] = {}
        for (group, _), user in users.items():
            groups.setdefault(group, []).append(self._member(user))
        line: list[Account] = []
        for group, members in groups.items():
            heapq.heapify(members)
            heapq.heappush(line, self._account(group, members))
        while line:
            *_, group, members = heapq.heappop(line)
            *_, user = heapq.heappop(members)
            number, lane, job = user.pop()
            self._again = False
            yield lane, job
            following = self._following(lane)
            if following is not None:
                user.push(number, lane, following)
            if user:
                heapq.heappush(members, self._member(user))
            if members:
                heapq.heappush(line, self._account(group, members))

    def _member(self, user: _User) -> Member:
        return self._ledger.user_score(user.owner) if user.owner else 0.0, user.oldest, user.owner, user

    def _account(self, group: str, members: list[Member]) -> Account:
        score, oldest, *_ = members[0]
        return self._ledger.group_score(group), score, oldest, group, members
