"""Work in several processes, with a bounded number of tasks on the way: memory does not grow with the source."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from typing import Any, TypeVar

from vae_models.data.errors import DataError

T = TypeVar("T")
R = TypeVar("R")

_WAITING = 3  # tasks on the way for each process
_WATCH_SECONDS = 0.5


def unordered(work: Callable[[T], R], tasks: Iterable[T], processes: int) -> Iterator[R]:
    """Yield `work` of every task as it is done, in no order; in this process where `processes` is 1.

    Tasks are taken from `tasks` as there is room. `work` is inherited by the processes where they are forked, else
    pickled. Raise what `work` raises, and `DataError` where a process was killed. The processes are ended in every
    case.
    """
    if processes <= 1:
        for task in tasks:
            yield work(task)
        return
    # a fork copies a process in the middle of what its other threads do; where there are any, begin from nothing
    context = multiprocessing.get_context("fork" if threading.active_count() == 1 else "spawn")
    pool = ProcessPoolExecutor(processes, mp_context=context, initializer=_begin, initargs=(work, os.getpid()))
    on_the_way: set[Future[Any]] = set()
    try:
        for task in tasks:
            on_the_way.add(pool.submit(_work, task))
            if len(on_the_way) >= _WAITING * processes:
                done, on_the_way = wait(on_the_way, return_when=FIRST_COMPLETED)
                yield from (future.result() for future in done)
        while on_the_way:
            done, on_the_way = wait(on_the_way, return_when=FIRST_COMPLETED)
            yield from (future.result() for future in done)
    except BrokenProcessPool as error:
        raise DataError(
            "a process that decodes was killed, probably for memory: try again with one (--workers 1); a script that "
            "has other threads must begin with `if __name__ == '__main__':`"
        ) from error
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


_WORK: Callable[[Any], Any] | None = None


def _begin(work: Callable[[Any], Any], parent: int) -> None:
    global _WORK
    _WORK = work
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's, which ends its processes
    threading.Thread(target=_end_with, args=(parent,), daemon=True).start()


def _end_with(parent: int) -> None:
    """End this process when its parent was killed, maybe before it began: nothing would give it work, or end it."""
    while os.getppid() == parent:
        time.sleep(_WATCH_SECONDS)
    os._exit(1)


def _work(task: Any) -> Any:
    assert _WORK is not None
    return _WORK(task)
