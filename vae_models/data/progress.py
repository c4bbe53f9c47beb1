"""Progress of downloads on standard error: one line, rewritten, on a terminal; a line every ten seconds elsewhere."""

from __future__ import annotations

import sys
import time
from typing import TextIO

from vae_models.data.fetch import Download

_QUIET_SECONDS = 1.0  # a download that is over by then is not worth a line


class StderrProgress:
    def __init__(self, stream: TextIO | None = None) -> None:
        self._stream = stream if stream is not None else sys.stderr
        self._began: dict[str, float] = {}
        self._told: dict[str, float] = {}

    def __call__(self, download: Download) -> None:
        now = time.monotonic()
        began = self._began.setdefault(download.name, now)
        terminal = self._stream.isatty()
        over = download.total_bytes is not None and download.done_bytes >= download.total_bytes
        due = now - self._told.get(download.name, -60.0) >= (0.2 if terminal else 10.0)
        if now - began < _QUIET_SECONDS or not (due or over):
            return
        self._told[download.name] = now
        end = "\n" if over or not terminal else ""
        self._stream.write(("\r\x1b[K" if terminal else "") + describe(download) + end)
        self._stream.flush()


def describe(download: Download) -> str:
    """Return, for example, `train-images-idx3-ubyte.gz  4.2 of 9.9 MB  1.3 MB/s  5 s left`."""
    total = f" of {download.total_bytes / 1e6:.1f}" if download.total_bytes is not None else ""
    left = f"  {download.seconds_left:.0f} s left" if download.seconds_left is not None else ""
    return (
        f"{download.name}  {download.done_bytes / 1e6:.1f}{total} MB  {download.bytes_per_second / 1e6:.1f} MB/s{left}"
    )
