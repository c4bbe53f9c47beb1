"""The data of a split on a disk: gathered by position from its shards, by any number of threads.

The shards are mapped into memory, where gathering costs a copy and no call of the system for each datum. But where a
disk fails, or a file has been cut off, a process that touches a mapping is ended by a signal. So a part of a shard is
read by a call before it is first touched, and a shard's size is looked at before each gathering: the error says which
datum could not be read. What remains is a disk that fails at what it has given once and the system has dropped since.
"""

from __future__ import annotations

import math
import mmap
import os
import threading
import weakref
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from vae_models.data.canonical import DATA_JSON, SPLITS, SplitName
from vae_models.data.errors import DataCorrupt
from vae_models.data.records import Dataset, StoredSplit
from vae_models.data.stored import StoredSet

_DTYPES = {"uint8": torch.uint8, "float32": torch.float32, "int32": torch.int32}


Numbers = NDArray[np.int64]

PART_BYTES = 1 << 16  # of a shard that are read at once when one of their data is first needed


@dataclass(frozen=True, kw_only=True)
class Shard:
    """A file of rows: `rows` of them from byte `offset` on."""

    path: Path
    rows: int
    offset: int


class _Mapped:
    """One shard, open: what has been read of it by a call may be touched in its mapping."""

    def __init__(self, shard: Shard, first: int, row_bytes: int) -> None:
        self.shard = shard
        self.first = first  # its first datum's number in the split
        self.row_bytes = row_bytes
        self.part_bytes = max(PART_BYTES, row_bytes)  # so that a row lies in at most two parts
        try:
            with shard.path.open("rb") as file:
                held = mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ)
                self.file = os.dup(file.fileno())
                self.nowhere = os.open(os.devnull, os.O_WRONLY | os.O_CLOEXEC)
            held.madvise(mmap.MADV_RANDOM)  # data come in a random order
            whole = min(shard.rows, max(0, len(held) - shard.offset) // row_bytes)  # fewer where it has been cut off
            rows = np.frombuffer(held, np.uint8, whole * row_bytes, shard.offset if whole else 0)
        except (OSError, ValueError) as error:
            raise self._corrupt(0, str(error)) from error
        self.rows = rows.reshape(whole, row_bytes)
        self.read = np.zeros(-(-len(held) // self.part_bytes), np.bool_)  # by part
        weakref.finalize(self, _close, self.file, self.nowhere)

    def check(self, rows: Numbers) -> None:
        """Raise DataCorrupt for the first of these rows, counted in the shard, that cannot be touched."""
        starts = self.shard.offset + rows * self.row_bytes
        beyond = (rows >= len(self.rows)) | (starts + self.row_bytes > os.fstat(self.file).st_size)
        if beyond.any():
            raise self._corrupt(int(rows[beyond.argmax()]), "the file ends before it")
        first, last = starts // self.part_bytes, (starts + self.row_bytes - 1) // self.part_bytes
        new = ~(self.read[first] & self.read[last])
        for row, *parts in zip(rows[new].tolist(), first[new].tolist(), last[new].tolist(), strict=True):
            for part in parts:
                if not self.read[part]:
                    self._read(row, part)

    def read_rows(self, row: int, target: memoryview) -> None:
        """Fill `target` with rows from `row` on. Raise DataCorrupt for the first that cannot be read."""
        done = self._fill(row, self.shard.offset + row * self.row_bytes, target)
        if done < len(target):
            raise self._corrupt(row + done // self.row_bytes, "the file ends before it")

    def _read(self, row: int, part: int) -> None:
        """Have the system read a part, for the sake of `row`: it is sent to nowhere, which copies nothing."""
        position, end = part * self.part_bytes, (part + 1) * self.part_bytes
        try:
            while position < end and (count := os.sendfile(self.nowhere, self.file, position, end - position)):
                position += count
        except OSError as error:
            raise self._corrupt(row, error.strerror or str(error)) from error
        self.read[part] = True

    def _fill(self, row: int, position: int, target: memoryview) -> int:
        """Read until `target` is full or the file ends, for the sake of `row`. Return how many bytes were read."""
        done = 0
        try:
            while done < len(target) and (count := os.preadv(self.file, (target[done:],), position + done)):
                done += count
        except OSError as error:
            raise self._corrupt(row, error.strerror or str(error)) from error
        return done

    def _corrupt(self, row: int, why: str) -> DataCorrupt:
        return DataCorrupt(
            f"datum {self.first + row:,} cannot be read from {self.shard.path}: {why}; add or fetch the set again"
        )


def _close(*files: int) -> None:
    for file in files:
        os.close(file)


class ShardRows:
    """Rows of a split in shards, [n, *shape]. Files are opened at the first use of each, and closed with this.

    keep: what must not go while the rows are used: a lease of the set
    """

    def __init__(
        self, shards: Sequence[Shard], shape: tuple[int, ...], dtype: torch.dtype, *, keep: object = None
    ) -> None:
        self._keep = keep
        self._shards = tuple(shards)
        self._ends = np.cumsum([shard.rows for shard in shards])
        self.shape = torch.Size((int(self._ends[-1]), *shape))
        self.dtype = dtype
        self.row_bytes = math.prod(shape) * dtype.itemsize
        self._mapped: dict[int, _Mapped] = {}
        self._opening = threading.Lock()

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, index: slice) -> Tensor:
        """Return rows that follow each other, in memory: read, and not through the mappings.

        Raise DataCorrupt, with the datum and the file, where one cannot be read.
        """
        start, stop, step = index.indices(len(self))
        if step != 1:
            return self.read([np.arange(start, stop, step, dtype=np.int64)])[0]
        values = torch.empty((max(0, stop - start), *self.shape[1:]), dtype=self.dtype)
        target = values.view(-1).view(torch.uint8).numpy().data
        first = 0  # of a shard
        for number, shard in enumerate(self._shards):
            low, high = max(start, first), min(stop, first + shard.rows)
            if low < high:
                part = target[(low - start) * self.row_bytes : (high - start) * self.row_bytes]
                (self._mapped.get(number) or self._map(number)).read_rows(low - first, part)
            first += shard.rows
        return values

    def read(self, wanted: Sequence[Numbers], *, pinned: bool = False) -> list[Tensor]:
        """Return some batches of rows, each in its order: a tensor [its length, *shape] for each.

        pinned: in page-locked memory, which a GPU reads without the processor.
        Raise DataCorrupt, with the datum and the file, where one cannot be read.
        """
        batches = [torch.empty((len(rows), *self.shape[1:]), dtype=self.dtype, pin_memory=pinned) for rows in wanted]
        targets = [batch.view(-1).view(torch.uint8).numpy().reshape(-1, self.row_bytes) for batch in batches]
        rows = wanted[0] if len(wanted) == 1 else np.concatenate(wanted)
        shards = np.searchsorted(self._ends, rows, side="right")
        numbers = np.unique(shards).tolist()
        if len(numbers) == 1:  # as they lie
            source, places = self._checked(numbers[0], rows), rows - (self._mapped[numbers[0]].first)
        else:
            source, places = self._sorted(shards, rows)
        start = 0
        for target in targets:
            _take(source, places[start : start + len(target)], target)
            start += len(target)
        return batches

    def _sorted(self, shards: Numbers, rows: Numbers) -> tuple[NDArray[np.uint8], Numbers]:
        """Return the rows in memory, shard by shard: one copy more of each, and no loop over shards for every batch."""
        order = np.argsort(shards, kind="stable")
        places = np.empty_like(order)
        places[order] = np.arange(len(order))
        counts = np.bincount(shards, minlength=len(self._shards))
        gathered, start = np.empty((len(rows), self.row_bytes), np.uint8), 0
        for number in np.flatnonzero(counts).tolist():
            part = slice(start, start + int(counts[number]))
            chosen = rows[order[part]]
            _take(self._checked(number, chosen), chosen - self._mapped[number].first, gathered[part])
            start = part.stop
        return gathered, places

    def _checked(self, number: int, rows: Numbers) -> NDArray[np.uint8]:
        """Return the mapping of a shard, after checking that these rows of the split can be read."""
        shard = self._mapped.get(number) or self._map(number)
        shard.check(rows - shard.first)
        return shard.rows

    def _map(self, number: int) -> _Mapped:
        with self._opening:
            if number not in self._mapped:
                shard = self._shards[number]
                first = int(self._ends[number]) - shard.rows
                self._mapped[number] = _Mapped(shard, first, self.row_bytes)
            return self._mapped[number]


def _take(source: NDArray[np.uint8], places: Numbers, target: NDArray[np.uint8]) -> None:
    np.take(source, places, axis=0, out=target, mode="clip")  # clip: no copy of `target` on the way; none is outside


def opened(name: str, stored: StoredSet, *, keep: object = None) -> Dataset:
    """Return a set in its canonical form as a data set: x stays on the disk, labels and lengths are in memory.

    keep: an object to hold while the set is used: its lease

    Raise DataCorrupt for a file that differs from data.json.
    """
    train, val, test = (_split(stored, split, keep) for split in SPLITS)
    return Dataset(
        name=name,
        train=train,
        val=val,
        test=test,
        shape=stored.spec.shape,
        labels=stored.spec.labels,
        sources={DATA_JSON: stored.digest},
        vocabulary=stored.vocabulary,
    )


def _split(stored: StoredSet, split: SplitName, keep: object) -> StoredSplit:
    held = stored.x(split)  # the maps are looked at, and not kept: their heads are what data.json says
    files = stored.manifest.splits[split].x
    row_bytes = stored.spec.elements * held.dtype.itemsize
    shards = [
        Shard(path=stored.folder / file.file, rows=file.rows, offset=file.bytes - file.rows * row_bytes)
        for file in files
    ]
    labels, lengths = stored.labels(split), stored.lengths(split)
    return StoredSplit(
        rows=ShardRows(shards, stored.spec.shape, _DTYPES[str(held.dtype)], keep=keep),
        labels=None if labels is None else torch.from_numpy(labels.copy()),
        lengths=None if lengths is None else torch.from_numpy(lengths.astype(np.int64)),
    )
