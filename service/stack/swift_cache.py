"""What Swift's proxy knows about accounts and buckets, kept in its own process.

Without a cache the proxy asks the account's and the container's server before every request. Swift's own `cache` filter
needs a memcached server; the embedded stack has one proxy process, so a dictionary does. The proxy itself forgets what
a request through it changes, and its times to live bound the rest.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterable, Mapping
from typing import Any

MOST = 10_000  # keys; one more, and all are forgotten
Wsgi = Callable[[dict[str, Any], Any], Iterable[bytes]]


class ProcessCache:
    """The part of `swift.common.memcached.MemcacheRing` that the filters of our pipeline use.

    Values go through JSON, as they would there: who has one cannot change another's.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._kept: dict[str, tuple[float, str]] = {}  # key -> (until when, JSON)

    def set(self, key: str, value: Any, *, time: float = 0, **_: Any) -> None:
        """Keep the value for `time` seconds; 0: until it is deleted."""
        if len(self._kept) >= MOST:
            self._kept.clear()
        self._kept[key] = (self._clock() + time if time else float("inf"), json.dumps(value))

    def get(self, key: str, **_: Any) -> Any:
        """Return the value; None if it is not kept, or no longer."""
        until, text = self._kept.get(key, (0.0, ""))
        if self._clock() < until:
            return json.loads(text)
        self._kept.pop(key, None)
        return None

    def delete(self, key: str, **_: Any) -> None:
        self._kept.pop(key, None)


def filter_factory(global_conf: Mapping[str, str], **local_conf: str) -> Callable[[Wsgi], Wsgi]:
    """Return the filter for `paste.filter_factory`: requests find the cache where Swift looks for it."""
    cache = ProcessCache()

    def filtered(app: Wsgi) -> Wsgi:
        def answer(environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
            environ["swift.cache"] = cache
            return app(environ, start_response)

        return answer

    return filtered
