"""What a study has come to, in storage and as data: with it any attempt, on any machine, goes on.

    studies/JOB/STAGE/KEY/result.json                    how the trial ended; such a trial is never run again
    studies/JOB/STAGE/rungs/RUNG/CANDIDATE_SCORE         what came to ASHA's rungs
    studies/JOB/STAGE/KEY/step-000000470-ATTEMPT-RANDOM/   the checkpoint that it goes on from, manifest last

KEY is the trial's number and a digest of its configuration (`tuning.study.Trial.key`): where a study is extended and
another learning rate wins, what was trained with the first one is not mistaken for it. A trial is a function of its
configuration. So a process of an older attempt that still writes for a moment writes what the newer one would have
written, under addresses of its own, and nothing has to be unpickled to restore a search. (In a population it is also a
function of the trial whose checkpoint it starts from, which is named in `Trial.origin` and has ended before.)
"""

from __future__ import annotations

import contextlib
import hashlib
import re
import tempfile
import time
import uuid
from collections.abc import Collection, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Literal

from pydantic import Field, ValidationError

from service.artifacts import Artifacts
from service.directories import MANIFEST
from service.errors import NotFoundError, VaesvcError
from service.queue.jobs import Checkpoint, Record
from tuning.study import Outcome
from vae_models.training import checkpoint

_RESULT = "result.json"
_RUNGS = "rungs"
_CHECKPOINT = re.compile(r"/([^/]+)/step-(\d+)-\d+-[0-9a-f]+/" + re.escape(MANIFEST) + "$")
_READERS = 8


class TrialRecord(Record):
    """How a trial ended: see `tuning.winners.Outcome`. checkpoint: of its last step."""

    state: Literal["done", "pruned", "failed"]
    value: float | None = None
    error: str | None = None
    metrics: dict[str, float] = Field(default_factory=dict)
    steps: int = 0
    checkpoint: Checkpoint | None = None

    @property
    def outcome(self) -> Outcome:
        return Outcome(state=self.state, value=self.value, error=self.error, metrics=self.metrics, steps=self.steps)


class StageStorage:
    """The storage of one stage of one study. Trials are named by their keys."""

    def __init__(self, artifacts: Artifacts, job_id: str, stage: str) -> None:
        self._artifacts = artifacts
        self._parts = ("studies", job_id, stage)

    def results(self) -> dict[str, TrialRecord]:
        """Return the records of every trial that has ended."""
        outcomes = {}
        for entry in self._artifacts.list(self._artifacts.uri(*self._parts)):
            folder, _, name = entry.uri.rpartition("/")
            if name == _RESULT:
                outcomes[folder.rpartition("/")[2]] = entry.uri
        with ThreadPoolExecutor(_READERS) as readers:
            records = dict(zip(outcomes, readers.map(self._read, outcomes.values()), strict=True))
        return {key: record for key, record in records.items() if record is not None}

    def keep(self, trial: str, record: TrialRecord) -> None:
        data = record.model_dump_json().encode()
        self._artifacts.put_bytes(self._uri(trial, _RESULT), data, "application/json")

    def put_checkpoint(
        self, trial: str, number: int, step: int, directory: Path, metrics: Mapping[str, float]
    ) -> Checkpoint:
        """Upload it under an address of its own."""
        uri = self._uri(trial, f"step-{step:09d}-{number}-{uuid.uuid4().hex[:8]}")
        stored = self._artifacts.put_directory(directory, uri)
        return Checkpoint(
            attempt=number, step=step, uri=stored.uri, manifest_sha256=stored.manifest_sha256, bytes=stored.bytes,
            metrics=dict(metrics), committed_at=time.time(),
        )  # fmt: skip

    def checkpoints(self) -> dict[str, list[tuple[int, str]]]:
        """Return (step, address) of each trial's complete checkpoints, newest first."""
        checkpoints: dict[str, list[tuple[int, str]]] = {}
        for entry in self._artifacts.list(self._artifacts.uri(*self._parts)):
            if match := _CHECKPOINT.search(entry.uri):
                checkpoints.setdefault(match[1], []).append((int(match[2]), entry.uri.removesuffix(MANIFEST)))
        return {trial: sorted(each, reverse=True) for trial, each in checkpoints.items()}

    def described(self, uri: str, number: int) -> Checkpoint:
        """Return what lies at this address, by its manifest alone. Raises NotFoundError if gone, CorruptCheckpoint."""
        data = self._artifacts.get_bytes(f"{uri.rstrip('/')}/{MANIFEST}")
        with tempfile.TemporaryDirectory(prefix="vaesvc-manifest-") as folder:
            (Path(folder) / MANIFEST).write_bytes(data)
            manifest = checkpoint.read_manifest(Path(folder))
        return Checkpoint(
            attempt=number, step=manifest.step, uri=uri, manifest_sha256=hashlib.sha256(data).hexdigest(),
            metrics=dict(manifest.metrics), bytes=len(data) + sum(file.bytes for file in manifest.files.values()),
        )  # fmt: skip

    def record(self, rung: int, candidate: int, score: float) -> list[float]:
        """Record a score and return the rung's, as a `tuning.pruners.rules.Rungs`: the name of each object holds
        all."""
        folder = self._artifacts.uri(*self._parts, _RUNGS, str(rung))
        there = self._scores(folder)
        if candidate not in there:
            self._artifacts.put_bytes(f"{folder}/{candidate}_{score!r}", b"")
            there = self._scores(folder) | {candidate: score}
        return list(there.values())

    def _scores(self, folder: str) -> dict[int, float]:
        names = [entry.uri.rpartition("/")[2].partition("_") for entry in self._artifacts.list(folder)]
        return {int(candidate): float(score) for candidate, _, score in names}

    def delete(self, uri: str) -> None:
        """Delete it. What cannot be deleted now costs room and nothing else."""
        with contextlib.suppress(VaesvcError):
            self._artifacts.delete_prefix(uri)

    def sweep(self, keep: Collection[str]) -> None:
        """Delete every checkpoint whose address is not in `keep`."""
        wanted = {uri.rstrip("/") for uri in keep}
        for checkpoints in self.checkpoints().values():
            for _, uri in checkpoints:
                if uri.rstrip("/") not in wanted:
                    self.delete(uri)

    def _uri(self, trial: str, name: str) -> str:
        return self._artifacts.uri(*self._parts, trial, name)

    def _read(self, uri: str) -> TrialRecord | None:
        """Return the record; None where none can be read: such a trial is run again, from its checkpoint."""
        try:
            return TrialRecord.model_validate_json(self._artifacts.get_bytes(uri))
        except (NotFoundError, ValidationError):
            return None
