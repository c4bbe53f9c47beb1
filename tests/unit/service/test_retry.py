"""Asking again: for as long as it may help, and not for what will not pass."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

import pytest

from service.errors import UnavailableError, UsageError
from service.retry import again, patiently, unavailable


class Server:
    """Answers after it has failed with `errors`."""

    def __init__(self, *errors: Exception) -> None:
        self.errors = list(errors)
        self.calls = 0

    def __call__(self) -> str:
        self.calls += 1
        if self.errors:
            raise self.errors.pop(0)
        return "answer"


def test_what_passes_is_asked_again_and_everything_else_is_raised_at_once() -> None:
    server = Server(UnavailableError("away"), UnavailableError("away"))
    assert again(server, when=unavailable, seconds=5.0, first=0.001) == "answer"
    assert server.calls == 3
    server = Server(UsageError("wrong"))
    with pytest.raises(UsageError, match="wrong"):
        again(server, when=unavailable, seconds=5.0, first=0.001)
    assert server.calls == 1


@pytest.mark.parametrize("call", [again, patiently])
def test_at_the_end_of_the_time_the_last_error_is_raised(call: Callable[..., object]) -> None:
    server = Server(*(UnavailableError(str(number)) for number in range(1000)))
    given = {"when": unavailable, "first": 0.01, "longest": 0.02} if call is again else {"pause_seconds": 0.01}
    began = time.monotonic()
    with pytest.raises(UnavailableError, match=r"^\d+$"):
        call(server, seconds=0.2, **given)
    assert server.calls > 2
    assert time.monotonic() - began < 5.0
    server = Server(UnavailableError("away"))
    with pytest.raises(UnavailableError, match="away"):
        call(server, seconds=0.0, **given)
    assert server.calls == 1


def test_who_has_no_more_time_is_not_kept_waiting() -> None:
    give_up = threading.Event()
    threading.Timer(0.1, give_up.set).start()
    server = Server(*(UnavailableError("away") for _ in range(1000)))
    began = time.monotonic()
    with pytest.raises(UnavailableError):
        again(server, when=unavailable, seconds=None, first=60.0, longest=60.0, give_up=give_up)
    assert time.monotonic() - began < 5.0


def test_patience_says_once_that_it_waits_and_once_that_it_is_over() -> None:
    said: list[str] = []
    server = Server(UnavailableError("S3 is away"), UnavailableError("S3 is away"))
    patiently(server, seconds=5.0, what="the checkpoint of step 20", say=said.append, pause_seconds=0.01)
    assert said == ["the checkpoint of step 20 waits: S3 is away", "the checkpoint of step 20 is on its way again"]
    patiently(Server(), seconds=5.0, what="the next one", say=said.append)
    assert len(said) == 2
