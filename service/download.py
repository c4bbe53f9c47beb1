"""Fetching a model version through its presigned addresses, every file checked against its SHA-256."""

from __future__ import annotations

import hashlib
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path, PurePosixPath
from urllib.parse import urlsplit

import httpx
import tenacity

from service.client import LOOPBACK
from service.directories import MANIFEST, CorruptObjectError, altered, disk_error, replace_directory
from service.errors import ConflictError, StorageError, UnavailableError
from service.wire import ModelFiles

CONNECT_SECONDS = 5.0
READ_SECONDS = 30.0  # without a byte
RETRY_SECONDS = 30.0  # for one file
CHUNK_BYTES = 1 << 20


def fetch(files: ModelFiles, into: Path, *, report: Callable[[str], None]) -> int:
    """Download to `into`, which appears complete or not at all; the bytes fetched.

    Nothing is done where the very same version is there already. Raises ConflictError where something else is,
    CorruptObjectError for a file that is not what was registered, UnavailableError if the storage does not answer.
    """
    if _is_there(files, into):
        report(f"{into} holds this version already")
        return 0
    try:
        into.absolute().parent.mkdir(parents=True, exist_ok=True)
        partial = Path(tempfile.mkdtemp(prefix=f".{into.name}.", dir=into.absolute().parent))
        try:
            partial.chmod(0o755)
            total = 0
            timeout = httpx.Timeout(READ_SECONDS, connect=CONNECT_SECONDS)
            local = any(urlsplit(address).hostname in LOOPBACK for address in files.files.values())  # all in one bucket
            with httpx.Client(timeout=timeout, trust_env=not local) as client:
                for name, address in files.files.items():
                    total += _file(client, address, partial / _inside(name), files.sha256[name])
            replace_directory(partial, into.absolute())
        finally:
            shutil.rmtree(partial, ignore_errors=True)
    except OSError as error:
        raise disk_error(error, into) from error
    return total


def _inside(name: str) -> PurePosixPath:
    path = PurePosixPath(name)
    if path.is_absolute() or ".." in path.parts or "\\" in name or not path.parts:
        raise CorruptObjectError(f"the service names the file {name!r}, which is not a path inside the model's folder")
    return path


def _is_there(files: ModelFiles, into: Path) -> bool:
    if not into.exists():
        return False
    if not into.is_dir():
        raise ConflictError(f"{into} is there and is no folder; name a new one")
    manifest = into / MANIFEST
    if manifest.is_file() and _sha256(manifest) == files.sha256.get(MANIFEST):
        wrong = [name for name, sum_ in files.sha256.items() if not _same(into / _inside(name), sum_)]
        if wrong:
            raise ConflictError(f"{into} holds this version, but {wrong[0]} was altered or deleted; remove the folder")
        return True
    if any(into.iterdir()):
        raise ConflictError(f"{into} is not empty; name a new or an empty folder")
    return False


def _same(path: Path, sha256: str) -> bool:
    return path.is_file() and _sha256(path) == sha256


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _file(client: httpx.Client, address: str, path: Path, sha256: str) -> int:
    path.parent.mkdir(parents=True, exist_ok=True)
    retrying = tenacity.Retrying(
        retry=tenacity.retry_if_exception_type(httpx.TransportError),
        wait=tenacity.wait_exponential_jitter(initial=0.2, max=3.0, jitter=0.2),
        stop=tenacity.stop_after_delay(RETRY_SECONDS),
        reraise=True,
    )
    public = urlsplit(address)._replace(query="").geturl()  # the query is a key for an hour
    try:
        found, count = retrying(_stream, client, address, public, path)
    except httpx.TransportError as error:
        raise UnavailableError(
            f"the storage at {urlsplit(address).netloc} does not answer ({error or type(error).__name__}); it must be "
            "reachable from here, not only from the service"
        ) from error
    if found != sha256:
        raise altered(public, sha256, found)
    return count


def _stream(client: httpx.Client, address: str, public: str, path: Path) -> tuple[str, int]:
    digest, count = hashlib.sha256(), 0
    with client.stream("GET", address) as answer:
        if answer.status_code >= 500:
            raise httpx.RemoteProtocolError(f"HTTP {answer.status_code}")
        if answer.status_code != 200:
            raise StorageError(f"the storage refuses {public}: HTTP {answer.status_code} {answer.reason_phrase}")
        with path.open("wb") as file:
            for chunk in answer.iter_raw(CHUNK_BYTES):
                digest.update(chunk)
                count += len(chunk)
                file.write(chunk)
    return digest.hexdigest(), count
