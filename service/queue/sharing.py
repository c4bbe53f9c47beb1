"""Whose turn it is, and how much somebody may hold at a time: pure functions of usage, weights and quotas.

Usage       what a gang holds, in GPU-seconds (CPU-seconds in a cluster without GPUs), each second counted less the
            longer ago it was: half after HALF_LIFE_SECONDS. A gang that holds a from time s to e has, at a time t >= e,

                a h / ln 2  (2^(-(t - e) / h) - 2^(-(t - s) / h)),        h = HALF_LIFE_SECONDS

Shares      between jobs of one priority. Every group is an account, and so are together all users who are in no group
            (weight 1). The account goes first whose

                (usage + AHEAD_SECONDS x what it holds now) / weight

            is least: what was given in the plan that is being made counts at once, so one plan does not give everything
            to whoever was a second behind. Between the users of a group the same rule decides, with equal weights; then
            age. Users who are in no group go by age. Where no group was made there is one account, and age decides.
Quotas      the most GPUs and CPUs that a user, or the users of a group together, hold at a time. The first job in the
            line that a quota holds back is not passed by others that the same quota counts; nothing is held for it
            otherwise. A job that alone asks for more than the quota holds nobody back. Where a quota of storage is
            used up, what has not begun waits until less is stored, and what has begun goes on.
"""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import ClassVar

from service.queue.jobs import Resources
from service.queue.placing import UNIT, gang, units

HALF_LIFE_SECONDS = 7 * 86_400.0
AHEAD_SECONDS = 3600.0
WORDS = MappingProxyType({"GPU": "GPUs", "CPU": "CPUs"})  # what quotas bound


def decay(seconds: float) -> float:
    """Return what is left of a second of usage after so many."""
    return float(2.0 ** (-max(0.0, seconds) / HALF_LIFE_SECONDS))


def used(begin: float, end: float, now: float) -> float:
    """Return the seconds from `begin` to `end`, each as it counts at `now` >= end."""
    if end <= begin:
        return 0.0
    return HALF_LIFE_SECONDS / math.log(2) * (decay(now - end) - decay(now - begin))


@dataclass(frozen=True, order=True, kw_only=True)
class Principal:
    """Whom a quota bounds: a user, or a group."""

    kind: str  # "user" or "group"
    name: str

    def __str__(self) -> str:
        return f"{self.kind} {self.name}"


@dataclass(frozen=True, kw_only=True)
class Sharing:
    """What an administrator said of users and groups, and what they have used.

    groups:  the group of each user who is in one
    weights: of every group
    usage:   of (group, user), in `unit`-seconds as they count now, what runs included; group "": users in no group
    quotas:  resource -> the most at a time, of whoever has one
    """

    groups: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))
    weights: Mapping[str, float] = field(default_factory=lambda: MappingProxyType({}))
    usage: Mapping[tuple[str, str], float] = field(default_factory=lambda: MappingProxyType({}))
    quotas: Mapping[Principal, Mapping[str, float]] = field(default_factory=lambda: MappingProxyType({}))
    every_user: Mapping[str, float] = field(
        default_factory=lambda: MappingProxyType({})
    )  # who has no quota of their own
    unit: str = "GPU"
    used_up: Mapping[Principal, str] = field(default_factory=lambda: MappingProxyType({}))  # storage: whose, and why

    def group(self, user: str) -> str:
        """Return the user's account: the group, or "" for users in none."""
        return self.groups.get(user, "")

    def limits(self, user: str) -> dict[tuple[Principal, str], int]:
        """Return every quota that counts the user's jobs: whose, of which resource -> the most, in 1/10000."""
        own = Principal(kind="user", name=user)
        bounds = {own: self.quotas.get(own, self.every_user)}
        if group := self.group(user):
            of_group = Principal(kind="group", name=group)
            bounds[of_group] = self.quotas.get(of_group, {})
        return {
            (principal, name): amount
            for principal, quota in bounds.items()
            for name, amount in units(quota).items()
        }  # fmt: skip

    def without_storage(self, owner: str) -> UsedUp | None:
        """Return which quota of storage that counts the owner's jobs is used up; None where none is."""
        if not self.used_up:
            return None
        for principal in (Principal(kind="user", name=owner), Principal(kind="group", name=self.group(owner))):
            if (why := self.used_up.get(principal)) is not None:
                return UsedUp(principal=principal, why=why)
        return None

    def over(self, owners: Iterable[str]) -> dict[str, str]:
        """Return what is to be told to each account of these owners that has used more than its share: group or "" ->
        a sentence, with percentages of the accounts that compete."""
        competing = {self.group(owner) for owner in owners} if self.weights else set()
        of_group = {group: sum(s for (g, _), s in self.usage.items() if g == group) for group in competing}
        all_used = sum(of_group.values())
        all_weights = sum(self.weights.get(group, 1.0) for group in competing)
        reasons = {}
        for group in sorted(competing):
            share, part = self.weights.get(group, 1.0) / all_weights, of_group[group] / all_used if all_used else 0.0
            if round(100 * part) > round(100 * share):
                whose = f"group {group}" if group else "those who are in no group"
                mend = f"; more weight: vaesvc group set {group} --weight N" if group else ""
                reasons[group] = (
                    f"{whose} used {100 * part:.0f}% of the {self.unit} time of those who wait (it counts half after 7 "
                    f"days), and the share is {100 * share:.0f}%, so others of its priority go first{mend}"
                )
        return reasons


NOBODY = Sharing()


@dataclass(frozen=True, kw_only=True)
class HeldBack:
    """Why a quota holds a job back. asks, most, held: in 1/10000 of the resource."""

    principal: Principal
    resource: str
    asks: int
    most: int
    held: int

    @property
    def never(self) -> bool:
        """Return whether the job alone asks for more than the quota."""
        return self.asks > self.most

    def __str__(self) -> str:
        words, amounts = WORDS[self.resource], [f"{a / UNIT:g}" for a in (self.asks, self.most, self.held)]
        asks, most, held = amounts
        whose = f"the quota of {self.principal} is {most} {words} at a time"
        mend = f"an administrator can raise it: vaesvc quota set {self.principal} --{words.lower()} N"
        if self.never:
            return f"asks for {asks} {words}; {whose}, so it cannot start. Ask for less; or {mend}"
        return (
            f"asks for {asks} {words}; {whose}, and {held} are held or kept for earlier jobs of it. It starts when "
            f"some of these have ended; or {mend}"
        )


@dataclass(frozen=True, kw_only=True)
class UsedUp:
    """Why a quota of storage holds a job back that has not begun. why: with the numbers, and what frees some."""

    resource: ClassVar[str] = "storage"
    never: ClassVar[bool] = False
    principal: Principal
    why: str

    def __str__(self) -> str:
        return f"waits for storage: {self.why}. It starts when less is used"


class Ledger:
    """What users and groups hold while a plan is made: it only grows."""

    def __init__(self, sharing: Sharing) -> None:
        self.sharing = sharing
        self._held: Counter[tuple[Principal, str]] = Counter()
        self._waiting: set[tuple[Principal, str]] = set()  # somebody waits for these quotas
        self._ahead: dict[tuple[str, str], float] = defaultdict(int)  # (group, user) -> 1/10000 of the unit
        self._of_group: dict[str, float] = {}
        for (group, _), seconds in sorted(sharing.usage.items()):
            self._of_group[group] = self._of_group.get(group, 0.0) + seconds
        self._group_ahead: dict[str, float] = defaultdict(int)
        self._limits: dict[str, dict[tuple[Principal, str], int]] = {}

    def _of(self, owner: str) -> dict[tuple[Principal, str], int]:
        if owner not in self._limits:
            self._limits[owner] = self.sharing.limits(owner)
        return self._limits[owner]

    def keep(self, owner: str, resources: Resources) -> None:
        """Count the gang against the quotas that its owner is under."""
        if limits := self._of(owner):
            asks = gang(resources)
            for principal, name in limits:
                self._held[principal, name] += asks.get(name, 0)

    def charge(self, owner: str, resources: Resources, *, seconds: float | None = None) -> None:
        """Count the gang in its owner's share. seconds: for which it is counted; None: AHEAD_SECONDS."""
        if not self.sharing.weights:
            return
        group = self.sharing.group(owner)
        amount: float = gang(resources).get(self.sharing.unit, 0)
        if seconds is not None:
            amount *= seconds / AHEAD_SECONDS
        self._ahead[group, owner] += amount
        self._group_ahead[group] += amount

    def held_back(self, owner: str, resources: Resources, *, begun: bool = False) -> HeldBack | UsedUp | None:
        """Return the first quota that holds the gang back, if one does; from then on nobody passes it there. begun: its
        jobs are in the bucket already, and no quota of storage holds them."""
        if not begun and (storage := self.sharing.without_storage(owner)) is not None:
            return storage
        limits = self._of(owner)
        asks = gang(resources) if limits else {}
        for (principal, name), most in limits.items():
            amount, held = asks.get(name, 0), self._held[principal, name]
            if amount > 0 and (held + amount > most or (principal, name) in self._waiting):
                why = HeldBack(principal=principal, resource=name, asks=amount, most=most, held=held)
                if not why.never:
                    self._waiting.add((principal, name))
                return why
        return None

    def most(self, owner: str, resources: Resources) -> int:
        """Return how many of the gang's workers the quotas allow now that its owner is under."""
        limits, workers = self._of(owner), resources.workers
        bundle = units(resources.bundle()) if limits else {}
        for (principal, name), most in limits.items():
            if bundle.get(name, 0) > 0:
                workers = min(workers, (most - self._held[principal, name]) // bundle[name])
        return workers

    def group_score(self, group: str) -> float:
        """Return the account's usage and what it holds, by weight: the least goes first."""
        if not self.sharing.weights:
            return 0.0
        ahead = AHEAD_SECONDS * (self._group_ahead[group] / UNIT)
        return (self._of_group.get(group, 0.0) + ahead) / self.sharing.weights.get(group, 1.0)

    def user_score(self, owner: str) -> float:
        """Return the same of a user in their group; 0 for users who are in none: they go by age."""
        group = self.sharing.group(owner)
        if not group:
            return 0.0
        return self.sharing.usage.get((group, owner), 0.0) + AHEAD_SECONDS * (self._ahead[group, owner] / UNIT)
