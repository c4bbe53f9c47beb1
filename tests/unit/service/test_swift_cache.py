"""The S3 server's cache does what its proxy asks of a memcached server."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.stack import swift_cache
from service.stack.swift_cache import ProcessCache

KEYS = st.sampled_from("abc")
DEEDS = st.one_of(
    st.tuples(st.just("set"), KEYS, st.tuples(st.integers(0, 9), st.sampled_from([0, 1, 5, 60]))),
    st.tuples(st.just("delete"), KEYS, st.none()),
    st.tuples(st.just("wait"), st.none(), st.integers(1, 10)),
)


@given(st.lists(DEEDS, max_size=40))
def test_a_value_is_there_until_its_time_is_over_or_it_is_deleted(deeds: list[tuple[str, str, Any]]) -> None:
    now = [0.0]
    cache, expected = ProcessCache(lambda: now[0]), {}
    for deed, key, what in deeds:
        if deed == "set":
            value, seconds = what
            cache.set(key, {"status": value}, time=seconds, raise_on_error=True)
            expected[key] = (value, now[0] + seconds if seconds else float("inf"))
        elif deed == "delete":
            cache.delete(key)
            expected.pop(key, None)
        else:
            now[0] += what
        for name in "abc":
            value, until = expected.get(name, (None, 0.0))
            assert cache.get(name) == ({"status": value} if now[0] < until else None)


def test_a_reader_changes_nobody_elses_value() -> None:
    cache, value = ProcessCache(), {"bytes": 1}
    cache.set("a", value, time=60)
    value["bytes"] = 2
    cache.get("a")["bytes"] = 3
    assert cache.get("a") == {"bytes": 1}


def test_it_does_not_grow_without_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(swift_cache, "MOST", 3)
    cache = ProcessCache()
    for number in range(10):
        cache.set(str(number), number)
    assert len(cache._kept) <= 3
    assert cache.get("9") == 9
