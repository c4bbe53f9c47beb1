"""Asking about once a second, all workers together, without a message per step."""

from __future__ import annotations

import time
from collections.abc import Callable

import torch

from vae_models.collectives import broadcast_integers, rank

POLL_SECONDS = 1.0


class Poller:
    """Counts ticks (steps, batches); after enough of them rank 0 asks, and tells all the answer and the next distance.

    The distance, in ticks, is what took `POLL_SECONDS` so far, and at most doubles, so a fast start is not trusted.
    """

    def __init__(
        self,
        ask: Callable[[], bool],
        device: torch.device,
        *,
        seconds: float = POLL_SECONDS,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._ask = ask
        self._device = device
        self._seconds = seconds
        self._clock = clock
        self._asked_at = clock()
        self._distance = 1
        self._left = 1
        self.stopped = False

    def tick(self) -> bool:
        """Return true on every worker at the same tick, once rank 0 has been requested to stop."""
        self._left -= 1
        if self._left <= 0 and not self.stopped:
            stop, self._distance = broadcast_integers(self._decide() if rank() == 0 else [0, 0], self._device)
            self._left = self._distance
            self.stopped = bool(stop)
        return self.stopped

    def _decide(self) -> list[int]:
        now = self._clock()
        per_tick = max(now - self._asked_at, 1e-9) / self._distance
        self._asked_at = now
        distance = max(1, min(2 * self._distance, int(self._seconds / per_tick)))
        return [int(self._ask()), distance]
