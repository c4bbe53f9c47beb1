"""Checkpoints on their way to storage: in the background, one at a time, data first, manifest last, then the commit.

Training never waits for an upload. While storage is away, at most two wait beside the one that is tried: the newest,
and the best of those that would otherwise be dropped. What is not committed is not a checkpoint.
"""

from __future__ import annotations

import contextlib
import math
import shutil
import threading
import time
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from service.errors import FencedError, StorageError, UnavailableError, VaesvcError
from service.queue.jobs import Checkpoint
from service.retry import patiently
from vae_models.measures import Goal

if TYPE_CHECKING:
    from service.artifacts import Artifacts
    from service.client import AttemptClient

T = TypeVar("T")

PATIENCE_SECONDS = 900.0  # storage or API may be away this long before the attempt fails


@dataclass(frozen=True, kw_only=True)
class Ready:
    """A complete checkpoint on this machine."""

    step: int
    directory: Path
    metrics: Mapping[str, float]


class CheckpointUploads:
    """The uploads of a run's checkpoints. goal: the spec's, to know which of two waiting ones is better."""

    def __init__(
        self,
        artifacts: Artifacts,
        client: AttemptClient,
        *,
        job_id: str,
        number: int,
        goal: Goal,
        say: Callable[[str], None],
        patience_seconds: float = PATIENCE_SECONDS,
    ) -> None:
        self._artifacts = artifacts
        self._client = client
        self._job_id = job_id
        self._number = number
        self._goal = goal
        self._say = say
        self._patience = patience_seconds
        self._waiting: list[Ready] = []
        self._given_up: list[str] = []  # addresses that retention gave up and that are not deleted yet
        self._changed = threading.Condition()
        self._busy = False
        self._closing = False
        self._error: VaesvcError | None = None
        self.last: Checkpoint | None = None  # committed here
        self._thread = threading.Thread(target=self._run, name="uploads", daemon=True)
        self._thread.start()

    def add(self, ready: Ready) -> None:
        """Take over the directory; return at once. Raises the error of an earlier upload that failed."""
        self.check()
        with self._changed:
            self._waiting = self._trim([*self._waiting, ready])
            self._changed.notify_all()

    def check(self) -> None:
        """Raise FencedError, or the error of an upload that was given up."""
        if self._error is not None:
            raise self._error

    def close(self, timeout_seconds: float) -> None:
        """Wait until everything is committed. Raises what prevented it."""
        deadline = time.monotonic() + timeout_seconds
        with self._changed:
            self._closing = True
            self._changed.notify_all()
            while (self._waiting or self._busy) and self._error is None:
                if not self._changed.wait(max(0.0, deadline - time.monotonic())) and time.monotonic() >= deadline:
                    raise UnavailableError(
                        f"the last checkpoint could not be stored within {timeout_seconds:.0f} s; "
                        "the next attempt goes on from the one before"
                    )
        self._thread.join(timeout=5.0)
        self.check()

    def _trim(self, waiting: list[Ready]) -> list[Ready]:
        """Return the newest, and the best of the others; delete the rest."""
        if len(waiting) <= 2:
            return waiting
        best = max(waiting[:-1], key=lambda ready: (self._score(ready), ready.step))
        for ready in waiting[:-1]:
            if ready is not best:
                shutil.rmtree(ready.directory, ignore_errors=True)
        return [best, waiting[-1]]

    def _score(self, ready: Ready) -> float:
        return self._goal.score(ready.metrics.get(self._goal.metric))

    def _run(self) -> None:
        while True:
            with self._changed:
                while not self._waiting and not self._closing:
                    self._changed.wait()
                if not self._waiting or self._error is not None:
                    return
                ready = self._waiting.pop(0)
                self._busy = True
            error: VaesvcError | None = None
            try:
                self._store(ready)
            except VaesvcError as caught:
                error = caught
            except Exception as caught:  # never let the thread die in silence
                error = StorageError(f"the checkpoint of step {ready.step} could not be stored: {caught!r}")
            with self._changed:
                self._busy = False
                self._error = error or self._error
                self._changed.notify_all()

    def _store(self, ready: Ready) -> None:
        """Upload and commit one. Its address is its own, so two writers never mix their files in one place."""
        name = f"{self._number}-{ready.step:09d}-{uuid.uuid4().hex[:8]}"
        uri = self._artifacts.uri("checkpoints", self._job_id, name)
        stored = self._patiently(ready.step, lambda: self._artifacts.put_directory(ready.directory, uri))
        checkpoint = Checkpoint(
            attempt=self._number,
            step=ready.step,
            uri=stored.uri,
            manifest_sha256=stored.manifest_sha256,
            bytes=stored.bytes,
            metrics={name: value for name, value in ready.metrics.items() if math.isfinite(value)},
        )
        try:
            reply = self._patiently(ready.step, lambda: self._client.commit_checkpoint(checkpoint))
        except FencedError:
            with contextlib.suppress(VaesvcError):
                self._artifacts.delete_prefix(stored.uri)
            raise
        self.last = checkpoint
        shutil.rmtree(ready.directory, ignore_errors=True)
        self._given_up = [*self._given_up, *reply.delete]
        self._sweep()

    def _sweep(self) -> None:
        """Delete what retention gave up; what cannot be deleted now is tried again after the next checkpoint."""
        left = []
        for uri in self._given_up:
            try:
                self._artifacts.delete_prefix(uri)
            except VaesvcError:
                left.append(uri)
        self._given_up = left

    def _patiently(self, step: int, call: Callable[[], T]) -> T:
        return patiently(call, seconds=self._patience, what=f"the checkpoint of step {step}", say=self._say)
