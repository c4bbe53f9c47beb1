"""The data of a split on a disk: read by position from its shards, a row at a time, by any number of threads.

The shards can be mapped into memory, and this reads them without: where a disk fails, or a file has been cut off, a
mapping ends the process by a signal, and a read says which datum it was.
"""

from __future__ import annotations

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


@dataclass(frozen=True, kw_only=True)
class Shard:
    """A file of rows: `rows` of them from byte `offset` on."""

    path: Path
    rows: int
    offset: int


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
        self.datum_bytes = int(np.prod(shape)) * dtype.itemsize
        self._files: dict[int, int] = {}  # shard -> file descriptor
        self._opening = threading.Lock()
        weakref.finalize(self, _close, self._files)

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, index: slice) -> Tensor:
        """Return rows that follow each other, in memory."""
        return self.read(np.arange(*index.indices(len(self)), dtype=np.int64))

    def read(self, rows: NDArray[np.int64], *, pinned: bool = False) -> Tensor:
        """Return these rows in their order, [len(rows), *shape].

        pinned: in memory that a GPU reads without the processor.
        Raises DataCorrupt, with the datum and the file, where one cannot be read.
        """
        values = torch.empty((len(rows), *self.shape[1:]), dtype=self.dtype, pin_memory=pinned)
        if not len(rows):
            return values
        target = values.view(-1).view(torch.uint8).numpy().data
        shards = np.searchsorted(self._ends, rows, side="right")
        runs = np.flatnonzero((np.diff(rows) != 1) | (np.diff(shards) != 0)) + 1  # where no read can go on
        starts = [0, *runs.tolist()]
        for start, stop in zip(starts, [*starts[1:], len(rows)], strict=True):
            part = target[start * self.datum_bytes : stop * self.datum_bytes]
            self._read_run(int(shards[start]), int(rows[start]), part)
        return values

    def _read_run(self, number: int, row: int, target: memoryview) -> None:
        """Data that follow each other in a shard, from `row` on."""
        shard = self._shards[number]
        first = row - (int(self._ends[number]) - shard.rows)
        position, done = shard.offset + first * self.datum_bytes, 0
        while done < len(target):
            try:
                count = os.preadv(self._file(number), (target[done:],), position + done)
            except OSError as error:
                raise self._corrupt(shard, row + done // self.datum_bytes, error.strerror or str(error)) from error
            if not count:
                raise self._corrupt(shard, row + done // self.datum_bytes, "the file ends before it")
            done += count

    def _corrupt(self, shard: Shard, datum: int, why: str) -> DataCorrupt:
        return DataCorrupt(f"datum {datum:,} cannot be read from {shard.path}: {why}; add or fetch the set again")

    def _file(self, number: int) -> int:
        file = self._files.get(number)
        if file is None:
            with self._opening:
                if number not in self._files:
                    opened = os.open(self._shards[number].path, os.O_RDONLY | os.O_CLOEXEC)
                    os.posix_fadvise(opened, 0, 0, os.POSIX_FADV_RANDOM)  # data come in a random order
                    self._files[number] = opened
                file = self._files[number]
        return file


def _close(files: dict[int, int]) -> None:
    for file in files.values():
        os.close(file)
    files.clear()


def opened(name: str, stored: StoredSet, *, keep: object = None) -> Dataset:
    """Return a set in its canonical form as a data set: x stays on the disk, labels and lengths are in memory.

    keep: what must not go while the set is used: its lease

    Raises DataCorrupt for a file that is not what data.json says.
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
