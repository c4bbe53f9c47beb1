"""Writes the canonical form: whole or not at all.

A set is written into a folder `.draft-…` beside where it will be, which no reader takes for a set, and renamed to its
digest when everything is on disk. A draft belongs to the process that holds the lock on its file `.lock`; what a killed
process left is swept away by the next one. Rows may be written in any order and by any number of processes, since each
has its place from the beginning: the files do not depend on who wrote them.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray
from pydantic import JsonValue

from vae_models.data import canonical, stored
from vae_models.data.canonical import SPLITS, Canonical, ShardFile, SplitFiles, SplitName
from vae_models.data.errors import DataError
from vae_models.data.fetch import check_room, locked, writing
from vae_models.data.spec import DataSpec

_DRAFT = ".draft-"
_LOCK = ".lock"
_HEADER_BYTES = 128  # of a .npy of version 1.0; a multiple of 64 that has room for six dimensions
_MOVED_BYTES = 1 << 24  # at a time, when rows are left out
_SMALL = 1 << 20  # bytes for data.json and headers, when room is checked


def header(shape: tuple[int, ...], dtype: np.dtype[Any]) -> bytes:
    """Return the head of a .npy in C order: 128 bytes, the same under every version of numpy."""
    text = f"{{'descr': '{dtype.str}', 'fortran_order': False, 'shape': {tuple(map(int, shape))!r}, }}"
    size = _HEADER_BYTES
    while len(text) + 11 > size:
        size += 64
    padded = text.encode("ascii").ljust(size - 11) + b"\n"
    return b"\x93NUMPY\x01\x00" + len(padded).to_bytes(2, "little") + padded


@dataclass(frozen=True, kw_only=True)
class Shards:
    """Where the rows of one split lie. Sent to the processes that decode; writes nothing until asked.

    count: rows in all; each shard but the last has `per_shard` of them
    """

    folder: Path
    split: SplitName
    count: int
    shape: tuple[int, ...]
    dtype: np.dtype[Any]

    @property
    def row_bytes(self) -> int:
        """Return the bytes of one datum."""
        return int(np.prod(self.shape, dtype=np.int64)) * self.dtype.itemsize

    @property
    def per_shard(self) -> int:
        """Return the rows of a full shard. Raise `DataError` where one datum is larger than a shard may be."""
        rows = (canonical.SHARD_BYTES - _HEADER_BYTES) // self.row_bytes
        if rows < 1:
            raise DataError(
                f"a datum of shape {list(self.shape)} has {self.row_bytes:,} bytes, and at most "
                f"{canonical.SHARD_BYTES - _HEADER_BYTES:,} are taken: make it smaller"
            )
        return rows

    @property
    def rows(self) -> list[int]:
        """Return how many rows each shard has."""
        per = self.per_shard
        return [min(per, self.count - start) for start in range(0, self.count, per)]

    def path(self, shard: int) -> Path:
        """Return the path of the shard of this number."""
        return self.folder / f"{self.split}-x-{shard:05d}.npy"

    def create(self) -> None:
        """Make all files, with their heads and their whole size: a full disk is found now and not half-way."""
        for shard, rows in enumerate(self.rows):
            with writing(self.folder), self.path(shard).open("xb") as file:
                head = header((rows, *self.shape), self.dtype)
                file.write(head)
                file.flush()
                os.posix_fallocate(file.fileno(), 0, len(head) + rows * self.row_bytes)

    def write(self, start: int, block: NDArray[Any]) -> None:
        """Write consecutive rows from `start` on; `block` is [k, *shape] of the type of the set."""
        assert (block.dtype, block.shape[1:]) == (self.dtype, self.shape)
        assert 0 <= start <= self.count - len(block)
        for path, offset, first, rows in self._pieces(start, len(block)):
            content = np.ascontiguousarray(block[first : first + rows])
            with writing(self.folder):
                _write_at(path, content, offset)

    def read(self, start: int, rows: int) -> NDArray[Any]:
        """Return consecutive rows that have been written."""
        block = np.empty((rows, *self.shape), self.dtype)
        for path, offset, first, count in self._pieces(start, rows):
            with writing(self.folder):
                read = np.fromfile(path, self.dtype, count * self.row_bytes // self.dtype.itemsize, offset=offset)
            block[first : first + count] = read.reshape(count, *self.shape)
        return block

    def keep(self, kept: NDArray[np.bool_]) -> Shards:
        """Close the gaps of rows that are not kept, in place; return the shards of the remaining rows."""
        numbers = np.flatnonzero(kept)
        at_once = max(1, _MOVED_BYTES // self.row_bytes)
        first_moved = int(np.argmin(kept)) if len(numbers) < self.count else self.count
        for start in range(first_moved, len(numbers), at_once):
            chosen = numbers[start : start + at_once]
            for run in np.split(chosen, np.flatnonzero(np.diff(chosen) > 1) + 1):
                self.write(start + int(np.searchsorted(chosen, run[0])), self.read(int(run[0]), len(run)))
        shorter = Shards(folder=self.folder, split=self.split, count=len(numbers), shape=self.shape, dtype=self.dtype)
        shorter._cut(len(self.rows))
        return shorter

    def _cut(self, before: int) -> None:
        rows = self.rows
        with writing(self.folder):
            for shard in range(len(rows), before):
                self.path(shard).unlink()
            for shard, count in enumerate(rows):
                head = header((count, *self.shape), self.dtype)
                with self.path(shard).open("r+b") as file:
                    file.write(head)
                    file.truncate(len(head) + count * self.row_bytes)

    def _pieces(self, start: int, rows: int) -> Iterator[tuple[Path, int, int, int]]:
        """Yield (file, offset in it, first row of the block, rows) for each shard that a block touches."""
        per, first = self.per_shard, 0
        while first < rows:
            shard, local = divmod(start + first, per)
            count = min(per - local, rows - first)
            size = len(header((self.rows_of(shard), *self.shape), self.dtype))
            yield self.path(shard), size + local * self.row_bytes, first, count
            first += count

    def rows_of(self, shard: int) -> int:
        """Return how many rows the shard of this number has."""
        return min(self.per_shard, self.count - shard * self.per_shard)


def _write_at(path: Path, content: NDArray[Any], offset: int) -> None:
    left = content.data.cast("B")
    descriptor = os.open(path, os.O_WRONLY)
    try:
        while left:
            written = os.pwrite(descriptor, left, offset)
            left, offset = left[written:], offset + written
    finally:
        os.close(descriptor)


@dataclass(kw_only=True)
class Draft:
    """A set that is being written. Made by `draft`."""

    into: Path
    folder: Path
    workers: int
    x: dict[SplitName, Shards] = field(default_factory=dict)
    _labels: dict[SplitName, ShardFile] = field(default_factory=dict)
    _lengths: dict[SplitName, ShardFile] = field(default_factory=dict)
    _files: dict[str, ShardFile] = field(default_factory=dict)

    def allocate(
        self, counts: Mapping[SplitName, int], shape: tuple[int, ...], dtype: np.dtype[Any]
    ) -> dict[SplitName, Shards]:
        """Make the shards of all splits, after checking that the disk has room. Earlier shards are deleted."""
        for shards in self.x.values():
            for shard in range(len(shards.rows)):
                shards.path(shard).unlink()
        self.x = {
            split: Shards(folder=self.folder, split=split, count=counts[split], shape=shape, dtype=dtype)
            for split in SPLITS
        }
        needed = sum(shards.count * shards.row_bytes for shards in self.x.values())
        check_room(self.folder, needed + _SMALL, "the data set")
        for shards in self.x.values():
            shards.create()
        return self.x

    def write(self, of: NDArray[np.uint8], rows: NDArray[np.int64], block: NDArray[Any]) -> None:
        """Write data that follow each other in their source: `of` is the split of each (0, 1, 2), `rows` the row in it.

        Within a split, they follow each other too.
        """
        for number, split in enumerate(SPLITS):
            if (mine := of == number).any():
                self.x[split].write(int(rows[mine][0]), block[mine])

    def keep(self, kept: Mapping[SplitName, NDArray[np.bool_]]) -> None:
        """Keep the marked rows, and remove the others."""
        self.x = {split: shards.keep(kept[split]) for split, shards in self.x.items()}

    def labels(self, split: SplitName, values: NDArray[Any]) -> None:
        """Write the labels of a split, [n] or [n, k], int64 or float32."""
        self._labels[split] = self._file(f"{split}-labels.npy", values)

    def lengths(self, split: SplitName, values: NDArray[np.int32]) -> None:
        """Write how long each datum of a split is along "time", [n]."""
        self._lengths[split] = self._file(f"{split}-lengths.npy", values)

    def texts(self, name: str, values: Sequence[str]) -> None:
        """Write a list of texts that belongs to `made` and is too large for it: the vocabulary."""
        self._files[name] = self._file(f"{name}.npy", np.frombuffer(canonical.encode(list(values)), np.uint8))

    def numbers(self, name: str, values: NDArray[Any]) -> None:
        """Write an array that belongs to `made` and is too large for it."""
        self._files[name] = self._file(f"{name}.npy", values)

    def _file(self, name: str, values: NDArray[Any]) -> ShardFile:
        values = np.ascontiguousarray(values)
        content, path = header(values.shape, values.dtype) + values.tobytes(), self.folder / name
        with writing(path):
            path.write_bytes(content)
        return ShardFile(file=name, rows=len(values), bytes=len(content), sha256=canonical.digest_of(content))

    def finish(
        self,
        spec: DataSpec,
        *,
        made: Mapping[str, JsonValue],
        source: Mapping[str, JsonValue],
        progress: stored.BytesProgress | None = None,
    ) -> Path:
        """Compute the checksums, write data.json, sync everything to the disk and give the folder its name: the digest.

        Return the set's folder. Where the same set exists already and is whole, it stays, and the draft is deleted.
        """
        shards = [
            (split, number, self.x[split].path(number)) for split in SPLITS for number in range(len(self.x[split].rows))
        ]
        sums = stored.sha256_of_files([path for _, _, path in shards], progress, workers=self.workers)
        x: dict[SplitName, list[ShardFile]] = {split: [] for split in SPLITS}
        for (split, number, path), sha256 in zip(shards, sums, strict=True):
            rows = self.x[split].rows_of(number)
            x[split].append(ShardFile(file=path.name, rows=rows, bytes=path.stat().st_size, sha256=sha256))
        splits = {
            split: SplitFiles(
                count=self.x[split].count,
                x=tuple(x[split]),
                labels=self._labels.get(split),
                lengths=self._lengths.get(split),
            )
            for split in SPLITS
        }
        manifest = Canonical(spec=spec, splits=splits, files=self._files, made=dict(made), source=dict(source))
        plain = manifest.model_dump(mode="json")
        # a later version may know more facts: what is not said here must not change what a digest is of
        plain["spec"] = spec.model_dump(mode="json", exclude_defaults=True)
        encoded = canonical.encode(plain)
        if len(encoded) > canonical.MOST_JSON_BYTES:
            raise DataError(
                f"{canonical.DATA_JSON} would have {len(encoded):,} bytes, and at most {canonical.MOST_JSON_BYTES:,} "
                f"are taken: {len(manifest.shards()):,} files, and the names of classes and columns"
            )
        return self._named(encoded)

    def _named(self, encoded: bytes) -> Path:
        target = self.into / canonical.digest_of(encoded)
        with writing(self.folder):
            (self.folder / canonical.DATA_JSON).write_bytes(encoded)
            for path in self.folder.iterdir():
                _sync(path)
            _sync(self.folder)
        with locked(self.into / _LOCK), writing(target):
            if not _whole(target):
                if target.exists():
                    shutil.rmtree(target)
                (self.folder / _LOCK).unlink()
                self.folder.rename(target)
                _sync(self.into)
        return target


def _whole(folder: Path) -> bool:
    try:
        stored.read(folder, digest=folder.name)
    except DataError:
        return False
    return True


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextmanager
def draft(into: Path, *, workers: int = 4) -> Iterator[Draft]:
    """Yield a draft below `into`; at the end nothing of it is left but a set that was finished.

    Raise `DataError` where nothing can be written there.
    """
    with writing(into):
        into.mkdir(parents=True, exist_ok=True)
    with locked(into / _LOCK):
        _sweep(into)
        with writing(into):
            folder = Path(tempfile.mkdtemp(prefix=_DRAFT, dir=into))
            folder.chmod(0o777 & ~_umask())  # mkdtemp lets this user alone in; a cache may be shared
            lock = (folder / _LOCK).open("wb")
            fcntl.flock(lock, fcntl.LOCK_EX)
    with lock:
        _HELD.add(lock)
        try:
            yield Draft(into=into, folder=folder, workers=workers)
        finally:
            _HELD.discard(lock)
            shutil.rmtree(folder, ignore_errors=True)


_HELD: set[IO[bytes]] = set()


def _let_go() -> None:
    """Close the locks in a process that was forked: they are its parent's, and must end with it."""
    for lock in _HELD:
        os.close(lock.fileno())
    _HELD.clear()


os.register_at_fork(after_in_child=_let_go)


def _sweep(into: Path) -> None:
    """Delete the drafts of processes that no longer run."""
    for folder in into.glob(f"{_DRAFT}*"):
        with suppress(OSError), (folder / _LOCK).open("ab") as lock:
            if _free(lock):
                shutil.rmtree(folder, ignore_errors=True)


def _free(lock: IO[bytes]) -> bool:
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _umask() -> int:
    current = os.umask(0o022)
    os.umask(current)
    return current
