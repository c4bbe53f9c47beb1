"""Groups, quotas and usage in SQL: what administrators say, what was used, and what a submission may ask for.

Usage is charged by whoever admits, who is one at a time: each attempt once, after it has ended. What runs is added when
it is asked for. So the ends of attempts write nothing that others wait for.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa

from service.errors import ConflictError, NotFoundError, QuotaError
from service.queue import stored
from service.queue.jobs import JobState, Resources
from service.queue.line import RESOURCES, parsed
from service.queue.rows import Clocked
from service.queue.schema import attempts, groups, jobs, members, quotas, usage
from service.queue.share_records import EVERY_USER, Bounds, Group, Kind, Quota, Used
from service.queue.sharing import NOBODY, Principal, Sharing, decay, used

if TYPE_CHECKING:
    from collections.abc import Iterator

    from service.queue.database import Database

MOST_CHARGED = 5000  # attempts that are charged at a time
BATCH = 200  # of them in a statement
Seconds = tuple[float, float]  # GPU-seconds, CPU-seconds, as they count now
Account = tuple[str, str]  # group or "", user


@dataclass(frozen=True, kw_only=True)
class Holding:
    """What an attempt holds, or has held. end: None while it does."""

    job_id: str
    number: int
    owner: str
    resources: Resources
    begin: float
    end: float | None = None

    def seconds(self, now: float) -> Seconds:
        counted = used(self.begin, min(now, now if self.end is None else self.end), now)
        total = self.resources.total()
        return total.get("GPU", 0.0) * counted, total.get("CPU", 0.0) * counted


def _members(work: Clocked) -> dict[str, str]:
    return {row["user"]: row["group"] for row in work.rows(sa.select(members))}


def groups_of(work: Clocked, users: Collection[str]) -> dict[str, str]:
    """Return the groups of those of the users who are in one."""
    return {row["user"]: row["group"] for row in work.rows(sa.select(members).where(members.c.user.in_(users)))}


def holdings(work: Clocked) -> list[Holding]:
    """Return what open attempts hold."""
    columns = (attempts.c.job_id, attempts.c.number, attempts.c.nodes, attempts.c.created_at, jobs.c.owner, RESOURCES)
    query = (
        sa.select(*columns)
        .join(jobs, jobs.c.id == attempts.c.job_id)
        .where(attempts.c.charged.is_(False), attempts.c.ended_at.is_(None))
    )
    return [
        Holding(
            job_id=row["job_id"],
            number=row["number"],
            owner=row["owner"],
            resources=parsed(row["resources"]).sized(len(row["nodes"])),
            begin=row["created_at"],
        )
        for row in work.rows(query)
    ]


def pending(work: Clocked) -> list[Holding]:
    """Return attempts that are over and not charged yet. Needs the admission lock."""
    columns = (
        attempts.c.job_id,
        attempts.c.number,
        attempts.c.nodes,
        attempts.c.created_at,
        attempts.c.ended_at,
        jobs.c.owner,
        RESOURCES,
    )
    query = (
        sa.select(*columns)
        .join(jobs, jobs.c.id == attempts.c.job_id)
        .where(attempts.c.charged.is_(False), attempts.c.ended_at.is_not(None))
        .order_by(attempts.c.ended_at)
        .limit(MOST_CHARGED)
    )
    return [
        Holding(
            job_id=row["job_id"],
            number=row["number"],
            owner=row["owner"],
            resources=parsed(row["resources"]).sized(len(row["nodes"])),
            begin=row["created_at"],
            end=row["ended_at"],
        )
        for row in work.rows(query)
    ]


def charge(work: Clocked, ended: Sequence[Holding]) -> None:
    """Add what these attempts have held to their owners' usage, once. Needs the admission lock."""
    if not ended:
        return
    new = _added({}, ended, _members(work), work.now)
    for (group, user), (gpu, cpu) in sorted(new.items()):
        which = (usage.c.group == group, usage.c.user == user)
        row = work.row(sa.select(usage).where(*which))
        if row is None:
            values = {"group": group, "user": user, "gpu_seconds": gpu, "cpu_seconds": cpu, "at": work.now}
            work.connection.execute(sa.insert(usage).values(values))
            continue
        left = decay(work.now - row["at"])
        values = {"gpu_seconds": row["gpu_seconds"] * left + gpu, "cpu_seconds": row["cpu_seconds"] * left + cpu}
        work.connection.execute(sa.update(usage).where(*which).values(at=max(work.now, row["at"]), **values))
    key = sa.tuple_(attempts.c.job_id, attempts.c.number)
    for start in range(0, len(ended), BATCH):
        some = [(each.job_id, each.number) for each in ended[start : start + BATCH]]
        work.connection.execute(sa.update(attempts).where(key.in_(some)).values(charged=True))


def _added(
    before: Mapping[Account, Seconds], holdings: Iterable[Holding], groups: Mapping[str, str], now: float
) -> dict[Account, Seconds]:
    after = dict(before)
    for holding in holdings:
        account = (groups.get(holding.owner, ""), holding.owner)
        gpu, cpu = after.get(account, (0.0, 0.0))
        more_gpu, more_cpu = holding.seconds(now)
        after[account] = gpu + more_gpu, cpu + more_cpu
    return after


def _usage(work: Clocked, holdings: Iterable[Holding], groups: Mapping[str, str]) -> dict[Account, Seconds]:
    """Return everybody's usage as it counts now, `holdings` included, which are not charged yet."""
    stored = {}
    for row in work.rows(sa.select(usage)):
        left = decay(work.now - row["at"])
        stored[row["group"], row["user"]] = row["gpu_seconds"] * left, row["cpu_seconds"] * left
    return _added(stored, holdings, groups, work.now)


def sharing(
    work: Clocked,
    ended: Sequence[Holding],
    unit: str,
    owners: Collection[str] = (),
    sizes: stored.Sizes = stored.by_owner,
) -> Sharing:
    """Return the rules for a plan. ended: what is `pending`. owners: whose jobs wait that have not begun: how much is
    stored, by `sizes`, is found out for their quotas alone."""
    weights = {row["name"]: row["weight"] for row in work.rows(sa.select(groups.c.name, groups.c.weight))}
    known = _quotas(work)
    bounds = {Principal(kind=q.kind, name=q.name): q.running() for q in known}
    if not weights and not bounds:
        return NOBODY
    of_users = _members(work)
    index = ("GPU", "CPU").index(unit)
    totals = _usage(work, [*holdings(work), *ended], of_users) if weights else {}
    return Sharing(
        groups=of_users,
        weights=weights,
        usage={account: seconds[index] for account, seconds in totals.items()},
        every_user=bounds.pop(Principal(kind="user", name=EVERY_USER), {}),
        quotas=bounds,
        unit=unit,
        used_up=_used_up(known, owners, of_users, lambda users: sizes(work, users)),
    )


def _used_up(
    known: Iterable[Quota],
    owners: Collection[str],
    of_users: Mapping[str, str],
    sizes: Callable[[Collection[str]], Mapping[str, stored.Stored]],
) -> dict[Principal, str]:
    """Return whose quotas of storage are used up, of those that count these owners, each with why."""
    named = {(quota.kind, quota.name): quota for quota in known if quota.storage_bytes is not None}
    every = {(quota.kind, quota.name) for quota in known}
    counted: dict[Quota, list[str]] = {}
    for owner in sorted(owners) if named else ():
        own = named.get(("user", owner))
        if own is None and ("user", owner) not in every and (everybody := named.get(("user", EVERY_USER))) is not None:
            own = everybody.model_copy(update={"name": owner})
        if own is not None:
            counted[own] = [owner]
        if (group := named.get(("group", of_users.get(owner, "")))) is not None and group not in counted:
            counted[group] = [user for user, name in of_users.items() if name == group.name]
    of_each = sizes({user for users in counted.values() for user in users}) if counted else {}
    reasons = {}
    for quota, users in counted.items():
        why = _refusal(quota, [of_each[user] for user in users if user in of_each], 0)
        if why is not None:
            reasons[Principal(kind=quota.kind, name=quota.name)] = why
    return reasons


def _quotas(work: Clocked) -> list[Quota]:
    return [Quota(**row) for row in work.rows(sa.select(quotas).order_by(quotas.c.kind, quotas.c.name))]


# --- submissions ----------------------------------------------------------------------------------------------------


_USER = sa.bindparam("of_user", type_=sa.String)
_GROUP = sa.select(members.c.group).where(members.c.user == _USER).scalar_subquery()
_OWN = sa.and_(quotas.c.kind == "user", sa.or_(quotas.c.name == _USER, quotas.c.name == EVERY_USER))
_OF_USER = sa.select(quotas).where(_OWN | sa.and_(quotas.c.kind == "group", quotas.c.name == _GROUP))


def of_user(work: Clocked, user: str) -> list[Quota]:
    """Return the quotas that a user is under: their own (or every user's, under their name), and the group's."""
    rows = work.connection.execute(_OF_USER, {"of_user": user}).mappings()
    named = {(row["kind"], row["name"]): Quota(**row) for row in rows}
    everybody = named.pop(("user", EVERY_USER), None)
    if everybody is not None and ("user", user) not in named:
        named["user", user] = everybody.model_copy(update={"name": user})
    return sorted(named.values(), key=lambda quota: quota.kind, reverse=True)


def check(work: Clocked, owner: str, wanted: Sequence[tuple[Resources, int]]) -> None:
    """Raise QuotaError, with the numbers, unless the owner may submit these gangs, each with its priority."""
    for quota in of_user(work, owner):
        for resources, priority in wanted:
            _check_one(quota, resources, priority)
        _check_storage(work, quota, 0)
        if quota.queued is not None:
            _lock(work, quota)
            waiting = work.connection.scalar(_waiting(quota)) or 0
            if waiting + len(wanted) > quota.queued:
                more = "one more" if len(wanted) == 1 else f"{len(wanted)} more"
                raise QuotaError(
                    f"the quota of {_whose(quota)} is {quota.queued} jobs in the line; {waiting} wait there, and this "
                    f"is {more}. Submit it when some have started, or cancel some; {_mend(quota, 'queued')}"
                )


def check_priority(work: Clocked, owner: str, resources: Resources, priority: int) -> None:
    """Raise QuotaError, with the numbers, unless the owner's job of this gang may have this priority."""
    for quota in of_user(work, owner):
        _check_one(quota, resources, priority)


def check_storage(work: Clocked, owner: str, more: int) -> None:
    """Raise QuotaError, with the numbers, unless the owner may store so many bytes more. Nobody else may until the end
    of the transaction: two would count the same."""
    for quota in of_user(work, owner):
        if quota.storage_bytes is not None:
            _lock(work, quota)
            _check_storage(work, quota, more)


def _check_storage(work: Clocked, quota: Quota, more: int) -> None:
    if quota.storage_bytes is not None:
        why = _refusal(quota, stored.by_owner(work, _owners(work, quota)).values(), more)
        if why is not None:
            raise QuotaError(why)


def _refusal(quota: Quota, kept: Collection[stored.Stored], more: int) -> str | None:
    """Return why so many bytes more, or a job, go beyond the quota, and how to mend it; None where they do not."""
    if quota.storage_bytes is None:
        return None
    why = stored.refusal(_whose(quota), quota.storage_bytes, stored.together(kept), more)
    return None if why is None else f"{why}; {_mend(quota, 'storage')}"


def _owners(work: Clocked, quota: Quota) -> list[str]:
    """Return the users whom a quota counts together."""
    if quota.kind == "user":
        return [quota.name]
    return list(work.connection.scalars(sa.select(members.c.user).where(members.c.group == quota.name)))


def _check_one(quota: Quota, resources: Resources, priority: int) -> None:
    asked: tuple[tuple[str, float | None, float, str], ...] = (
        ("workers", quota.workers, resources.workers, "resources.workers"),
        ("gpus", quota.gpus, resources.total().get("GPU", 0.0), "resources: GPUs of all workers"),
        ("cpus", quota.cpus, resources.total().get("CPU", 0.0), "resources: CPUs of all workers"),
        ("priority", quota.priority, priority, "priority"),
    )
    for name, most, amount, where in asked:
        if most is not None and amount > most:
            raise QuotaError(
                f"{where}: {amount:g} is more than the quota of {_whose(quota)} allows, which is {most:g}. Ask for "
                f"less; {_mend(quota, name)}"
            )


def _whose(quota: Quota) -> str:
    return f"{quota.kind} {quota.name}"


def _mend(quota: Quota, name: str) -> str:
    return f"an administrator can raise it: vaesvc quota set {_whose(quota)} --{name} N"


def _waiting(quota: Quota) -> sa.Select[Any]:
    whose = jobs.c.owner == quota.name
    if quota.kind == "group":
        whose = jobs.c.owner.in_(sa.select(members.c.user).where(members.c.group == quota.name))
    waiting = (JobState.QUEUED.value, JobState.HELD.value)  # what is held back will be there
    return sa.select(sa.func.count()).where(whose, jobs.c.state.in_(waiting))


def _lock(work: Clocked, quota: Quota) -> None:
    """Let nobody else submit under this quota until the end of the transaction: two would count the same line."""
    if not work.database.sqlite:
        digest = hashlib.sha256(f"{quota.kind} {quota.name}".encode()).digest()
        number = int.from_bytes(digest[:8], "big", signed=True)
        work.connection.execute(sa.select(sa.func.pg_advisory_xact_lock(number)))


# --- administrators -------------------------------------------------------------------------------------------------


class Shares:
    """Groups and quotas of one database. Each method is one short transaction."""

    def __init__(self, database: Database) -> None:
        self._database = database

    @contextmanager
    def _work(self, *, write: bool = False) -> Iterator[Clocked]:
        with self._database.write() if write else self._database.read() as connection:
            yield Clocked(self._database, connection)

    def groups(self) -> list[Group]:
        """Return the groups, by name, with the usage of each of their users as it counts now; then, where there are
        groups, the account of all users in none."""
        with self._work() as work:
            rows = work.rows(sa.select(groups).order_by(groups.c.name))
            of_users = _members(work)
            totals = _usage(work, [*holdings(work), *pending(work)], of_users)
            sizes = {owner: kept.total for owner, kept in stored.by_owner(work).items()} if rows else {}
        named = {row["name"]: row["weight"] for row in rows}
        weights = named | {"": 1.0} if named else {}
        return [
            Group(
                name=name,
                weight=weight,
                members=tuple(sorted(user for user, group in of_users.items() if group == name)),
                usage=tuple(
                    Used(user=user, gpu_seconds=gpu, cpu_seconds=cpu)
                    for (group, user), (gpu, cpu) in sorted(totals.items())
                    if group == name
                ),
                share=weight / sum(weights.values()),
                stored_bytes=sum(size for user, size in sizes.items() if of_users.get(user, "") == name),
            )
            for name, weight in weights.items()
        ]

    def set_group(self, name: str, weight: float) -> None:
        """Make a group, or give it another weight."""
        with self._work(write=True) as work:
            if (
                work.connection.execute(sa.update(groups).where(groups.c.name == name).values(weight=weight)).rowcount
                == 0
            ):
                work.connection.execute(sa.insert(groups).values(name=name, weight=weight, created_at=work.now))

    def remove_group(self, name: str) -> None:
        """Remove a group with its quota and usage: its users are in none. Raises NotFoundError."""
        with self._work(write=True) as work:
            work.connection.execute(sa.delete(members).where(members.c.group == name))
            work.connection.execute(sa.delete(quotas).where(quotas.c.kind == "group", quotas.c.name == name))
            work.connection.execute(sa.delete(usage).where(usage.c.group == name))
            if work.connection.execute(sa.delete(groups).where(groups.c.name == name)).rowcount == 0:
                raise _no_group(work, name)

    def add_member(self, group: str, user: str) -> None:
        """Put a user into a group; what they used before stays where it was used. Raises NotFoundError without such a
        group, ConflictError when the user is in another one."""
        with self._work(write=True) as work:
            if work.row(sa.select(groups.c.name).where(groups.c.name == group)) is None:
                raise _no_group(work, group)
            known = work.connection.scalar(sa.select(members.c.group).where(members.c.user == user))
            if known not in (None, group):
                raise ConflictError(
                    f"{user!r} is in group {known!r}, and a user is in one group at most: vaesvc group drop {known} "
                    f"{user}"
                )
            if known is None:
                work.connection.execute(sa.insert(members).values({"user": user, "group": group}))

    def remove_member(self, group: str, user: str) -> None:
        """Take a user out of a group. Raises NotFoundError when they are not in it."""
        which = (members.c.group == group, members.c.user == user)
        with self._work(write=True) as work:
            if work.connection.execute(sa.delete(members).where(*which)).rowcount == 0:
                raise NotFoundError(f"{user!r} is not in group {group!r}; `vaesvc group list` shows who is")

    def quotas(self) -> list[Quota]:
        """Return the quotas, by whose they are, with what is stored."""
        with self._work() as work:
            return _with_stored(work, _quotas(work))

    def of_user(self, user: str) -> list[Quota]:
        """Return the quotas that the user is under: their own first, then the group's; with what is stored."""
        with self._work() as work:
            return _with_stored(work, of_user(work, user))

    def set_quota(self, kind: Kind, name: str, bounds: Bounds) -> Quota:
        """Make or replace a quota. Jobs that run go on; those that wait, wait for it. Raises NotFoundError for a group
        that is not there."""
        values = bounds.model_dump(include=set(Bounds.model_fields))
        with self._work(write=True) as work:
            if kind == "group" and work.row(sa.select(groups.c.name).where(groups.c.name == name)) is None:
                raise _no_group(work, name)
            which = (quotas.c.kind == kind, quotas.c.name == name)
            if work.connection.execute(sa.update(quotas).where(*which).values(values)).rowcount == 0:
                work.connection.execute(sa.insert(quotas).values(kind=kind, name=name, **values))
        return Quota(kind=kind, name=name, **values)

    def remove_quota(self, kind: Kind, name: str) -> None:
        """Remove a quota. Raises NotFoundError when there is none."""
        which = (quotas.c.kind == kind, quotas.c.name == name)
        with self._work(write=True) as work:
            if work.connection.execute(sa.delete(quotas).where(*which)).rowcount == 0:
                raise NotFoundError(
                    f"{kind} {name} has no quota of their own; `vaesvc quota list` shows those there are"
                )


def _with_stored(work: Clocked, known: Sequence[Quota]) -> list[Quota]:
    owners = {quota: [] if quota.name == EVERY_USER else _owners(work, quota) for quota in known}
    sizes = stored.by_owner(work, {owner for each in owners.values() for owner in each})
    return [
        quota
        if quota.name == EVERY_USER
        else quota.model_copy(update={"stored_bytes": sum(sizes[owner].total for owner in each if owner in sizes)})
        for quota, each in owners.items()
    ]


def _no_group(work: Clocked, name: str) -> NotFoundError:
    known = list(work.connection.scalars(sa.select(groups.c.name).order_by(groups.c.name)))
    there = f"there are {', '.join(known)}" if known else "there is none yet"
    return NotFoundError(f"no group {name!r}; {there}. Make one with `vaesvc group set {name} --weight 1`")
