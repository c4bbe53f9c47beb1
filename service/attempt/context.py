"""The training loop's world in every process on the cluster, whatever is trained: a run, a trial, a group's trial.

Nothing here holds up a step: checkpoints, progress and metrics leave from threads of the first rank, which does all of
that for the others (`Reports`). They need the checkpoint to go on from and nothing else.
"""

from __future__ import annotations

import contextlib
import fcntl
import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import torch

from service.directories import CorruptObjectError
from service.queue.jobs import Checkpoint
from vae_models.collectives import broadcast_text
from vae_models.records import Progress
from vae_models.training import checkpoint
from vae_models.training.errors import CorruptCheckpoint

if TYPE_CHECKING:
    from service.artifacts import Artifacts
    from service.specs.trained import TrainedModel


class Reports(Protocol):
    """What the first rank does for all: the rest of a `RunContext`, and which checkpoints there are to go on from."""

    def candidates(self) -> Iterable[Checkpoint]:
        """Return the committed checkpoints, newest first."""
        ...

    def resumed(self, chosen: Checkpoint) -> None:
        """Note that the run goes on from this checkpoint, which has been verified."""
        ...

    def note(self, text: str) -> None:
        """Write a line to the attempt's log."""
        ...

    def log_metrics(self, step: int, metrics: Mapping[str, float]) -> None: ...

    def log_picture(self, step: int, name: str, png: bytes) -> None: ...

    def progress(self, progress: Progress) -> None: ...

    def save_checkpoint(self, step: int, directory: Path, metrics: Mapping[str, float]) -> None: ...

    def stop_requested(self) -> bool: ...


class Copies:
    """Verified copies of checkpoints on this machine. The first process that asks fetches one, the others wait."""

    def __init__(
        self, artifacts: Artifacts, folder: Path, *, verify: Callable[[Path], object] = checkpoint.verify
    ) -> None:
        """Keep copies in `folder`: the same for all processes of one attempt on this machine. verify: raises where a
        copy that is there is not what it was."""
        self._artifacts = artifacts
        self._folder = folder
        self._verify = verify

    def fetch(self, uri: str, manifest_sha256: str, *, verify: bool = True) -> Path:
        """Return the copy. Raises CorruptObjectError or CorruptCheckpoint where it is not what was committed.

        verify: a copy that is there is looked at again. What is fetched is compared with its manifest in any case.
        """
        path = self._folder / manifest_sha256[:32]
        with _locked(self._folder):
            if not path.exists():
                self._artifacts.get_directory(uri, path, manifest_sha256)
            if verify:
                self._verify(path)
        return path

    def clear(self) -> None:
        shutil.rmtree(self._folder, ignore_errors=True)


class WorkerContext:
    """A `RunContext` of one rank."""

    def __init__(
        self,
        *,
        rank: int,
        world_size: int,
        device: torch.device,
        scratch: Path,
        copies: Copies,
        reports: Reports | None,
        start_from: Checkpoint | None = None,
        weights: TrainedModel | None = None,
    ) -> None:
        """Keep what a worker needs. scratch: of this rank alone. reports: the first rank's. start_from: of another
        trial, what it starts from. weights: of a trained model, what a new run starts with."""
        self.rank = rank
        self.world_size = world_size
        self.device = device
        self.scratch = scratch
        self._copies = copies
        self._reports = reports
        self._start_from = start_from
        self._weights = weights

    def latest_checkpoint(self) -> Path | None:
        """Fetch the newest committed checkpoint that verifies: rank 0 chooses it, every machine fetches it once."""
        chosen = self._choose() if self._reports is not None else None
        address = f"{chosen.uri} {chosen.manifest_sha256}" if chosen is not None else ""
        address = broadcast_text(address, self.device)
        if not address:
            return None
        uri, _, sha256 = address.partition(" ")
        return self._copies.fetch(uri, sha256)

    def origin(self) -> Path | None:
        """Return a copy of another trial's checkpoint, from which this one starts where it has none of its own."""
        start = self._start_from
        if start is None:
            return None
        if self._reports is not None:
            self._reports.note(f"starts from the checkpoint of step {start.step} ({start.uri})")
        return self._copies.fetch(start.uri, start.manifest_sha256)

    def weights(self) -> Path | None:
        """Return a copy of a trained model's files, of which every byte is what the service has written down."""
        model = self._weights
        if model is None:
            return None
        if self._reports is not None:
            self._reports.note(f"starts with the weights of step {model.step} of job {model.job} ({model.uri})")
        return self._copies.fetch(model.uri, model.manifest_sha256, verify=False)

    def log_metrics(self, step: int, metrics: Mapping[str, float]) -> None:
        self.reports.log_metrics(step, metrics)

    def log_picture(self, step: int, name: str, png: bytes) -> None:
        self.reports.log_picture(step, name, png)

    def progress(self, progress: Progress) -> None:
        self.reports.progress(progress)

    def save_checkpoint(self, step: int, directory: Path, metrics: Mapping[str, float]) -> None:
        self.reports.save_checkpoint(step, directory, metrics)

    def stop_requested(self) -> bool:
        return self.reports.stop_requested()

    @property
    def reports(self) -> Reports:
        """Return the first rank's reports. Raises RuntimeError on any other."""
        if self._reports is None:
            raise RuntimeError(f"rank {self.rank} reports; only rank 0 does")
        return self._reports

    def _choose(self) -> Checkpoint | None:
        seen = False
        for candidate in self.reports.candidates():
            seen = True
            try:
                self._copies.fetch(candidate.uri, candidate.manifest_sha256)
            except (CorruptObjectError, CorruptCheckpoint) as error:
                self.reports.note(f"the checkpoint of step {candidate.step} is not used: {error}")
            else:
                self.reports.resumed(candidate)
                return candidate
        if seen:
            self.reports.note("no checkpoint can be used: starting from step 0")
        return None


def own_folder(path: Path) -> Path:
    """Return `path`, made anew: a worker that was killed may have left it."""
    shutil.rmtree(path, ignore_errors=True)
    path.mkdir(parents=True)
    return path


@contextlib.contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """Let one process of this machine in at a time."""
    folder.mkdir(parents=True, exist_ok=True)
    with (folder.parent / f"{folder.name}.lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
