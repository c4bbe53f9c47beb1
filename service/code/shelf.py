"""The packages of jobs that are about to start, for the dispatcher: fetched beside its ticks, which never wait."""

from __future__ import annotations

import logging
from collections import OrderedDict
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor

from service.code.reference import CodeRef
from service.code.wheel import Wheel
from service.errors import NotFoundError, UntrustedError, VaesvcError

log = logging.getLogger("vaesvc.dispatcher")

KEPT = 8  # packages in memory
_AT_ONCE = 2


class Shelf:
    """Packages, fetched in the background. fetch: gets one from the bucket and verifies it, however long that takes."""

    def __init__(self, fetch: Callable[[CodeRef], Wheel]) -> None:
        self._fetch = fetch
        self._pool = ThreadPoolExecutor(_AT_ONCE, thread_name_prefix="code")
        self._coming: OrderedDict[CodeRef, Future[Wheel]] = OrderedDict()

    def take(self, ref: CodeRef) -> Wheel | None:
        """Return the package; None while it is being fetched, or the storage is away: ask again.

        Raises NotFoundError where it is gone and UntrustedError where it was altered: asking again is of no use.
        """
        coming = self._coming.get(ref)
        if coming is None:
            self._coming[ref] = self._pool.submit(self._fetch, ref)
            while len(self._coming) > KEPT:
                self._coming.popitem(last=False)
            return None
        if not coming.done():
            return None
        self._coming.move_to_end(ref)
        try:
            return coming.result()
        except (NotFoundError, UntrustedError):
            del self._coming[ref]
            raise
        except VaesvcError as error:
            del self._coming[ref]
            log.warning("the package %s is not fetched: %s (trying on)", ref, error)
            return None
