"""A data set from this machine's disk into the bucket: only what is missing, several files at once.

Safe to repeat after any interruption: the service says which files are not there, and a name is given last.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from urllib.parse import urlsplit

import httpx

from service.client import LOOPBACK, Client
from service.data.records import NamedSet
from service.errors import StorageError, UnavailableError, UsageError
from service.retry import again
from service.wire import DataFile, DataMissing
from vae_models.data import canonical
from vae_models.data.canonical import DATA_JSON
from vae_models.data.fetch import Meter, ProgressCallback

CONNECT_SECONDS = 5.0
SILENT_SECONDS = 60.0  # for the server to take a piece, or to answer
PATIENCE_SECONDS = 90.0  # for one file, while the server is away or overloaded
AT_ONCE = 4  # files that are sent at the same time
PIECE_BYTES = 1 << 20
Told = Callable[[int], None]  # bytes that were sent since the last call

ROUNDS = 3  # without any file less to send: then something is wrong that does not pass


def upload(folder: Path, name: str, client: Client, report: ProgressCallback = lambda told: None) -> NamedSet:
    """Bring the canonical form in `folder` into the service, and let `name` point to it.

    Raises UsageError for a folder that is none or has changed, StorageError for a file that arrives damaged,
    UnavailableError where the storage cannot be reached, and what the service answers.
    """
    text = _data_json(folder)
    digest = canonical.digest_of(text.encode())
    total = canonical.decode(text.encode()).bytes
    moved: _Moved | None = None
    stuck, before = 0, None
    while (missing := client.data.missing(digest, text)).files:
        moved = moved or _Moved(Meter(name, client.url, total - missing.missing_bytes, total, report))
        stuck = stuck + 1 if before == missing.missing else 0
        if stuck >= ROUNDS:
            raise StorageError(
                f"{missing.missing:,} files do not arrive, {missing.files[0].file} first: see the API's log"
            )
        before = missing.missing
        _send_all(folder, missing, moved.add)
    if moved is not None:
        moved.end()
    return client.data.point(name, digest, text)


class _Moved:
    """Bytes that have arrived, of all threads."""

    def __init__(self, meter: Meter) -> None:
        self._meter = meter
        self._done = meter.start
        self._lock = threading.Lock()

    def add(self, count: int) -> None:
        """Count bytes; a negative number takes those back that have to be sent again."""
        with self._lock:
            self._done += count
            self._meter.report(self._done)

    def end(self) -> None:
        """Note that everything is sent."""
        self._meter.report(self._done, last=True)


def _data_json(folder: Path) -> str:
    path = folder / DATA_JSON
    try:
        data = path.read_bytes()
    except OSError as error:
        raise UsageError(f"{path} cannot be read ({error.strerror}): {folder} holds no data set") from error
    canonical.read(data, str(path))
    return data.decode()


def _send_all(folder: Path, missing: DataMissing, told: Told) -> None:
    for file in missing.files:
        _check_size(folder, file)
    timeout = httpx.Timeout(SILENT_SECONDS, connect=CONNECT_SECONDS)
    local = urlsplit(missing.files[0].address).hostname in LOOPBACK  # a proxy cannot reach this machine's loopback
    with httpx.Client(timeout=timeout, trust_env=not local) as http, ThreadPoolExecutor(AT_ONCE) as pool:
        sending = [pool.submit(_send, http, folder, file, told) for file in missing.files]
        try:
            for each in sending:
                each.result()
        except BaseException:
            for each in sending:
                each.cancel()
            raise


def _check_size(folder: Path, file: DataFile) -> None:
    path = folder / file.file
    try:
        size = path.stat().st_size
    except OSError as error:
        raise UsageError(f"{path} cannot be read: {error.strerror}; make the set anew") from error
    if size != file.bytes:
        raise UsageError(f"{path} has {size:,} bytes, and {DATA_JSON} says {file.bytes:,}: make the set anew")


def _send(http: httpx.Client, folder: Path, file: DataFile, told: Told) -> None:
    try:
        again(
            lambda: _put(http, folder / file.file, file, told),
            when=lambda error: isinstance(error, httpx.TransportError),
            seconds=PATIENCE_SECONDS,
            longest=5.0,
        )
    except httpx.TransportError as error:
        raise UnavailableError(
            f"the storage at {urlsplit(file.address).netloc} does not answer ({error or type(error).__name__}); it "
            "must be reachable from here, not only from the service. What has arrived is not sent again next time"
        ) from error


def _put(http: httpx.Client, path: Path, file: DataFile, told: Told) -> None:
    sent = 0

    def pieces() -> Iterator[bytes]:
        nonlocal sent
        with path.open("rb") as stream:
            while piece := stream.read(PIECE_BYTES):
                yield piece
                sent += len(piece)
                told(len(piece))

    try:
        answer = http.put(file.address, content=pieces(), headers=file.headers)
        if answer.status_code >= 500 or answer.status_code in (408, 429):
            raise httpx.RemoteProtocolError(f"HTTP {answer.status_code}")
    except BaseException:
        told(-sent)
        raise
    if answer.is_success:
        return
    told(-sent)
    if answer.status_code == 400 and "Digest" in answer.text[:2000]:
        raise StorageError(f"{path} is not what {DATA_JSON} says: its SHA-256 differs. Make the set anew")
    if answer.status_code == 403 and "expired" in answer.text[:2000].lower():
        return  # the address: the service is asked for another
    raise StorageError(f"the storage refuses {file.file}: HTTP {answer.status_code} {_reason(answer)}")


def _reason(answer: httpx.Response) -> str:
    """Return S3's own word for it."""
    _, mark, rest = answer.text[:2000].partition("<Code>")
    return rest.partition("</Code>")[0] if mark else answer.reason_phrase
