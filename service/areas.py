"""What lies below one address of the bucket, and nothing else: where the API reads and presigns.

An attempt reports addresses (of its log, pictures, checkpoints), and models have sources. The API reads with the
service's keys, which open the whole bucket: so every such address is looked at here first.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from service.errors import UntrustedError

if TYPE_CHECKING:
    from service.artifacts import Artifacts
    from service.queue.jobs import Checkpoint, Job
    from service.wire import FinishRequest

PRESIGN_SECONDS = 3600
DATA = "data"  # below it the data sets, by digest


class Area:
    """The directory PREFIX/PARTS of the service's bucket."""

    def __init__(self, artifacts: Artifacts, *parts: str) -> None:
        self._artifacts = artifacts
        self.uri = artifacts.uri(*parts)

    def address(self, uri: str) -> str:
        """Return `uri`, an object or a directory below this one. Raises UntrustedError for any other."""
        prefix = f"{self.uri}/"
        below = uri.removeprefix(prefix).removesuffix("/")
        plain = below.isprintable() and not any(mark in below for mark in "?#%\\")
        if not uri.startswith(prefix) or not plain or any(part in ("", ".", "..") for part in below.split("/")):
            raise UntrustedError(f"the address {uri[:300]!r} is not below {prefix}: it is not read")
        return uri

    def get_bytes(self, uri: str, start: int = 0) -> bytes:
        return self._artifacts.get_bytes(self.address(uri), start=start)

    def presign(self, uri: str) -> str:
        """Return an address that reads the object without keys, for an hour."""
        return self._artifacts.presign(self.address(uri), PRESIGN_SECONDS)


class DataArea(Area):
    """Where the files of one data set lie: below its digest, which stands for their bytes."""

    def __init__(self, artifacts: Artifacts, digest: str) -> None:
        super().__init__(artifacts, DATA, digest)

    def sizes(self) -> dict[str, int]:
        """Return the files that are there: name -> bytes."""
        start = len(self.uri) + 1
        return {stored.uri[start:]: stored.bytes for stored in self._artifacts.list(self.uri)}

    def file(self, name: str) -> str:
        """Return the address of one file."""
        return self.address(f"{self.uri}/{name}")

    def presign_put(self, name: str, *, bytes: int, sha256: str) -> tuple[str, dict[str, str]]:
        """Return an address that takes these very bytes without keys, for an hour, and the headers to send."""
        return self._artifacts.presign_put(self.file(name), PRESIGN_SECONDS, bytes=bytes, sha256=sha256)


def log_area(artifacts: Artifacts, job_id: str) -> Area:
    return Area(artifacts, "logs", job_id)


def picture_area(artifacts: Artifacts, job_id: str) -> Area:
    return Area(artifacts, "pictures", job_id)


def checkpoint_areas(artifacts: Artifacts, job_id: str) -> tuple[Area, Area]:
    """Return the areas of a run's checkpoints, and of a study's trials'."""
    return Area(artifacts, "checkpoints", job_id), Area(artifacts, "studies", job_id)


def check_checkpoint(artifacts: Artifacts, job_id: str, checkpoint: Checkpoint) -> None:
    """Raise UntrustedError for a checkpoint outside the job's own directories."""
    run, study = checkpoint_areas(artifacts, job_id)
    (study if checkpoint.uri.startswith(f"{study.uri}/") else run).address(checkpoint.uri)


def check_finish(artifacts: Artifacts, job_id: str, request: FinishRequest) -> None:
    """Raise UntrustedError where an attempt's final report names an address outside the job's own directories."""
    if request.log_uri is not None:
        log_area(artifacts, job_id).address(request.log_uri)
    for uri in pictures(request.result).values():
        picture_area(artifacts, job_id).address(uri)


def picture_addresses(artifacts: Artifacts, job: Job) -> dict[str, str]:
    """Return a job's pictures: name -> an address that can be read without keys, for an hour."""
    area = picture_area(artifacts, job.id)
    return {name: area.presign(uri) for name, uri in pictures(job.result).items()}


def pictures(result: dict[str, Any]) -> dict[str, str]:
    """Return a result's pictures: name -> address. Raises UntrustedError where they are none."""
    addresses = result.get("pictures", {})
    if not isinstance(addresses, dict) or not all(isinstance(uri, str) for uri in addresses.values()):
        raise UntrustedError("the result's pictures are not names with addresses")
    return addresses
