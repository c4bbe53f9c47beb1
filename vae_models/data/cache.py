"""Sets by their digest on this machine: each is fetched once, and evicted when others need its room.

<cache>/own/<digest>/            a set, whole and looked through: it has its name since then
<cache>/own/.fetch-<digest>/     a set that is being fetched, or the part that a killed process left
<cache>/own/.gone-<digest>-PID/  a set that is being deleted
<cache>/own/.locks/<digest>      a lock of the process that fetches it
<cache>/own/.leases/<digest>     a shared lock of each process that uses it; its time is that of the last use
<cache>/own/.fetched/<digest>    it can be fetched again, so it may be evicted: a set that was decoded here has none

Locks end with their process, so a crash at any point leaves a whole set, or one whose fetching is gone on with.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Protocol

from vae_models.data import canonical, own, stored
from vae_models.data.canonical import Canonical, ShardFile
from vae_models.data.errors import DataCorrupt, DataError, DataMissing
from vae_models.data.fetch import Meter, ProgressCallback, check_room, locked, sha256_of, writing
from vae_models.data.stored import StoredSet

CACHE_BYTES = "VAESVC_CACHE_BYTES"
FILES_AT_ONCE = 4
TRIES = 2  # of a set whose bytes are not those of its digest

Told = Callable[[int], None]  # bytes that have come since the last call
Say = Callable[[str], None]


class Fetch(Protocol):
    """Where sets come from: a bucket, an address, a folder."""

    @property
    def source(self) -> str:
        """Return the source's name in messages."""
        ...

    def manifest(self, digest: str) -> bytes:
        """Return the bytes of the set's data.json. Raise DataMissing where the source has no such set."""
        ...

    def file(self, digest: str, file: ShardFile, into: Path, told: Told) -> None:
        """Write one file of the set to the path `into`; bytes there are the beginning from an earlier try.

        It is compared with its SHA-256 afterwards. Raise DataError where it cannot be fetched.
        """
        ...


@dataclass(frozen=True, kw_only=True)
class FolderFetch:
    """Sets from a folder that this machine has: that of one set, or one with a folder for each digest."""

    folder: Path

    @property
    def source(self) -> str:
        return str(self.folder)

    def manifest(self, digest: str) -> bytes:
        for folder in (self.folder / digest, self.folder):
            path = folder / canonical.DATA_JSON
            with suppress(OSError):
                if canonical.digest_of(encoded := path.read_bytes()) == digest:
                    return encoded
        raise DataMissing(f"{self.folder} has no set {digest}")

    def file(self, digest: str, file: ShardFile, into: Path, told: Told) -> None:
        folder = self.folder / digest if (self.folder / digest).is_dir() else self.folder
        try:
            with (folder / file.file).open("rb") as source, writing(into), into.open("wb") as target:
                while block := source.read(1 << 20):
                    target.write(block)
                    told(len(block))
        except FileNotFoundError as error:
            raise DataMissing(f"{folder} lacks {file.file}") from error


@dataclass(kw_only=True)
class Lease:
    """A set that stays while this is held: until `close`, or as long as anything refers to it, or the process lives."""

    stored: StoredSet
    _file: IO[bytes] = field(repr=False)

    def close(self) -> None:
        """Allow the set's eviction from now on, by any process that needs its room."""
        self._file.close()


def most_bytes_of_environment() -> int | None:
    """Return VAESVC_CACHE_BYTES: how many bytes fetched sets may take; None without it. Raise DataError."""
    text = os.environ.get(CACHE_BYTES, "")
    if not text:
        return None
    if not text.isdecimal() or int(text) < 1:
        raise DataError(f"{CACHE_BYTES}={text!r} is no number of bytes: a whole number above 0, or leave it out")
    return int(text)


def _say(sentence: str) -> None:
    sys.stderr.write(f"{sentence}\n")


@dataclass(frozen=True, kw_only=True)
class NodeCache:
    """The sets of this machine's cache, shared by all its processes.

    most_bytes: the most that fetched sets may take together; None: as much as the disk has
    say:        called with a sentence where a process waits, or a set is fetched again
    """

    cache_dir: Path
    most_bytes: int | None = None
    say: Say = _say
    lock_timeout_seconds: float = 3600.0

    @property
    def folder(self) -> Path:
        """Return the folder of all sets."""
        return own.folder(self.cache_dir)

    def lease(self, digest: str, fetch: Fetch | None = None, *, progress: ProgressCallback | None = None) -> Lease:
        """Return the set, fetched where it is missing or not whole; one process fetches it while the others wait.

        Its files' sizes are compared at every call, their SHA-256 when they were fetched.

        Raise DataMissing where it is neither here nor at the source of `fetch`, DataCorrupt where the source's files
        are not the set's, DataError where there is no room.
        """
        with writing(self.folder):
            for name in (".locks", ".leases", ".fetched"):
                (self.folder / name).mkdir(parents=True, exist_ok=True)
        file = self._use(digest)
        try:
            held = self._whole(digest, fetch) or self._fetched(digest, fetch, progress)
        except BaseException:
            file.close()
            raise
        return Lease(stored=held, _file=file)

    def _use(self, digest: str) -> IO[bytes]:
        """Take the set's lock against eviction; an eviction under way is waited for."""
        path = self.folder / ".leases" / digest
        with writing(path):
            file = path.open("ab")
            fcntl.flock(file, fcntl.LOCK_SH)
            os.utime(path)
        return file

    def _whole(self, digest: str, fetch: Fetch | None) -> StoredSet | None:
        """Return the set; None where it has to be fetched. Raise DataCorrupt for a damaged one that cannot be."""
        folder = self.folder / digest
        if not folder.is_dir():
            return None
        try:
            return stored.read(folder, digest=digest)
        except DataError as error:
            if fetch is None:
                raise
            self.say(f"{error}. It is fetched again")
            return None

    # --- fetching ---------------------------------------------------------------------------------------------------

    def _fetched(self, digest: str, fetch: Fetch | None, progress: ProgressCallback | None) -> StoredSet:
        if fetch is None:
            raise DataMissing(
                f"the set {digest} is not in {self.folder}, and nothing says where to fetch it from: "
                "vaesvc data add NAME PATH makes it anew of the same source"
            )
        waiting = f"another process fetches the set {digest[:12]}: waiting for it"
        lock = self.folder / ".locks" / digest
        with locked(lock, self.lock_timeout_seconds, waiting=lambda: self.say(waiting)):
            folder = self.folder / digest
            if folder.is_dir():
                with suppress(DataError):
                    return stored.read(folder, digest=digest)  # the other process has
                self._delete(digest)
            for tried in range(1, TRIES + 1):
                try:
                    self._fetch(digest, fetch, progress)
                    break
                except DataCorrupt as error:
                    if tried == TRIES:
                        raise
                    self.say(f"{error}. It is fetched again")
            return stored.read(folder, digest=digest)

    def _fetch(self, digest: str, fetch: Fetch, progress: ProgressCallback | None) -> None:
        encoded = fetch.manifest(digest)
        if canonical.digest_of(encoded) != digest:
            raise DataCorrupt(f"{fetch.source} has other bytes for the set {digest}: {canonical.digest_of(encoded)}")
        manifest = canonical.read(encoded, f"{fetch.source}: {digest}")
        draft = self.folder / f".fetch-{digest}"
        with writing(draft):
            draft.mkdir(exist_ok=True)
        self._make_room(digest, manifest, draft)
        self._fetch_files(digest, manifest, fetch, draft, progress)
        with writing(draft):
            (draft / canonical.DATA_JSON).write_bytes(encoded)
            for path in (*draft.iterdir(), draft):
                _sync(path)
            (self.folder / ".fetched" / digest).touch()
            draft.rename(self.folder / digest)
            _sync(self.folder)

    def _fetch_files(
        self, digest: str, manifest: Canonical, fetch: Fetch, draft: Path, progress: ProgressCallback | None
    ) -> None:
        """Fetch every file and check its sum; those that an earlier try left whole are kept."""
        done, lock = 0, threading.Lock()
        meter = Meter(f"data set {digest[:12]}", fetch.source, 0, manifest.bytes, progress)

        def told(count: int) -> None:
            nonlocal done
            with lock:
                done += count
                meter.report(done)

        def bring(file: ShardFile) -> None:
            path = draft / file.file
            if _is(path, file):
                return told(file.bytes)
            fetch.file(digest, file, path, told)
            if not _is(path, file):
                path.unlink(missing_ok=True)
                raise DataCorrupt(f"{fetch.source}: {file.file} of the set {digest[:12]} has other bytes")
            return None

        pool = ThreadPoolExecutor(FILES_AT_ONCE, thread_name_prefix="fetch")
        try:
            for _ in pool.map(bring, manifest.shards()):
                pass
        finally:
            pool.shutdown(cancel_futures=True)
        meter.report(manifest.bytes, last=True)

    # --- room -------------------------------------------------------------------------------------------------------

    def evictable(self) -> list[str]:
        """Return the digests of sets that can be fetched again, least recently used first."""
        named = {pointer.digest for pointer in own.pointers(self.cache_dir)}
        fetched = [path.name for path in (self.folder / ".fetched").glob("*") if (self.folder / path.name).is_dir()]
        return sorted((digest for digest in fetched if digest not in named), key=self._last_use)

    def _last_use(self, digest: str) -> float:
        """Return the time of the set's last use, seconds since 1970."""
        try:
            return (self.folder / ".leases" / digest).stat().st_mtime
        except OSError:
            return 0.0

    def _make_room(self, digest: str, manifest: Canonical, draft: Path) -> None:
        with locked(self.folder / ".locks" / "room", self.lock_timeout_seconds):
            self._sweep()
            if self.most_bytes is not None:
                self._evict_down_to(self.most_bytes, manifest.bytes)
            held = sum(path.stat().st_size for path in draft.iterdir())
            missing = manifest.bytes - held
            for other in self.evictable():
                if shutil.disk_usage(self.folder).free >= missing:
                    break
                self._evict(other)
            check_room(self.folder, missing, f"the data set {digest[:12]}")

    def _evict_down_to(self, most: int, needed: int) -> None:
        if needed > most:
            raise DataError(f"the set has {needed:,} bytes, more than the {most:,} of {CACHE_BYTES}: raise that")
        sizes = {other: _size(self.folder / other) for other in self.evictable()}
        taken = sum(sizes.values())
        for other, size in sizes.items():
            if taken + needed <= most:
                return
            if self._evict(other):
                taken -= size
        if taken + needed > most:
            raise DataError(
                f"the set has {needed:,} bytes, and sets that are in use have {taken:,} of the {most:,} of "
                f"{CACHE_BYTES}: raise that, or wait until what uses them has ended"
            )

    def _evict(self, digest: str) -> bool:
        """Delete a set unless it is in use. Return whether it was deleted."""
        with suppress(OSError), (self.folder / ".leases" / digest).open("ab") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                return False
            self._delete(digest)
            return True
        return False

    def _delete(self, digest: str) -> None:
        """Delete a set: it is renamed first, at once, so that other processes see a whole set or none."""
        gone = self.folder / f".gone-{digest}-{os.getpid()}"
        with writing(self.folder):
            (self.folder / digest).rename(gone)
            (self.folder / ".fetched" / digest).unlink(missing_ok=True)
        shutil.rmtree(gone, ignore_errors=True)

    def _sweep(self) -> None:
        """Delete what ended processes left: half a deleted set; half a set that nobody fetches, after a day."""
        for path in self.folder.glob(".gone-*"):
            shutil.rmtree(path, ignore_errors=True)
        for path in self.folder.glob(".fetch-*"):
            with suppress(OSError), (self.folder / ".locks" / path.name.removeprefix(".fetch-")).open("ab") as lock:
                old = time.time() - path.stat().st_mtime > _DAY_SECONDS
                if old and _free(lock):
                    shutil.rmtree(path, ignore_errors=True)


_DAY_SECONDS = 86400.0


def _free(lock: IO[bytes]) -> bool:
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _is(path: Path, file: ShardFile) -> bool:
    """Return whether the file is there whole, by its size and its SHA-256."""
    try:
        return path.stat().st_size == file.bytes and sha256_of(path) == file.sha256
    except OSError:
        return False


def _size(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.iterdir() if path.is_file())


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
