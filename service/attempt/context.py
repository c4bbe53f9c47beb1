"""The training loop's world inside a Ray Train worker: checkpoints to S3, progress to the API, metrics to MLflow.

Nothing here holds up a step: uploads, progress and metrics leave from threads of rank 0. The other ranks need the
checkpoint to go on from and nothing else.
"""

from __future__ import annotations

import contextlib
import fcntl
import shutil
import threading
import time
from collections.abc import Iterator, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from service.attempt import reporting
from service.attempt.assignment import Assignment
from service.attempt.reporting import NodeReport, Place
from service.attempt.uploads import CheckpointUploads, Ready
from service.directories import CorruptObjectError
from service.errors import FencedError, NotFoundError, VaesvcError
from service.kinds.train.spec import TrainSpec
from service.queue.jobs import Checkpoint
from service.wire import ProgressReport
from vae_models.collectives import broadcast_text
from vae_models.measures import ON_TRAIN
from vae_models.records import Progress
from vae_models.training import checkpoint
from vae_models.training.errors import CorruptCheckpoint, Fenced

if TYPE_CHECKING:
    from service.artifacts import Artifacts
    from service.client import AttemptClient

_REPORT_SECONDS = 1.0
_NARRATE_SECONDS = 5.0
_API_PATIENCE_SECONDS = 60.0  # for what must be known before training starts
_CLOSE_SECONDS = 900.0  # for the last checkpoint
_HURRIED_SECONDS = 2.0  # the same, when the attempt is about to be ended
_MLFLOW_SECONDS = 20.0  # for the last metrics; what is left is delivered by the dispatcher


class RemoteContext:
    """A `RunContext`. One per worker process; `start()` before the loop, `close()` after it."""

    def __init__(
        self,
        order: Assignment,
        *,
        rank: int,
        world_size: int,
        device: torch.device,
        scratch: Path,
        spec: TrainSpec,
        place: Place = reporting.HERE,
    ) -> None:
        """scratch: a folder on this machine, the same for all ranks on it, which goes when the Ray session goes."""
        from service.artifacts import Artifacts

        self.rank = rank
        self.world_size = world_size
        self.device = device
        self.scratch = scratch / f"rank-{rank}"
        self.notes: list[str] = []
        self.timings: dict[str, float] = {}  # seconds since 1970
        self._narrated_at = -_NARRATE_SECONDS
        self._order = order
        self._spec = spec
        self._resume = scratch / "resume"
        self.artifacts: Artifacts = Artifacts(order.context.storage)
        shutil.rmtree(self.scratch, ignore_errors=True)  # of a worker that was killed
        self.scratch.mkdir(parents=True)
        self._place = place
        self._first: _FirstRank | None = None
        self._node: NodeReport | None = None

    def start(self) -> None:
        if self.rank == 0:
            self._first = _FirstRank(self._order, self._spec, self.artifacts, self.scratch, self.say, self._place)
        elif self._place.node != 0 and self._place.local_rank == 0:
            self._node = NodeReport(self._order, self.artifacts, self.scratch, self._place)

    def say(self, text: str) -> None:
        """To the attempt's log, and into its result."""
        print(f"[vaesvc] {text}", flush=True)  # noqa: T201
        self.notes.append(text)

    # --- RunContext -------------------------------------------------------------------------------------------------

    def latest_checkpoint(self) -> Path | None:
        """Rank 0 chooses the newest committed checkpoint that verifies; every machine fetches that one once."""
        chosen = self._choose() if self.rank == 0 else None
        address = f"{chosen.uri} {chosen.manifest_sha256} {chosen.step}" if chosen else ""
        address = broadcast_text(address, self.device)
        if not address:
            return None
        uri, sha256, step = address.split(" ")
        path = self._fetch(uri, sha256)
        if self.rank == 0:
            print(f"[vaesvc] going on from step {step} ({uri})", flush=True)  # noqa: T201
        return path

    def log_metrics(self, step: int, metrics: Mapping[str, float]) -> None:
        self._narrate(step, metrics)
        if self._leader.writer is not None:
            self._leader.writer.log_metrics(step, metrics)

    def log_picture(self, step: int, name: str, png: bytes) -> None:
        if self._leader.writer is not None:
            self._leader.writer.log_picture(step, name, png)
        self._leader.pictures[name] = png

    def progress(self, progress: Progress) -> None:
        self.timings.setdefault("first_progress", time.time())
        self._leader.progress = progress
        self._leader.check()

    def save_checkpoint(self, step: int, directory: Path, metrics: Mapping[str, float]) -> None:
        self._leader.check()
        try:
            self._leader.uploads.add(Ready(step=step, directory=directory, metrics=metrics))
        except FencedError as error:
            raise Fenced(str(error)) from error

    def stop_requested(self) -> bool:
        self._leader.check()
        return self._leader.cancelled

    # --- the end ----------------------------------------------------------------------------------------------------

    def close(self) -> dict[str, Any]:
        """Waits for the last checkpoint, then for the last metrics. What the result says of the run; {} off rank 0."""
        shutil.rmtree(self._resume, ignore_errors=True)
        if self._node is not None:
            self._node.close()
        if self._first is None:
            return {}
        try:
            return self._first.close() | {"notes": self.notes, "timings": self.timings}
        except FencedError as error:
            raise Fenced(str(error)) from error

    def abandon(self) -> None:
        """After an error: no waiting for checkpoints, but metrics that led there are worth having."""
        if self._first is not None:
            self._first.abandon()
        if self._node is not None:
            self._node.close()

    # --- inside -----------------------------------------------------------------------------------------------------

    def _narrate(self, step: int, metrics: Mapping[str, float]) -> None:
        """The attempt's log tells every evaluation, and training every few seconds: nats per datum."""
        now = time.monotonic()
        evaluated = any(name.startswith(("val/", "test/", f"{ON_TRAIN}/")) for name in metrics)
        if evaluated or now - self._narrated_at >= _NARRATE_SECONDS:
            self._narrated_at = now
            print(f"step {step:,}  " + "  ".join(f"{k} {v:.6g}" for k, v in metrics.items()), flush=True)  # noqa: T201

    @property
    def _leader(self) -> _FirstRank:
        if self._first is None:
            raise RuntimeError(f"rank {self.rank} reports; only rank 0 does, after start()")
        return self._first

    def _choose(self) -> Checkpoint | None:
        with self._order.access.client(retry_seconds=_API_PATIENCE_SECONDS) as client:
            try:
                found = client.checkpoints()
            except FencedError as error:
                raise Fenced(str(error)) from error
        for candidate in found:
            try:
                self._fetch(candidate.uri, candidate.manifest_sha256)
            except (CorruptObjectError, CorruptCheckpoint) as error:
                self.say(f"the checkpoint of step {candidate.step} is not used: {error}")
            else:
                return candidate
        if found:
            self.say("no checkpoint of this job can be used: starting from step 0")
        return None

    def _fetch(self, uri: str, manifest_sha256: str) -> Path:
        """A verified copy on this machine. The first rank that asks downloads it, the others wait for that."""
        path = self._resume / manifest_sha256[:32]
        with _locked(self._resume):
            if not path.exists():
                self.artifacts.get_directory(uri, path, manifest_sha256)
            checkpoint.verify(path)
        return path


class _FirstRank:
    """What only rank 0 has: uploads, metrics, progress, and the ear for a cancel."""

    def __init__(
        self, order: Assignment, spec: TrainSpec, artifacts: Artifacts, scratch: Path, say: Any, place: Place
    ) -> None:
        self.progress: Progress | None = None
        self.cancelled = order.context.job.state.value == "CANCELLING"
        self.pictures: dict[str, bytes] = {}  # the newest of each name
        self.writer = reporting.open_writer(order, scratch / "spool.jsonl")
        self._monitor = reporting.monitor(order, self.writer, place)
        self._order = order
        self._artifacts = artifacts
        self._client = order.access.client(retry_seconds=_API_PATIENCE_SECONDS)
        self._reports = order.access.client(retry_seconds=0)
        self._fenced: str | None = None
        self._delivered = False
        self._end = threading.Event()
        self.uploads = CheckpointUploads(
            artifacts,
            self._client,
            job_id=order.access.job_id,
            number=order.access.number,
            goal=spec.train.checkpoint.goal,
            say=say,
        )
        self._thread = threading.Thread(target=self._report, name="progress", daemon=True)
        self._thread.start()

    @property
    def run_id(self) -> str | None:
        return None if self.writer is None else self.writer.run_id

    def check(self) -> None:
        """Raises Fenced when a newer attempt exists, and what an upload failed with."""
        if self._fenced is not None:
            raise Fenced(self._fenced)
        try:
            self.uploads.check()
        except FencedError as error:
            raise Fenced(str(error)) from error

    def close(self) -> dict[str, Any]:
        self.uploads.close(_CLOSE_SECONDS)
        pictures = self._keep_pictures()
        self._deliver()
        self._end.set()
        self._thread.join(timeout=5.0)
        self._report_once(self._client)  # the last step, and the run's id where the run was short
        return {"run_id": self.run_id, "pictures": pictures}

    def abandon(self) -> None:
        with contextlib.suppress(VaesvcError):
            self._deliver()
        self._end.set()
        self._report_once(self._reports)  # where the metrics that led to the error are

    def _deliver(self) -> None:
        """Metrics to MLflow, once."""
        if self._delivered:
            return
        self._delivered = True
        if self._monitor is not None:
            self._monitor.close()
        seconds = _HURRIED_SECONDS if self.cancelled else _MLFLOW_SECONDS
        reporting.deliver(self._order, self._artifacts, self.writer, seconds)

    def _keep_pictures(self) -> dict[str, str]:
        """name -> address of the newest picture of that name."""
        kept = {}
        for name, png in self.pictures.items():
            uri = self._artifacts.uri("pictures", self._order.access.job_id, f"{name}.png")
            self._artifacts.put_bytes(uri, png, "image/png")
            kept[name] = uri
        return kept

    def _report(self) -> None:
        """Every second; the reply says whether to stop. An API that is away concerns the parent: it has the lease."""
        while self._fenced is None and not self._end.wait(_REPORT_SECONDS):
            self._report_once(self._reports)

    def _report_once(self, client: AttemptClient) -> None:
        if self.progress is None and self.run_id is None:
            return
        known = self._order.context.job.progress  # an earlier attempt's, until this one has some
        progress = known if self.progress is None else _finite(asdict(self.progress))
        report = ProgressReport(progress=progress, run_id=self.run_id)
        try:
            self.cancelled = client.progress(report).cancel or self.cancelled
        except (FencedError, NotFoundError) as error:
            self._fenced = str(error)
        except VaesvcError:
            return


def _finite(progress: dict[str, Any]) -> dict[str, Any]:
    """JSON has no NaN."""
    import math

    def clean(value: Any) -> Any:
        return None if isinstance(value, float) and not math.isfinite(value) else value

    metrics = {name: clean(value) for name, value in progress["metrics"].items()}
    return {name: clean(value) for name, value in progress.items()} | {"metrics": metrics}


@contextlib.contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """One process of this machine at a time."""
    folder.mkdir(parents=True, exist_ok=True)
    with (folder.parent / f"{folder.name}.lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
