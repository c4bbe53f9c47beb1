"""The entry point of an attempt's Ray job: `python -m service.attempt.runner`.

A light parent and a heavy child. The parent claims the attempt, renews its lease, ships the log and reports the end;
the child (`service.attempt.driver`) imports Ray and drives the training. So a child that hangs in a collective, runs
out of memory or crashes cannot take the lease with it, and the parent can always end it.

Fencing: when the lease could not be renewed until shortly before its end, the parent kills the child's group and
exits. A new attempt starts only after the lease's end, so the two never overlap.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import sys
import threading
import uuid
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from service import __version__
from service.attempt import assignment as messages
from service.attempt.assignment import FATAL_MARK, Assignment, AttemptAccess, Outcome
from service.attempt.failures import machines_lost
from service.attempt.lease import Lease
from service.attempt.logs import LogShipper
from service.attempt.processes import Child, scratch
from service.attempt.stacks import dump
from service.code import path
from service.collector import collect_rarely
from service.errors import ConflictError, FencedError, UnavailableError, VaesvcError
from service.wire import AttemptContext, ClaimRequest

DRIVER = (sys.executable, "-P", "-m", "service.attempt.driver")
_LOOK_SECONDS = 0.1
_CLAIM_SECONDS = 120.0  # the API may be away this long before the attempt gives up
_FINISH_SECONDS = 120.0
_SHIP_SECONDS = 10.0  # for the rest of the log, at the end
_STORAGE_SECONDS = 5.0


class Runner:
    """One attempt, from claim to finish."""

    def __init__(self, access: AttemptAccess, driver: Sequence[str] = DRIVER) -> None:
        self.access = access
        self.runner_id = f"{socket.gethostname()}-{os.getpid()}-{uuid.uuid4().hex[:8]}"
        self._driver = driver
        self._terminated = threading.Event()
        self._note: Callable[[str], None] = lambda text: None  # into the attempt's log, once there is one

    def terminate(self, *_: object) -> None:
        """End the run at SIGTERM: Ray stops the job, SIGKILL follows in 3 s."""
        self._terminated.set()

    def run(self) -> int:
        """Run the attempt; return the exit code: 0 when the API knows how it ended, or that another has taken over."""
        folder = scratch(self.access.name)
        # started before the claim: it imports what it needs until its order comes
        child = Child((*self._driver, str(os.getpid())), folder / "log")
        try:
            try:
                context = self._claim()
            except FencedError as error:
                print(f"[vaesvc] nothing to do: {error}", flush=True)  # noqa: T201
                return 0
            except VaesvcError as error:
                return _fatal(str(error), retryable=not isinstance(error, ConflictError))
            return self._attempt(context, child, folder)
        finally:
            child.kill()
            _remove(folder)

    def _claim(self) -> AttemptContext:
        request = ClaimRequest(runner_id=self.runner_id, version=__version__, host=socket.gethostname())
        with self.access.client(retry_seconds=_CLAIM_SECONDS) as client:
            return client.claim(request)

    def _attempt(self, context: AttemptContext, child: Child, folder: Path) -> int:
        shipper, log_uri = self._shipper(context, folder)
        shipper.note(f"attempt {self.access.number} of job {self.access.job_id}, vaesvc {__version__}")
        shipper.start()
        self._note = shipper.note
        lease = Lease(self.access.client(retry_seconds=0), self.runner_id, context.lease_seconds, shipper.note)
        lease.start()
        order = Assignment(access=self.access, context=context, runner_id=self.runner_id, scratch=folder)
        child.give(order.model_dump_json().encode())
        try:
            outcome = self._watch(child, lease, folder, context.cancel_grace_seconds)
        finally:
            child.kill()  # what is left of its group
        if outcome is None:
            shipper.note(f"fenced: {lease.lost}; this attempt ends here")
            shipper.close(_SHIP_SECONDS)
            return 0
        outcome = self._judge(outcome, child, shipper)
        shipper.note(
            f"the attempt {outcome.outcome}" if outcome.outcome != "failed" else f"the attempt failed: {outcome.error}"
        )
        shipped = shipper.close(_SHIP_SECONDS if not self._terminated.is_set() else 1.0)
        return self._finish(outcome, log_uri if shipped else None, context.job.spec)

    def _shipper(self, context: AttemptContext, folder: Path) -> tuple[LogShipper, str]:
        from service.artifacts import Artifacts

        artifacts = Artifacts(context.storage, patience_seconds=_STORAGE_SECONDS)
        uri = artifacts.uri(*messages.log_uri_parts(self.access.job_id, self.access.number))

        def upload(data: bytes) -> None:
            artifacts.put_bytes(uri, data, "text/plain; charset=utf-8")

        return LogShipper(folder / "log", upload, echo=sys.stdout.buffer), uri

    def _watch(self, child: Child, lease: Lease, folder: Path, grace: float) -> Outcome | None:
        """Watch until the child ended or had to be. None: the lease is lost, and with it the right to report
        anything."""
        while True:
            code = child.exit_code()
            if lease.check() is not None:
                child.kill()
                return None
            asked = lease.stop_asked(grace)
            if asked is not None and lease.cancelled_for() is None:
                late, why, hangs = asked
                if hangs:
                    dump(self.access, self._note)
                if hangs or code is not None or late:
                    return _stopped(folder, why)
            if code is not None:
                said = messages.read_outcome(folder / messages.VERDICT) or messages.read_outcome(
                    folder / messages.OUTCOME
                )
                return said or _crashed(code, cancelled=lease.cancelled_for() is not None)
            verdict = messages.read_outcome(folder / messages.VERDICT)
            if verdict is not None:
                return verdict
            cancelled_for = lease.cancelled_for()
            if cancelled_for is not None and cancelled_for >= grace:
                return messages.CANCELLED
            if self._terminated.wait(_LOOK_SECONDS):
                if cancelled_for is not None:
                    return messages.CANCELLED
                return Outcome(outcome="failed", error="the attempt was stopped from outside (SIGTERM)", retryable=True)

    def _judge(self, outcome: Outcome, child: Child, shipper: LogShipper) -> Outcome:
        """Explain a crash, which reports nothing itself, by the last lines of its log."""
        if outcome.outcome != "failed" or outcome.error is not None:
            return outcome
        last = " | ".join(shipper.tail(3).splitlines())
        how = f"the driver process ended without a result (exit code {child.exit_code()})"
        said = {"error": f"{how}; its last words: {last}" if last else how, "outage": machines_lost(last)}
        return outcome.model_copy(update=said)

    def _finish(self, outcome: Outcome, log_uri: str | None, spec: Mapping[str, Any]) -> int:
        """Report the end, for a bounded time. When the API stays away the lease ends and a new attempt goes on."""
        request = outcome.request(self.runner_id, log_uri, spec)
        try:
            with self.access.client(retry_seconds=_FINISH_SECONDS) as client:
                client.finish(request)
        except FencedError as error:
            print(f"[vaesvc] nothing to report: {error}", flush=True)  # noqa: T201
        except UnavailableError as error:
            return _fatal(f"the attempt {outcome.outcome}, but this could not be reported: {error}", retryable=True)
        except VaesvcError as error:
            return _fatal(f"the attempt {outcome.outcome}, but the API refused this: {error}", retryable=True)
        return 0


def _stopped(folder: Path, why: str) -> Outcome:
    """Return the end of an attempt that was asked to end, unless it had come to its end by itself."""
    said = messages.read_outcome(folder / messages.OUTCOME)
    if said is not None and said.outcome == "succeeded":
        return said
    return Outcome(outcome="failed", error=why, retryable=True)


def _crashed(code: int, *, cancelled: bool) -> Outcome:
    if cancelled:
        return messages.CANCELLED
    if code == -signal.SIGKILL:
        return Outcome(outcome="failed", error="the driver process was killed (SIGKILL): out of memory, or by hand")
    return Outcome(outcome="failed", error=None)


def _fatal(error: str, *, retryable: bool) -> int:
    """Print the last line, for the dispatcher, when the API could not be reached; return the exit code."""
    print(FATAL_MARK + json.dumps({"error": error, "retryable": retryable}), flush=True)  # noqa: T201
    return 1


def _remove(folder: Path) -> None:
    import shutil

    with contextlib.suppress(OSError):
        shutil.rmtree(folder)


def main() -> int:
    collect_rarely()
    try:
        access = messages.access_from_environment()
    except VaesvcError as error:
        return _fatal(str(error), retryable=False)
    try:
        path.check_path()
    except VaesvcError as error:  # of this node: another may have it whole
        return _fatal(str(error), retryable=True)
    runner = Runner(access)
    signal.signal(signal.SIGTERM, runner.terminate)
    return runner.run()


if __name__ == "__main__":
    sys.exit(main())
