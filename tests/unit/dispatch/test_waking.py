"""A suspended machine, or a frozen process, is noticed, and nobody is given up for it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import cast

import pytest

from service import wire
from service.attempt import lease as leases
from service.attempt.lease import Lease
from service.client import AttemptClient
from service.dispatch.waking import Waking
from service.errors import FencedError


@dataclass
class Clocks:
    monotonic: float = 100.0
    asleep: float = 0.0

    def waking(self) -> Waking:
        return Waking(
            1.0,
            monotonic=lambda: self.monotonic,
            boottime=lambda: self.monotonic + self.asleep,
            now=lambda: self.monotonic + self.asleep,
        )


def test_ticks_of_any_length_are_no_suspension() -> None:
    clocks = Clocks()
    waking = clocks.waking()
    for length in (0.0, 1.0, 90.0, 3.0):  # a database that makes one wait for 90 s
        assert waking.tick() == 0
        clocks.monotonic += length
        waking.rest()
        clocks.monotonic += 1.5
    assert waking.woke is None


@pytest.mark.parametrize("during", ["the tick", "the rest"])
def test_fault_13a_a_suspended_machine_is_noticed(during: str) -> None:
    clocks = Clocks()
    waking = clocks.waking()
    assert waking.tick() == 0
    if during == "the tick":
        clocks.asleep += 3600
    waking.rest()
    clocks.monotonic += 1
    if during == "the rest":
        clocks.asleep += 3600
    assert waking.tick() == 3600
    assert waking.woke == clocks.monotonic + clocks.asleep
    waking.rest()
    clocks.monotonic += 1
    assert waking.tick() == 0  # once


def test_fault_13a_a_frozen_process_is_noticed() -> None:
    clocks = Clocks()
    waking = clocks.waking()
    waking.tick()
    waking.rest()
    clocks.monotonic += 61  # a paused virtual machine: every clock goes on
    assert waking.tick() == 60


@dataclass
class Api:
    """The service, as a lease sees it."""

    fenced: bool = False
    renewals: list[str] = field(default_factory=list)

    def heartbeat(self, runner_id: str, *, timeout_seconds: float) -> wire.HeartbeatReply:
        self.renewals.append(runner_id)
        if self.fenced:
            raise FencedError("superseded by attempt 2")
        return wire.HeartbeatReply(lease_seconds=20.0, cancel=False)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clocks:
    clocks = Clocks()
    monkeypatch.setattr(leases.time, "monotonic", lambda: clocks.monotonic)
    return clocks


def _lease(api: Api) -> Lease:
    return Lease(cast(AttemptClient, api), "r1", 20.0, lambda _: None)


def test_fault_13a_a_frozen_runner_asks_before_it_gives_up(clock: Clocks) -> None:
    lease = _lease(api := Api())
    assert lease.check() is None
    clock.monotonic += 300
    assert lease.check() is None  # nobody was looking: the renewal, on its way, will tell
    lease._once()
    assert api.renewals == ["r1"]
    clock.monotonic += 10
    assert lease.check() is None  # renewed: the service had been asleep too


def test_a_frozen_runner_that_was_replaced_hears_it(clock: Clocks) -> None:
    lease = _lease(Api(fenced=True))
    clock.monotonic += 300
    assert lease.check() is None
    lease._once()
    assert lease.check() == "superseded by attempt 2"


def test_a_frozen_runner_without_an_answer_gives_up(clock: Clocks) -> None:
    lease = _lease(Api())
    clock.monotonic += 300
    assert lease.check() is None
    for _ in range(60):
        clock.monotonic += 0.1
        lost = lease.check()
    assert lost is not None
    assert "could not be renewed" in lost


def test_a_runner_that_was_looking_gives_up_before_its_lease_ends(clock: Clocks) -> None:
    lease = _lease(Api())
    for _ in range(169):
        clock.monotonic += 0.1
        assert lease.check() is None
    clock.monotonic += 0.2  # 3 s before the 20
    assert lease.check() is not None
