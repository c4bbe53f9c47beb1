"""Batches that are read before their step asks for them, in threads, because which they are is known beforehand."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Generic, TypeVar

import numpy as np
from numpy.typing import NDArray

from vae_models.data.batching import Indices

T = TypeVar("T")
Numbers = NDArray[np.int64]
ReadBatches = Callable[[Sequence[Numbers]], list[T]]  # the data of some batches -> one thing for each batch

AHEAD = 3  # pieces of work in the line; each is several steps of small batches, or one of large ones
PIECE_BYTES = 1 << 22  # of stored values in one piece, unless one batch has more


@dataclass(frozen=True, kw_only=True)
class _Piece(Generic[T]):
    first: int  # step
    steps: int
    batches: Future[list[T | Exception]]

    def holds(self, step: int) -> bool:
        return self.first <= step < self.first + self.steps


class Prefetch(Generic[T]):
    """The batches of steps 0 .. end-1, in order, which `pool` reads by `read` ahead of their use.

    Work is handed over in pieces of several steps: a thread of Python costs its neighbours some microseconds whenever
    it begins and ends something, which a small model would feel at every step.
    """

    def __init__(
        self,
        read: ReadBatches[T],
        indices: Indices,
        rows: slice,
        *,
        end: int,
        datum_bytes: int,
        pool: ThreadPoolExecutor,
    ) -> None:
        self._read = read
        self._indices = indices
        self._rows = rows
        self._end = end
        self._datum_bytes = datum_bytes
        self._pool = pool
        self._line: deque[_Piece[T]] = deque()
        self._next = 0  # the step after the last piece in the line
        self._steps = 1  # of the next piece: it grows, so that the first batch is there soon

    def take(self, step: int) -> T:
        """Return the batch of `step`, as `read` returned it.

        Raise what `read` raised for this batch. A step that does not follow the one before starts the line anew.
        """
        while self._line and not self._line[0].holds(step):
            self._line.popleft().batches.cancel()
        if not self._line:
            self._next, self._steps = step, 1
        self._fill()
        piece = self._line[0]
        batch = piece.batches.result()[step - piece.first]
        if isinstance(batch, Exception):
            raise batch
        return batch

    def close(self) -> None:
        """Discard the queued batches."""
        while self._line:
            self._line.popleft().batches.cancel()

    def _fill(self) -> None:
        while len(self._line) < AHEAD and (self._next < self._end or not self._line):
            steps = max(1, min(self._steps, self._end - self._next))
            wanted = [self._indices(self._next + offset)[self._rows].numpy() for offset in range(steps)]
            batches = self._pool.submit(_each, self._read, wanted)
            self._line.append(_Piece(first=self._next, steps=steps, batches=batches))
            self._next += steps
            most = PIECE_BYTES // max(1, self._datum_bytes * len(wanted[0]))
            self._steps = max(1, min(2 * steps, most))


def _each(read: ReadBatches[T], wanted: list[Numbers]) -> list[T | Exception]:
    """Read all together; where that fails, each alone: an error then belongs to the batch that has the datum."""
    try:
        return list(read(wanted))
    except Exception:
        batches: list[T | Exception] = []
        for rows in wanted:
            try:
                batches += read([rows])
            except Exception as error:
                batches.append(error)
        return batches
