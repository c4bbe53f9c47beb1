"""Calls that wait for each other are done together, and each is answered for itself."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor

import pytest

from service.errors import ConflictError, UnavailableError
from service.queue import gathering
from service.queue.gathering import Gathering

SECONDS = 60


class Doubling:
    """Doubles numbers; refuses a group with a negative one in it, and cannot be reached for a group with a zero. The
    first group is held until `go_on` is set."""

    def __init__(self) -> None:
        self.groups: list[list[int]] = []
        self.begun, self.go_on = threading.Event(), threading.Event()

    def __call__(self, numbers: Sequence[int]) -> list[int | Exception]:
        self.groups.append(list(numbers))
        if not self.begun.is_set():
            self.begun.set()
            assert self.go_on.wait(SECONDS)
        if 0 in numbers:
            raise UnavailableError("gone")
        if any(number < 0 for number in numbers):
            raise ConflictError(f"no {min(numbers)}")
        return [2 * number for number in numbers]


def behind_one(double: Doubling, numbers: Sequence[int]) -> list[Future[int]]:
    """Ask for each number in a thread of its own, all while a first group is held."""
    gathered = Gathering(double)
    with ThreadPoolExecutor(len(numbers) + 1) as threads:
        first = threads.submit(gathered.run, 7)
        assert double.begun.wait(SECONDS)
        futures = [threads.submit(gathered.run, number) for number in numbers]
        while len(gathered._waiting) < len(numbers):
            threading.Event().wait(0.005)
        double.go_on.set()
    assert first.result() == 14
    return futures


@pytest.fixture(autouse=True)
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gathering, "PATIENCE_SECONDS", SECONDS)


def test_those_who_wait_together_are_one_group() -> None:
    double = Doubling()
    futures = behind_one(double, range(1, 20))
    assert [future.result() for future in futures] == [2 * number for number in range(1, 20)]
    assert [len(group) for group in double.groups] == [1, 19]


def test_what_is_refused_to_one_is_done_for_the_others() -> None:
    double = Doubling()
    futures = behind_one(double, [1, -2, 3])
    with pytest.raises(ConflictError, match="no -2"):
        futures[1].result()
    assert (futures[0].result(), futures[2].result()) == (2, 6)
    assert sorted(map(len, double.groups)) == [1, 1, 1, 1, 3]


def test_a_server_that_is_gone_is_told_to_all_and_asked_once() -> None:
    double = Doubling()
    for future in behind_one(double, [1, 0, 3]):
        with pytest.raises(UnavailableError):
            future.result()
    assert len(double.groups) == 2


def test_more_than_a_group_holds_are_several_groups(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gathering, "MOST", 4)
    double = Doubling()
    futures = behind_one(double, range(1, 11))
    assert [future.result() for future in futures] == [2 * number for number in range(1, 11)]
    assert [len(group) for group in double.groups] == [1, 4, 4, 2]


def test_who_has_waited_long_for_the_others_goes_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gathering, "PATIENCE_SECONDS", 0.05)
    double = Doubling()
    gathered = Gathering(double)
    with ThreadPoolExecutor(2) as threads:
        held = threads.submit(gathered.run, 1)
        assert double.begun.wait(SECONDS)
        assert threads.submit(gathered.run, 2).result(SECONDS) == 4
        assert not held.done()
        double.go_on.set()
    assert held.result() == 2


@pytest.mark.parametrize("leaders", [1, 2])
def test_every_caller_gets_its_own_answer(leaders: int) -> None:
    gathered: Gathering[int, int] = Gathering(lambda numbers: [2 * number for number in numbers], leaders=leaders)
    with ThreadPoolExecutor(8) as threads:
        assert list(threads.map(gathered.run, range(2000))) == [2 * number for number in range(2000)]
    assert (gathered._free, len(gathered._waiting)) == (leaders, 0)
