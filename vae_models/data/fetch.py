"""Downloads that can be interrupted at any point: resumed by HTTP Range, verified before the name appears.

`NAME.part` grows until the published checksum agrees, and only then becomes `NAME`; an exclusive lock on `NAME.lock`
keeps the workers of one machine from fetching the same file twice. All mirrors of a file hold the same bytes, so what
one began another may finish.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import hashlib
import http.client
import os
import shutil
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from vae_models.data.catalogue.records import Form
from vae_models.data.errors import DataCorrupt, DataError

_CHUNK = 1 << 18  # bytes
_SLACK = 1 << 20  # bytes beyond the published length before a transfer is given up as altered
_TOLD_AFTER_SECONDS = 1.0
_FULL = frozenset({errno.ENOSPC, errno.EDQUOT})
_TRANSIENT = frozenset({408, 425, 429})  # HTTP statuses worth another try, besides 5xx


@dataclass(frozen=True, kw_only=True)
class Policy:
    timeout_seconds: float = 20.0  # to connect, and for each read
    rounds: int = 3  # rounds over all mirrors that bring nothing before the file is given up
    backoff_seconds: float = 0.5  # after the first such round; doubles
    lock_timeout_seconds: float = 3600.0  # for another process that is downloading the same file


@dataclass(frozen=True, kw_only=True)
class Download:
    """The state of a download, or of the decoding after it (`url` is then empty)."""

    name: str
    url: str
    done_bytes: int
    total_bytes: int | None
    bytes_per_second: float
    seconds_left: float | None


ProgressCallback = Callable[[Download], None]


class Unreachable(Exception):  # noqa: N818 - caught at once, never shown
    """No mirror delivered. `causes` maps each address to what went wrong there."""

    def __init__(self, causes: dict[str, str]) -> None:
        super().__init__("; ".join(f"{url}: {cause}" for url, cause in causes.items()))
        self.causes = causes


class _Transient(Exception):  # noqa: N818
    """Worth another try: the link was cut, the server is busy or silent."""


class _Permanent(Exception):  # noqa: N818
    """This address will not deliver."""


class _Altered(Exception):  # noqa: N818
    """The download is complete, and its content is not the published one."""

    def __init__(self, *, sha256: str, resumed: bool) -> None:
        super().__init__(sha256)
        self.sha256 = sha256
        self.resumed = resumed


def fetch(
    form: Form, destination: Path, *, progress: ProgressCallback | None = None, policy: Policy | None = None
) -> None:
    """Bring `form` from the first of its addresses that delivers it, and put it at `destination` when its sum agrees.

    Raise `Unreachable` when no address delivers, `DataCorrupt` when one delivered other bytes and none the right ones,
    `DataError` when the file cannot be written.
    """
    policy = policy or Policy()
    with writing(destination):
        destination.parent.mkdir(parents=True, exist_ok=True)
    with locked(destination.with_name(destination.name + ".lock"), policy.lock_timeout_seconds):
        if not destination.exists():  # another process may have brought it while this one waited
            _Fetch(form, destination, progress, policy).run()


def check_room(folder: Path, needed: int, what: str) -> None:
    """Raise DataError when the disk of `folder` has no room for so many bytes more: before the work, not at its end."""
    free = shutil.disk_usage(folder).free
    if free < needed:
        raise DataError(
            f"{what} takes {needed / 1e9:.2f} GB more in {folder}, and {free / 1e9:.2f} GB are free there; free some "
            "space, or set VAESVC_CACHE_DIR elsewhere"
        )


class _Fetch:
    def __init__(self, form: Form, destination: Path, progress: ProgressCallback | None, policy: Policy) -> None:
        self.form = form
        self.destination = destination
        self.part = destination.with_name(destination.name + ".part")
        self.progress = progress
        self.policy = policy
        self.causes: dict[str, str] = {}
        self.altered = False

    def run(self) -> None:
        urls, idle, farthest = list(self.form.urls), 0, self._held()
        if self.form.bytes is not None:
            check_room(self.part.parent, self.form.bytes - farthest, self.form.name)
        while True:
            if self._round(urls):
                return
            held = self._held()
            # a link that keeps moving is never given up, however often it is cut
            idle = 0 if held > farthest else idle + 1
            farthest = max(held, farthest)
            if not urls or idle >= self.policy.rounds:
                break
            time.sleep(self.policy.backoff_seconds * 2 ** max(0, idle - 1))
        if self.altered:
            raise DataCorrupt(f"{self.form.name}: what was downloaded was refused and deleted\n{_lines(self.causes)}")
        raise Unreachable(self.causes)

    def _round(self, urls: list[str]) -> bool:
        """Try each address once; those that can never deliver are removed from the list.
        Return whether one delivered.
        """
        for url in tuple(urls):
            try:
                self._attempt(url)
                return True
            except _Transient as error:
                self.causes[url] = str(error)
            except _Permanent as error:
                self.causes[url] = str(error)
                urls.remove(url)
            except _Altered as error:
                self.causes[url] = f"expected SHA-256 {self.form.sha256}, found {error.sha256}"
                self.altered = True
                if not error.resumed:  # else the first part may be to blame, and it is gone now
                    urls.remove(url)
        return False

    def _attempt(self, url: str) -> None:
        resumed = self._transfer(url)
        sha256 = sha256_of(self.part)
        if self.form.sha256 is not None and sha256 != self.form.sha256:
            self.part.unlink()
            raise _Altered(sha256=sha256, resumed=resumed)
        with writing(self.destination):
            os.replace(self.part, self.destination)

    def _transfer(self, url: str) -> bool:
        """Append to the part until the server reports the end; return whether it went on from an earlier part."""
        start = self._held()
        if self.form.bytes is not None and start == self.form.bytes:
            return True  # killed between the last byte and the renaming
        with self._open(url, start) as response:
            resumed = start > 0 and response.status == 206
            start = start if resumed else 0
            announced = response.headers.get("Content-Length")
            total = start + int(announced) if announced and announced.isdecimal() else self.form.bytes
            done = self._receive(response, url, start, total, append=resumed)
        if total is not None and done < total:
            raise _Transient(f"the connection ended after {done:,} of {total:,} bytes")
        return resumed

    def _open(self, url: str, start: int) -> http.client.HTTPResponse:
        headers = {"User-Agent": "vaesvc (urllib)", "Accept-Encoding": "identity"}
        if start:
            headers["Range"] = f"bytes={start}-"
        try:
            response: http.client.HTTPResponse = urllib.request.urlopen(  # nosec B310  # addresses of our catalogue; what comes has a checksum
                urllib.request.Request(url, headers=headers), timeout=self.policy.timeout_seconds
            )
        except urllib.error.HTTPError as error:
            error.close()
            if error.code == 416:  # the part is longer than the file
                self.part.unlink(missing_ok=True)
                raise _Transient("HTTP 416: the partial file was too long; it was deleted") from error
            kind = _Transient if error.code in _TRANSIENT or error.code >= 500 else _Permanent
            raise kind(f"HTTP {error.code} {error.reason}{_through_proxy(url)}") from error
        except (OSError, http.client.HTTPException) as error:  # URLError is an OSError
            raise _Transient(f"{_reason(error)}{_through_proxy(url)}") from error
        except ValueError as error:  # of an address, also a proxy's, that is none
            raise _Permanent(f"{error}{_through_proxy(url)}") from error
        if response.status == 206 and not response.headers.get("Content-Range", "").startswith(f"bytes {start}-"):
            response.close()
            self.part.unlink(missing_ok=True)
            raise _Transient("the server resumed at another place; starting over")
        return response

    def _receive(
        self, response: http.client.HTTPResponse, url: str, start: int, total: int | None, *, append: bool
    ) -> int:
        limit = self.form.bytes + _SLACK if self.form.bytes is not None else None
        meter = Meter(self.form.name, url, start, total, self.progress)
        done = start
        with writing(self.part), self.part.open("ab" if append else "wb") as file:
            while chunk := self._read(response):
                file.write(chunk)
                done += len(chunk)
                meter.report(done)
                if limit is not None and done > limit:
                    break  # an endless answer: the checksum will refuse it
            _sync(file)
        meter.report(done, last=True)
        return done if limit is None or done <= limit else max(done, total or 0)

    @staticmethod
    def _read(response: http.client.HTTPResponse) -> bytes:
        try:
            return response.read(_CHUNK)
        except (OSError, http.client.HTTPException) as error:
            raise _Transient(_reason(error)) from error

    def _held(self) -> int:
        """Return the bytes of the part on disk; a part longer than the file can be is deleted."""
        try:
            size = self.part.stat().st_size
        except FileNotFoundError:
            return 0
        if self.form.bytes is not None and size > self.form.bytes:
            self.part.unlink()
            return 0
        return size


class Meter:
    """Calls back at most five times a second, and at the end."""

    def __init__(self, name: str, url: str, start: int, total: int | None, callback: ProgressCallback | None) -> None:
        self.name, self.url, self.start, self.total, self.callback = name, url, start, total, callback
        self.began = self.last = time.monotonic()

    def report(self, done: int, *, last: bool = False) -> None:
        now = time.monotonic()
        if self.callback is None or (not last and now - self.last < 0.2):
            return
        self.last = now
        rate = (done - self.start) / max(now - self.began, 1e-9)
        left = (self.total - done) / rate if self.total is not None and rate > 0 else None
        self.callback(
            Download(
                name=self.name,
                url=self.url,
                done_bytes=done,
                total_bytes=self.total,
                bytes_per_second=rate,
                seconds_left=left,
            )
        )


def sha256_of(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@contextlib.contextmanager
def locked(path: Path, timeout_seconds: float = 3600.0, *, waiting: Callable[[], None] | None = None) -> Iterator[None]:
    """Hold an exclusive lock that ends with the process; the file itself stays, because removing it would race.

    waiting: called once, when another process has held it for a second.
    """
    told_at = time.monotonic() + _TOLD_AFTER_SECONDS
    deadline = time.monotonic() + timeout_seconds
    with writing(path):
        file = path.open("ab")
    with file:
        while True:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError as error:
                if time.monotonic() >= deadline:
                    raise DataError(
                        f"{path}: another process has held this lock for {timeout_seconds:g} s; "
                        "end it, or set VAESVC_CACHE_DIR to another folder"
                    ) from error
                if waiting is not None and time.monotonic() >= told_at:
                    waiting()
                    waiting = None
                time.sleep(0.1)
            except OSError as error:  # some network file systems
                raise DataError(
                    f"cannot lock {path}: {error.strerror or error}; set VAESVC_CACHE_DIR to a folder on a disk whose "
                    "file system has locks"
                ) from error
        yield


@contextlib.contextmanager
def writing(path: Path) -> Iterator[None]:
    """Turn the disk's errors into one that names a remedy."""
    try:
        yield
    except OSError as error:
        mend = "free some space" if error.errno in _FULL else "make it writable"
        raise DataError(
            f"cannot write {path}: {error.strerror or error}; {mend}, or set VAESVC_CACHE_DIR elsewhere"
        ) from error


def _sync(file: IO[bytes]) -> None:
    file.flush()
    os.fsync(file.fileno())


def _through_proxy(url: str) -> str:
    """Return a remark on the proxy that the environment sets, without its user and password; empty: no proxy."""
    parts = urllib.parse.urlsplit(url)
    proxy = urllib.request.getproxies().get(parts.scheme)
    if proxy is None or urllib.request.proxy_bypass(parts.hostname or ""):
        return ""
    return f" (through the proxy {proxy.rpartition('@')[2]} of {parts.scheme}_proxy)"


def _reason(error: BaseException) -> str:
    inner = getattr(error, "reason", error)
    if isinstance(inner, TimeoutError):
        return "timed out"
    return str(inner) or type(inner).__name__


def _lines(causes: dict[str, str]) -> str:
    return "\n".join(f"  {url}: {cause}" for url, cause in causes.items())
