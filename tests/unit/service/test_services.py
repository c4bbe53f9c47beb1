"""Specs are read by few threads at once, and what follows holds nobody up."""

from __future__ import annotations

import asyncio
import threading
from typing import Any, cast

import pytest

from service import services
from service.errors import UnavailableError, UsageError
from service.services import Services


def made() -> Services:
    """Services with places for reading, without all else."""
    absent = cast(Any, None)
    return Services(
        settings=absent, store=absent, secret=b"", key=absent, slow=absent, resolving=asyncio.Semaphore(1),
        logging_in=absent, signing_in=None,
    )  # fmt: skip


def test_what_follows_a_spec_leaves_the_place_to_the_next() -> None:
    go_on = threading.Event()

    def wait(spec: str) -> str:
        assert go_on.wait(10)
        return f"{spec} put"

    async def main() -> list[str]:
        of = made()
        first = asyncio.ensure_future(of.read_specs_then(lambda: "first", wait))
        second = await of.read_specs_then(lambda: "second", lambda spec: f"{spec} put")
        assert not first.done()
        go_on.set()
        return [await first, second]

    assert asyncio.run(main()) == ["first put", "second put"]


def test_a_spec_that_is_read_too_late_is_not_put(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever was told to send it again would have two."""
    monkeypatch.setattr(services, "RESOLVE_SECONDS", 0.05)
    go_on = threading.Event()
    put: list[str] = []

    def read() -> str:
        assert go_on.wait(10)
        return "late"

    async def main() -> None:
        of = made()
        with pytest.raises(UnavailableError, match="send it again"):
            await of.read_specs_then(read, put.append)
        assert of.resolving.locked()  # the thread goes on
        go_on.set()
        monkeypatch.setattr(services, "RESOLVE_SECONDS", 10.0)
        await of.read_specs_then(lambda: "next", put.append)

    asyncio.run(main())
    assert put == ["next"]


def test_a_mistake_in_a_spec_is_told_and_frees_the_place() -> None:
    def read() -> str:
        raise UsageError("train.steps: wrong")

    async def main() -> str:
        of = made()
        with pytest.raises(UsageError, match=r"train\.steps"):
            await of.read_specs_then(read, lambda spec: spec)
        return await of.read_specs_then(lambda: "next", lambda spec: spec)

    assert asyncio.run(main()) == "next"
