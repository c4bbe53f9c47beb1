"""Arrays larger than memory: read from their beginning to their end, a block of data at a time."""

from __future__ import annotations

import math
import zipfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import IO, Any, Protocol

import numpy as np
from numpy.typing import NDArray

from vae_models.data.errors import DataRefused

BLOCK_BYTES = 1 << 22  # of a block as it lies in the source

Array = NDArray[Any]


class Blocks(Protocol):
    """An array, the first dimension of which counts the data."""

    @property
    def shape(self) -> tuple[int, ...]: ...

    @property
    def dtype(self) -> np.dtype[Any]: ...

    def __iter__(self) -> Iterator[Array]: ...


def rows_at_once(shape: tuple[int, ...], dtype: np.dtype[Any]) -> int:
    """Return how many data make a block."""
    return max(1, BLOCK_BYTES // max(1, math.prod(shape[1:]) * dtype.itemsize))


@dataclass(frozen=True, eq=False)
class Sliced:
    """Anything that is sliced as an array is: an array, a memory map, a data set of HDF5, a slice of safetensors.

    axis:     which dimension of it counts the data
    reversed: its dimensions are in the opposite order (MATLAB's, as HDF5 sees them)
    """

    source: Any
    full_shape: tuple[int, ...]
    dtype: np.dtype[Any]
    axis: int = 0
    reversed: bool = False

    @property
    def shape(self) -> tuple[int, ...]:
        """Return the number of data first, then the other dimensions in their order."""
        return (self.full_shape[self.axis], *self.full_shape[: self.axis], *self.full_shape[self.axis + 1 :])

    def along(self, axis: int) -> Sliced:
        """Return the same with another dimension that counts the data."""
        return Sliced(self.source, self.full_shape, self.dtype, axis, self.reversed)

    def __iter__(self) -> Iterator[Array]:
        count, step = self.full_shape[self.axis], rows_at_once(self.shape, self.dtype)
        dimensions = len(self.full_shape)
        for start in range(0, count, step):
            part = slice(start, min(start + step, count))
            axis = dimensions - 1 - self.axis if self.reversed else self.axis
            index = tuple(part if at == axis else slice(None) for at in range(dimensions))
            block = np.asarray(self.source[index])
            if self.reversed:
                block = block.transpose()
            yield np.moveaxis(block, self.axis, 0)


def of_array(array: Array, axis: int = 0) -> Sliced:
    """Return the blocks of an array or memory map."""
    return Sliced(array, array.shape, array.dtype, axis)


@dataclass(frozen=True, eq=False)
class Zipped:
    """A member of a .npz, which may be compressed: unpacked as it is read, never as a whole."""

    path: str
    member: str
    shape: tuple[int, ...]
    dtype: np.dtype[Any]

    def __iter__(self) -> Iterator[Array]:
        step = rows_at_once(self.shape, self.dtype)
        row_bytes = math.prod(self.shape[1:]) * self.dtype.itemsize
        with zipfile.ZipFile(self.path) as archive, archive.open(self.member) as file:
            npy_header(file)
            for start in range(0, self.shape[0], step):
                rows = min(step, self.shape[0] - start)
                read = file.read(rows * row_bytes)
                if len(read) != rows * row_bytes:
                    raise DataRefused(f"{self.path} ends in the middle of {self.member}")
                yield np.frombuffer(read, self.dtype).reshape(rows, *self.shape[1:])


def npy_header(file: IO[bytes]) -> tuple[tuple[int, ...], bool, np.dtype[Any]]:
    """Read the head of a .npy: its shape, whether it is in column-major order, and its type.

    Raise ValueError for bytes that are none.
    """
    version = np.lib.format.read_magic(file)
    if version == (1, 0):
        return np.lib.format.read_array_header_1_0(file)
    if version == (2, 0):
        return np.lib.format.read_array_header_2_0(file)
    raise ValueError(f"version {version} of the format is not read here")


@dataclass(frozen=True, eq=False)
class Joined:
    """Arrays one after the other: the splits of a file that has them apart."""

    parts: tuple[Blocks, ...]

    @property
    def shape(self) -> tuple[int, ...]:
        """Return the number of all data, then a datum's dimensions."""
        return (sum(part.shape[0] for part in self.parts), *self.parts[0].shape[1:])

    @property
    def dtype(self) -> np.dtype[Any]:
        """Return the type that holds the values of all."""
        dtype: np.dtype[Any] = np.result_type(*(part.dtype for part in self.parts))
        return dtype

    def __iter__(self) -> Iterator[Array]:
        for part in self.parts:
            yield from part


def whole(blocks: Blocks) -> Array:
    """Return everything as one array; used for labels."""
    parts: Sequence[Array] = list(blocks)
    return np.concatenate(parts) if len(parts) > 1 else parts[0]
