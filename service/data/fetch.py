"""A data set from the bucket onto this machine's disk: every file once, several at a time, every sum compared."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from service.data.meter import Meter
from service.errors import NotFoundError, StorageError
from vae_models.data import canonical
from vae_models.data.canonical import DATA_JSON
from vae_models.data.fetch import ProgressCallback

if TYPE_CHECKING:
    from service import wire
    from service.areas import DataArea
    from service.artifacts import Artifacts

AT_ONCE = 4  # files that come at the same time
Told = Callable[[int], None]


class Files(Protocol):
    """Where one set's files come from. Each method tries again while a server is away, for a bounded time."""

    def manifest(self) -> bytes:
        """Return data.json. NotFoundError where the set is not there."""
        ...

    def file(self, shard: canonical.ShardFile, path: Path, told: Told) -> None:
        """Write one file to `path`. Raises CorruptObjectError if a byte differs."""
        ...


@dataclass(frozen=True, kw_only=True)
class Bucket:
    """With the keys of an attempt or of the service; what is read lies below data/DIGEST, and nothing else."""

    artifacts: Artifacts
    digest: str

    @property
    def area(self) -> DataArea:
        """Where the set lies."""
        from service.areas import DataArea

        return DataArea(self.artifacts, self.digest)

    def manifest(self) -> bytes:
        """Return data.json. NotFoundError where the set is not there."""
        return self.area.get_bytes(self.area.file(DATA_JSON))

    def file(self, shard: canonical.ShardFile, path: Path, told: Told) -> None:
        """Write one file to `path`. Raises CorruptObjectError if a byte differs."""
        self.artifacts.download(self.area.file(shard.file), path, shard.sha256, shard.bytes, told)


@dataclass(frozen=True, kw_only=True)
class Addresses:
    """Of a user without keys: addresses that the API has signed."""

    files: wire.DataFiles

    def manifest(self) -> bytes:
        """Return data.json. NotFoundError where the set is not there."""
        from service.download import get_bytes

        return get_bytes(self.files.files[DATA_JSON], canonical.MOST_JSON_BYTES)

    def file(self, shard: canonical.ShardFile, path: Path, told: Told) -> None:
        """Write one file to `path`. Raises CorruptObjectError if a byte differs."""
        from service.download import get_file

        get_file(self.files.files[shard.file], path, shard.sha256, shard.bytes)
        told(shard.bytes)


def fetch(files: Files, digest: str, into: Path, progress: ProgressCallback = lambda told: None) -> None:
    """Fill the folder `into` with the set of this digest, verified. What was written before an error may be left.

    Raises StorageError where something is not what the digest stands for, NotFoundError where the set is not there,
    UnavailableError where the storage does not answer.
    """
    try:
        data = files.manifest()
    except NotFoundError as error:
        raise NotFoundError(
            f"the data set {digest} is not in the service's storage: it was removed; add it again (vaesvc data add)"
        ) from error
    if canonical.digest_of(data) != digest:
        raise StorageError(f"the data set {digest} is damaged in the storage: its {DATA_JSON} is another's")
    manifest = canonical.read(data, DATA_JSON)
    meter = Meter(f"data set {digest[:12]}", manifest.bytes, progress)
    with ThreadPoolExecutor(AT_ONCE, thread_name_prefix="data") as pool:
        coming = [pool.submit(files.file, shard, into / shard.file, meter.add) for shard in manifest.shards()]
        try:
            for each in coming:
                each.result()
        except BaseException:
            for each in coming:
                each.cancel()
            raise
    (into / DATA_JSON).write_bytes(data)
