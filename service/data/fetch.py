"""Where a machine's cache fetches sets from (`vae_models.data.cache.Fetch`): the bucket, with keys or by addresses."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from service.areas import DataArea
from service.directories import CorruptObjectError
from service.errors import NotFoundError
from vae_models.data import canonical
from vae_models.data.canonical import DATA_JSON, ShardFile
from vae_models.data.errors import DataCorrupt, DataMissing

if TYPE_CHECKING:
    from service.artifacts import Artifacts
    from service.wire import DataFiles

Told = Callable[[int], None]


@dataclass(frozen=True, kw_only=True)
class Bucket:
    """The source with the keys of an attempt or of the service; what is read lies below data/DIGEST, and nothing else.

    A server that is away is waited for (`Artifacts.patience_seconds`); then UnavailableError, which passes.
    """

    artifacts: Artifacts

    @property
    def source(self) -> str:
        """Return the bucket's address."""
        return self.artifacts.uri("data")

    def manifest(self, digest: str) -> bytes:
        """Return data.json. Raises DataMissing where the set is not there."""
        area = DataArea(self.artifacts, digest)
        with _as_data_errors(digest):
            return area.get_bytes(area.file(DATA_JSON))

    def file(self, digest: str, file: ShardFile, into: Path, told: Told) -> None:
        """Write one file to `into`. Raises DataCorrupt if a byte differs, or where it is gone."""
        with _as_data_errors(digest):
            address = DataArea(self.artifacts, digest).file(file.file)
            self.artifacts.download(address, into, file.sha256, file.bytes, told)


@dataclass(frozen=True, kw_only=True)
class Addresses:
    """The source for a user without keys: addresses of one set that the API has signed, good for an hour."""

    files: DataFiles

    @property
    def source(self) -> str:
        """Return what it is called in messages."""
        return "the service's storage"

    def manifest(self, digest: str) -> bytes:
        """Return data.json. Raises DataMissing where the set is not there."""
        from service.download import get_bytes

        with _as_data_errors(digest):
            return get_bytes(self._address(digest, DATA_JSON), canonical.MOST_JSON_BYTES)

    def file(self, digest: str, file: ShardFile, into: Path, told: Told) -> None:
        """Write one file to `into`. Raises DataCorrupt if a byte differs, or where it is gone."""
        from service.download import get_file

        with _as_data_errors(digest):
            get_file(self._address(digest, file.file), into, file.sha256, file.bytes)
        told(file.bytes)

    def _address(self, digest: str, name: str) -> str:
        if digest != self.files.digest:
            raise NotFoundError(f"these addresses are of {self.files.digest}")
        return self.files.files[name]


@contextmanager
def _as_data_errors(digest: str) -> Iterator[None]:
    try:
        yield
    except NotFoundError as error:
        raise DataMissing(
            f"the data set {digest} is not in the service's storage: it was removed; add it again (vaesvc data add)"
        ) from error
    except CorruptObjectError as error:
        raise DataCorrupt(str(error)) from error
