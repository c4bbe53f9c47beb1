"""A run's processes: the first rank's checkpoints go to S3, its progress to the API, its metrics to MLflow."""

from __future__ import annotations

import contextlib
import math
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from service.attempt import reporting
from service.attempt.assignment import Assignment
from service.attempt.context import Copies, WorkerContext, own_folder
from service.attempt.pulse import Heart
from service.attempt.reporting import NodeReport, Place
from service.attempt.uploads import CheckpointUploads, Ready
from service.errors import FencedError, NotFoundError, VaesvcError
from service.queue.jobs import Checkpoint
from service.wire import ProgressReport
from vae_models.measures import Goal, is_evaluation
from vae_models.records import Progress
from vae_models.training.errors import Fenced

if TYPE_CHECKING:
    from service.artifacts import Artifacts
    from service.client import AttemptClient
    from service.specs.trained import TrainedModel

_REPORT_SECONDS = 1.0
_NARRATE_SECONDS = 5.0
_API_PATIENCE_SECONDS = 60.0  # for what must be known before training starts
_CLOSE_SECONDS = 900.0  # for the last checkpoint
_HURRIED_SECONDS = 2.0  # the same, when the attempt is about to be ended
_MLFLOW_SECONDS = 20.0  # for the last metrics; what is left is delivered by the dispatcher


class RunProcess:
    """One worker process of a run: its `context` for the loop, and how it ends."""

    def __init__(
        self,
        order: Assignment,
        *,
        rank: int,
        world_size: int,
        device: torch.device,
        scratch: Path,
        goal: Goal,
        place: Place = reporting.HERE,
        weights: TrainedModel | None = None,
    ) -> None:
        """Prepare this rank. scratch: a folder on this machine, the same for all ranks on it, which goes when the Ray
        session goes. goal: by which its best checkpoint is chosen. weights: of a trained model, to start with."""
        self.artifacts: Artifacts = order.artifacts(patience_seconds=90.0)
        own = own_folder(scratch / f"rank-{rank}")
        self._copies = Copies(self.artifacts, scratch / "resume")
        self.reports: RunReports | None = None
        self._node: NodeReport | None = None
        if rank == 0:
            self.reports = RunReports(order, goal, self.artifacts, own, place)
        elif place.node != 0 and place.local_rank == 0:
            self._node = NodeReport(order, self.artifacts, own, place)
        self.context = WorkerContext(
            rank=rank, world_size=world_size, device=device, scratch=own, copies=self._copies, reports=self.reports,
            weights=weights,
        )  # fmt: skip

    def close(self) -> dict[str, Any]:
        """Wait for the last checkpoint, then the last metrics. Return what the result holds of the run; {} off rank
        0."""
        self._copies.clear()
        if self._node is not None:
            self._node.close()
        if self.reports is None:
            return {}
        try:
            return self.reports.close()
        except FencedError as error:
            raise Fenced(str(error)) from error

    def abandon(self) -> None:
        """Deliver, after an error, the metrics that led to it; checkpoints are not waited for."""
        if self.reports is not None:
            self.reports.abandon()
        if self._node is not None:
            self._node.close()


class RunReports:
    """What only rank 0 has: uploads, metrics, progress, and the check for a cancel."""

    def __init__(self, order: Assignment, goal: Goal, artifacts: Artifacts, scratch: Path, place: Place) -> None:
        self.latest: Progress | None = None
        self.cancelled = order.context.job.state.value == "CANCELLING"
        self.notes: list[str] = []
        self.timings: dict[str, float] = {}  # seconds since 1970
        self.pictures: dict[str, bytes] = {}  # the newest of each name
        self.writer = reporting.open_writer(order, scratch / "spool.jsonl")
        self._monitor = reporting.monitor(order, self.writer, place)
        self._narrated_at = -_NARRATE_SECONDS
        self._order = order
        self._artifacts = artifacts
        self._client = order.access.client(retry_seconds=_API_PATIENCE_SECONDS)
        self._reports = order.access.client(retry_seconds=0)
        self._fenced: str | None = None
        self._pulse = Heart()
        self._told = False
        self._delivered = False
        self._end = threading.Event()
        self.uploads = CheckpointUploads(
            artifacts,
            self._client,
            job_id=order.access.job_id,
            number=order.access.number,
            goal=goal,
            say=self.note,
        )
        self._thread = threading.Thread(target=self._report, name="progress", daemon=True)
        self._thread.start()

    @property
    def run_id(self) -> str | None:
        return None if self.writer is None else self.writer.run_id

    # --- Reports ----------------------------------------------------------------------------------------------------

    def candidates(self) -> Sequence[Checkpoint]:
        with self._order.access.client(retry_seconds=_API_PATIENCE_SECONDS) as client:
            try:
                return client.checkpoints()
            except FencedError as error:
                raise Fenced(str(error)) from error

    def resumed(self, chosen: Checkpoint) -> None:
        print(f"[vaesvc] going on from step {chosen.step} ({chosen.uri})", flush=True)  # noqa: T201

    def note(self, text: str) -> None:
        """Write a line to the attempt's log, and into its result."""
        print(f"[vaesvc] {text}", flush=True)  # noqa: T201
        self.notes.append(text)

    def log_metrics(self, step: int, metrics: Mapping[str, float]) -> None:
        self._narrate(step, metrics)
        if self.writer is not None:
            self.writer.log_metrics(step, metrics)

    def log_picture(self, step: int, name: str, png: bytes) -> None:
        if self.writer is not None:
            self.writer.log_picture(step, name, png)
        self.pictures[name] = png

    def progress(self, progress: Progress) -> None:
        self.timings.setdefault("first_progress", time.time())
        self.latest = progress
        self._pulse.beat()
        self._check()

    def save_checkpoint(self, step: int, directory: Path, metrics: Mapping[str, float]) -> None:
        self._check()
        try:
            self.uploads.add(Ready(step=step, directory=directory, metrics=metrics))
        except FencedError as error:
            raise Fenced(str(error)) from error

    def stop_requested(self) -> bool:
        self._check()
        return self.cancelled

    # --- the end ----------------------------------------------------------------------------------------------------

    def close(self) -> dict[str, Any]:
        self._pulse.rest()
        self.uploads.close(_CLOSE_SECONDS)
        pictures = self._keep_pictures()
        self._deliver()
        self._end.set()
        self._thread.join(timeout=5.0)
        self._report_once(self._client)  # the last step, and the run's id where the run was short
        return {"run_id": self.run_id, "pictures": pictures, "notes": self.notes, "timings": self.timings}

    def abandon(self) -> None:
        self._pulse.rest()
        with contextlib.suppress(VaesvcError):
            self._deliver()
        self._end.set()
        self._report_once(self._reports)  # where the metrics that led to the error are

    # --- inside -----------------------------------------------------------------------------------------------------

    def _check(self) -> None:
        """Raise Fenced when a newer attempt exists, and the error of a failed upload."""
        if self._fenced is not None:
            raise Fenced(self._fenced)
        try:
            self.uploads.check()
        except FencedError as error:
            raise Fenced(str(error)) from error

    def _narrate(self, step: int, metrics: Mapping[str, float]) -> None:
        """Log every evaluation, and training every few seconds, to the attempt's log: nats per datum."""
        now = time.monotonic()
        evaluated = any(is_evaluation(name) for name in metrics)
        if evaluated or now - self._narrated_at >= _NARRATE_SECONDS:
            self._narrated_at = now
            print(f"step {step:,}  " + "  ".join(f"{k} {v:.6g}" for k, v in metrics.items()), flush=True)  # noqa: T201

    def _deliver(self) -> None:
        """Deliver the metrics to MLflow, once."""
        if self._delivered:
            return
        self._delivered = True
        if self._monitor is not None:
            self._monitor.close()
        seconds = _HURRIED_SECONDS if self.cancelled else _MLFLOW_SECONDS
        reporting.deliver(self._order, self._artifacts, self.writer, seconds)

    def _keep_pictures(self) -> dict[str, str]:
        """Return name -> address of the newest picture of that name."""
        kept = {}
        for name, png in self.pictures.items():
            uri = self._artifacts.uri("pictures", self._order.access.job_id, f"{name}.png")
            self._artifacts.put_bytes(uri, png, "image/png")
            kept[name] = uri
        return kept

    def _report(self) -> None:
        """Report every second; the reply says whether to stop. An API that is away concerns the parent: it has the
        lease."""
        while self._fenced is None and not self._end.wait(_REPORT_SECONDS):
            self._report_once(self._reports)

    def _report_once(self, client: AttemptClient) -> None:
        if self.latest is None and self.run_id is None and self._told:
            return  # once all the same: a gang that was started again is not watched by what the one before said
        known = self._order.context.job.progress  # an earlier attempt's, until this one has some
        progress = known if self.latest is None else _finite(asdict(self.latest))
        report = ProgressReport(progress=progress, run_id=self.run_id, pulse=self._pulse.read())
        try:
            self.cancelled = client.progress(report).cancel or self.cancelled
            self._told = True
        except (FencedError, NotFoundError) as error:
            self._fenced = str(error)
        except VaesvcError:
            return


def _finite(progress: dict[str, Any]) -> dict[str, Any]:
    """Return the progress with None for NaN and infinities: JSON has no word for them."""

    def clean(value: Any) -> Any:
        return None if isinstance(value, float) and not math.isfinite(value) else value

    metrics = {name: clean(value) for name, value in progress["metrics"].items()}
    return {name: clean(value) for name, value in progress.items()} | {"metrics": metrics}
