"""Rows of a split that a rule makes from their numbers, when they are read: any number of them, none stored."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from vae_models.data.records import ReadRows

Numbers = NDArray[np.int64]
Make = Callable[[Numbers], NDArray[np.uint8]]  # numbers of rows [n] -> the rows, [n, *shape]

_AT_ONCE = 1 << 24  # bytes of rows that are made together: what a rule allocates beside them is a few times as much


class ComputedRows:
    """Bytes of a split, [count, *shape]: row i is what `make` makes of i, a pure function, called by several threads.

    They are gathered as those of a disk are (`shards.ShardRows`): a step's batch ahead of the step, or all at once
    where the whole split is wanted in memory.
    """

    dtype = torch.uint8

    def __init__(self, make: Make, count: int, shape: tuple[int, ...]) -> None:
        self._make = make
        self.shape = torch.Size((count, *shape))

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, index: slice) -> Tensor:
        """Return the rows of a slice, in memory."""
        return self.read([np.arange(*index.indices(len(self)), dtype=np.int64)])[0]

    def read(self, wanted: Sequence[Numbers], *, pinned: bool = False) -> list[Tensor]:
        """Return some batches of rows, each in its order: a tensor [its length, *shape] for each.

        pinned: in page-locked memory, which a GPU reads without the processor.
        """
        size = max(1, _AT_ONCE // self.shape[1:].numel())
        batches = []
        for numbers in wanted:
            batch = torch.empty((len(numbers), *self.shape[1:]), dtype=self.dtype, pin_memory=pinned)
            target = batch.numpy()
            for start in range(0, len(numbers), size):
                target[start : start + size] = self._make(numbers[start : start + size])
            batches.append(batch)
        return batches


class Beginnings:
    """The first frames of each row of others, [n, time, ...]."""

    def __init__(self, rows: ReadRows, frames: int) -> None:
        """Take the first `frames`, fewer than there are."""
        self._rows, self._frames = rows, frames
        self.dtype = rows.dtype
        self.shape = torch.Size((len(rows), frames, *rows.shape[2:]))

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, index: slice) -> Tensor:
        """Return the beginnings of a slice, in memory."""
        return self.read([np.arange(*index.indices(len(self)), dtype=np.int64)])[0]

    def read(self, wanted: Sequence[Numbers], *, pinned: bool = False) -> list[Tensor]:
        """Return some batches of beginnings: see `records.ReadRows.read`."""
        size = max(1, _AT_ONCE // self._rows.shape[1:].numel())
        batches = []
        for numbers in wanted:
            batch = torch.empty((len(numbers), *self.shape[1:]), dtype=self.dtype, pin_memory=pinned)
            for start in range(0, len(numbers), size):
                (whole,) = self._rows.read([numbers[start : start + size]])
                batch[start : start + size] = whole[:, : self._frames]
            batches.append(batch)
        return batches
