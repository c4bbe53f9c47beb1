"""An attempt's log: a local file that grows, echoed as it grows and copied to storage every few seconds."""

from __future__ import annotations

import contextlib
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO

_LOOK_SECONDS = 0.5
_SHIP_SECONDS = 3.0
_SECONDS_PER_MIB = 1.0  # S3 objects cannot grow: a long log is copied whole, so it is copied less often


class LogShipper:
    """Copies the file at `path` to wherever `upload` puts its bytes; what failed is tried again at the next turn."""

    def __init__(
        self,
        path: Path,
        upload: Callable[[bytes], None],
        *,
        echo: BinaryIO | None = None,
        ship_seconds: float = _SHIP_SECONDS,
    ) -> None:
        """Prepare the shipping. upload: may take its time and may raise; it is called from one thread at a time."""
        self._path = path
        self._upload = upload
        self._echo = echo
        self._ship_seconds = ship_seconds
        self._echoed = 0
        self._shipped = 0  # bytes
        self._next_ship = 0.0
        self._failed = False
        self._end = threading.Event()
        self._lock = threading.Lock()
        self._thread = threading.Thread(target=self._run, name="log", daemon=True)
        path.touch()

    def start(self) -> None:
        self._thread.start()

    def note(self, text: str) -> None:
        """Write a line of the runner itself, among the child's."""
        with self._path.open("a") as file:
            file.write(f"[vaesvc] {text}\n")

    def tail(self, lines: int) -> str:
        """Return the last lines that are not empty."""
        with contextlib.suppress(OSError):
            written = [line for line in self._path.read_text(errors="replace").splitlines() if line.strip()]
            return "\n".join(written[-lines:])
        return ""

    def close(self, timeout_seconds: float) -> bool:
        """End the echo and ship what is left. Returns False when storage does not have it all."""
        self._end.set()
        self._thread.join(timeout_seconds)
        if self._thread.is_alive():
            return False
        return self._shipped == self._path.stat().st_size

    def _run(self) -> None:
        while not self._end.wait(_LOOK_SECONDS):
            self._copy()
            if time.monotonic() >= self._next_ship:
                self._ship()
        self._copy()
        self._ship()

    def _copy(self) -> None:
        if self._echo is None:
            return
        with contextlib.suppress(OSError), self._path.open("rb") as file:
            file.seek(self._echoed)
            data = file.read()
            self._echoed += len(data)
            self._echo.write(data)
            self._echo.flush()

    def _ship(self) -> None:
        data = self._path.read_bytes()
        if len(data) == self._shipped:
            return
        try:
            self._upload(data)
        except Exception as error:
            if not self._failed:
                print(f"[vaesvc] the log is not kept yet: {error}", file=sys.stderr, flush=True)  # noqa: T201
            self._failed = True
        else:
            self._failed = False
            self._shipped = len(data)
        self._next_ship = time.monotonic() + self._ship_seconds + _SECONDS_PER_MIB * len(data) / 2**20
