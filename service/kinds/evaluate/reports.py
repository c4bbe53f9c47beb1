"""What the first worker of an evaluation tells others: its findings MLflow, how far it is the API, which may cancel."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from service.attempt import reporting
from service.attempt.assignment import Assignment
from service.attempt.reporting import Place
from service.errors import FencedError, NotFoundError, VaesvcError
from service.kinds.evaluate import metrics
from service.kinds.evaluate.storage import keep_picture
from service.wire import ProgressReport
from vae_models.training.errors import Fenced

if TYPE_CHECKING:
    from service.artifacts import Artifacts
    from service.kinds.evaluate.pace import Standing
    from vae_models.evaluation.findings import Findings

_REPORT_SECONDS = 1.0
_API_PATIENCE_SECONDS = 60.0  # for the last report
_MLFLOW_SECONDS = 20.0  # for the last values; what is left is delivered by the dispatcher
_HURRIED_SECONDS = 2.0  # the same, when the attempt is about to be ended


class EvaluationReports:
    """The reports of one attempt, by its first worker. step: of the checkpoint that is evaluated."""

    def __init__(self, order: Assignment, artifacts: Artifacts, scratch: Path, place: Place, *, step: int, split: str):
        """Begin to report."""
        self.cancelled = order.context.job.state.value == "CANCELLING"
        self.notes: list[str] = []
        self._order = order
        self._artifacts = artifacts
        self._step = step
        self._split = split
        self._standing: Standing | None = None
        self._fenced: str | None = None
        self._pictures: dict[str, str] = {}
        self._writer = reporting.open_writer(order, scratch / "spool.jsonl")
        self._monitor = reporting.monitor(order, self._writer, place)
        self._client = order.access.client(retry_seconds=0)
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._report, name="progress", daemon=True)
        self._thread.start()

    def note(self, text: str) -> None:
        """Write a line to the attempt's log, and into its result."""
        print(f"[vaesvc] {text}", flush=True)  # noqa: T201
        self.notes.append(text)

    def show(self, standing: Standing) -> None:
        """Take note of how far it is."""
        self._standing = standing

    def stop_requested(self) -> bool:
        """Return whether this attempt shall end: it gives way, or its job is being cancelled. Raise Fenced where
        another attempt has taken over."""
        self.check()
        return self.cancelled

    def check(self) -> None:
        """Raise Fenced where another attempt has taken over."""
        if self._fenced is not None:
            raise Fenced(self._fenced)

    def log_findings(self, key: str, findings: Findings) -> None:
        """Log an evaluator's findings to the job's run, and keep its pictures."""
        said = metrics.of(self._split, findings.plain()["values"])
        print(f"[vaesvc] {key}  " + "  ".join(f"{k} {v:.6g}" for k, v in said.items()), flush=True)  # noqa: T201
        if self._writer is not None and said:
            self._writer.log_metrics(self._step, said)
        for picture in findings.pictures:
            if self._writer is not None:
                self._writer.log_picture(self._step, metrics.picture(self._split, picture.name), picture.png)
            self._pictures |= keep_picture(self._artifacts, self._order.access.job_id, picture)

    def close(self) -> dict[str, Any]:
        """Deliver the rest; return what the result holds of it."""
        self._deliver()
        self._end.set()
        self._thread.join(timeout=5.0)
        with self._order.access.client(retry_seconds=_API_PATIENCE_SECONDS) as client:
            self._report_once(client)
        return {"run_id": self._run_id, "pictures": self._pictures, "notes": self.notes}

    def abandon(self) -> None:
        """Deliver, after an error, what there is, for a short time."""
        with contextlib.suppress(VaesvcError):
            self._deliver()
        self._end.set()

    @property
    def _run_id(self) -> str | None:
        return None if self._writer is None else self._writer.run_id

    def _deliver(self) -> None:
        if self._monitor is not None:
            self._monitor.close()
        seconds = _HURRIED_SECONDS if self.cancelled else _MLFLOW_SECONDS
        reporting.deliver(self._order, self._artifacts, self._writer, seconds)

    def _report(self) -> None:
        """Report every second; the reply says whether to stop. An API that is away concerns the parent."""
        while self._fenced is None and not self._end.wait(_REPORT_SECONDS):
            self._report_once(self._client)

    def _report_once(self, client: Any) -> None:
        known: Mapping[str, Any] = self._order.context.job.progress  # an earlier attempt's, until there is some
        progress = dict(known) if self._standing is None else asdict(self._standing) | {"at": time.time()}
        try:
            reply = client.progress(ProgressReport(progress=progress, run_id=self._run_id))
            self.cancelled = reply.cancel or self.cancelled
        except (FencedError, NotFoundError) as error:
            self._fenced = str(error)
        except VaesvcError:
            return
