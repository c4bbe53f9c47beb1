"""Which nodes of the cluster are being drained, as far as it is known: what `drain_watch`, in a process, said last.

Where Ray cannot be asked (another version, its port closed to us) nothing is taken to be drained, which is said once; a
node that goes then is found when it is gone, and costs its attempts what they did since their last checkpoints.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import subprocess
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

log = logging.getLogger("vaesvc.dispatcher")

WATCH = (sys.executable, "-P", "-m", "service.dispatch.drain_watch")
_SILENT_SECONDS = 60.0  # a process that has said nothing for so long hangs; it needs 40 to find no GCS
_KEPT_SECONDS = 60.0  # what it said last is believed so long: a node that is drained stays so
_AGAIN_SECONDS = 30.0  # after its end, before another one is started
_END_SECONDS = 5.0
_HEARD_SECONDS = 1.0


class DrainNotices:
    """Starts the process when it is first asked, and again when it has ended. Never waits for it."""

    def __init__(self, address: str, token_file: Path | None, command: Sequence[str] = WATCH) -> None:
        """address: of the GCS, HOST:PORT. token_file: of the cluster's token, None if it has none."""
        self._address = address
        self._token_file = token_file
        self._command = tuple(command)
        self._process: subprocess.Popen[str] | None = None
        self._heard: tuple[float, Mapping[str, float | None]] = (-_KEPT_SECONDS, {})  # when, and what
        self._hearing = threading.Thread()
        self._started = 0.0
        self._next = 0.0  # when a process may be started; never again: infinity
        self._error: tuple[str, bool] | None = None  # what the process said is wrong, and whether that lasts
        self._warned = False

    def read(self) -> Mapping[str, float | None]:
        """Return the deadline of each node that is being drained, seconds since 1970, None where there is none, by
        Ray's id. To be called from the main thread."""
        wrong = self._wrong()
        if wrong is not None:
            self.close()
            lasting = self._error is not None and self._error[1]
            self._next = float("inf") if lasting else time.monotonic() + _AGAIN_SECONDS
            if not self._warned:
                trying = "" if lasting else " (trying on)"
                log.warning("which nodes are drained is not known, Ray's GCS at %s: %s%s", self._address, wrong, trying)
            self._warned = True
        elif self._process is None and time.monotonic() >= self._next:
            self._start()
        elif self._warned and self._heard[0] > self._started:
            log.info("which nodes are drained is known again")
            self._warned = False
        at, draining = self._heard
        return draining if time.monotonic() < at + _KEPT_SECONDS else {}

    def close(self) -> None:
        """End the process."""
        if self._process is not None:
            self._process.kill()
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(_END_SECONDS)
            self._process = None

    def _wrong(self) -> str | None:
        """Return why the process that there is does not serve any more: it has ended, or hangs."""
        if self._process is None:
            return None
        if (code := self._process.poll()) is not None:
            self._hearing.join(_HEARD_SECONDS)  # for its last words
            return self._error[0] if self._error else f"the process that asks has ended (exit code {code})"
        silent = time.monotonic() > max(self._started, self._heard[0]) + _SILENT_SECONDS
        return f"the process that asks has said nothing for {_SILENT_SECONDS:.0f} s" if silent else None

    def _start(self) -> None:
        environment = dict(os.environ)
        if self._token_file is not None:
            environment |= {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN_PATH": str(self._token_file)}
        self._error, self._started = None, time.monotonic()
        self._process = subprocess.Popen(
            (*self._command, str(os.getpid()), self._address), env=environment, text=True,
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        self._hearing = threading.Thread(target=self._hear, args=(self._process,), name="drain notices", daemon=True)
        self._hearing.start()

    def _hear(self, process: subprocess.Popen[str]) -> None:
        assert process.stdout is not None
        for line in process.stdout:
            with contextlib.suppress(ValueError, TypeError, AttributeError):  # another library's line
                said = json.loads(line)
                if "draining" in said:
                    draining = {node: at / 1000 if at else None for node, at in said["draining"].items()}
                    self._heard = (time.monotonic(), draining)
                elif "error" in said:
                    self._error = (str(said["error"]), bool(said.get("lasting")))
