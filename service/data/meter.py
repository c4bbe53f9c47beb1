"""How far files are on their way between this machine and the bucket."""

from __future__ import annotations

import threading
import time

from vae_models.data.fetch import Download, ProgressCallback


class Meter:
    """Bytes that came, of all threads, told with the rate and the time that is left."""

    def __init__(self, name: str, total: int, report: ProgressCallback, there: int = 0) -> None:
        self._name, self._total, self._report, self._there = name, total, report, there
        self._moved = 0
        self._began = time.monotonic()
        self._lock = threading.Lock()

    def add(self, count: int) -> None:
        """Count bytes; a negative number takes those back that have to move again."""
        with self._lock:
            self._moved += count
            rate = self._moved / max(time.monotonic() - self._began, 1e-3)
            left = self._total - self._there - self._moved
            told = Download(
                name=self._name,
                url="",
                done_bytes=self._there + self._moved,
                total_bytes=self._total,
                bytes_per_second=rate,
                seconds_left=left / rate if rate > 0 else None,
            )
            self._report(told)
