"""Where a split is kept while a run trains: on the device, in memory, or on the disk. The batches are the same bits.

device  whole on the device, batches are made there. On the CPU that is memory
host    whole in memory; the batches to come are gathered by threads, and on a GPU copied beside the computation
stream  on the disk; the batches to come are read by threads. For sets in their canonical form, and for those that a
        rule makes, which are made there in place of being read
auto    the first of these that has room for the whole set
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Literal, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from vae_models.data.batching import Indices, Reader, Resident, Rows, Values
from vae_models.data.config import DataConfig
from vae_models.data.errors import DataError, DataUnfit
from vae_models.data.masks import Masks
from vae_models.data.memory import free_bytes, free_host_bytes
from vae_models.data.prefetch import Prefetch
from vae_models.data.records import Dataset, Split, StoredSplit
from vae_models.records import NoiseSpec

Place = Literal["device", "host", "stream"]

ROOM = 0.5  # of what is free is for the data; the rest for the model, its optimizer and what a step computes
THREADS = 2  # that gather batches, for a split: one would wait for the disk
NAMES = ("train", "val", "test")


def place_of(
    config: DataConfig,
    dataset: Dataset,
    device: torch.device,
    *,
    workers: int = 1,
    free: Callable[[], int] | None = None,
) -> Place:
    """Return where the data are to be kept: as `config.residency` sets, or for auto the first place with room.

    workers: how many processes may share this machine, each with data of its own
    free:    bytes that are free on the device, measured where it is None

    Raise DataUnfit for `stream` where the data are not on a disk as they are needed.
    """
    stored = all(isinstance(getattr(dataset, name), StoredSplit) for name in NAMES)
    if config.residency == "stream" and not stored:
        raise DataUnfit(f"data.residency=stream reads batches from the disk, and {_why_in_memory(config)}")
    if config.residency != "auto":
        return config.residency
    needed = sum(_bytes(getattr(dataset, name).rows) for name in NAMES)
    on_gpu = device.type == "cuda"
    if not on_gpu and not stored:
        return "device"  # they are there
    if device.type != "meta" and needed > ROOM * (free or (lambda: free_bytes(device)))() / (1 if on_gpu else workers):
        in_memory = not stored or (on_gpu and needed <= ROOM * free_host_bytes() / workers)
        return "host" if in_memory else "stream"
    return "device"


def _why_in_memory(config: DataConfig) -> str:
    if config.noise.support is not None:
        return "data.noise is drawn for the whole set at once, which makes another set in memory: choose host or auto"
    return (
        f"{config.name} is decoded into memory whole: choose host or auto, or make a set of your own of it "
        "(vaesvc data add), which can be streamed"
    )


def _bytes(rows: Rows) -> int:
    return rows.shape.numel() * rows.dtype.itemsize


class Residence:
    """The splits of a set for runs on one device: each is brought there once, when it is first asked for."""

    def __init__(
        self, dataset: Dataset, config: DataConfig, device: torch.device, dtype: torch.dtype, *, workers: int = 1
    ) -> None:
        self.place: Place = place_of(config, dataset, device, workers=workers)
        self._dataset, self._config, self._device, self._dtype = dataset, config, device, dtype
        self._splits: dict[str, Resident] = {}

    def __getitem__(self, name: str) -> Resident:
        """Return the split of this name: train, val or test."""
        if name not in self._splits:
            split: Split | StoredSplit = getattr(self._dataset, name)
            self._splits[name] = reside(split, self._config, self._device, self._dtype, self.place)
        return self._splits[name]

    def masks(self, name: str, *, shortest: int | None = None) -> Masks:
        """Return which elements of the split's data are no padding, and how batches are cut. shortest: see `Masks`."""
        split: Split | StoredSplit = getattr(self._dataset, name)
        return Masks(split.lengths, self._dataset.shape, self._config.facts.axes, self._device, shortest=shortest)

    def close(self) -> None:
        """End the background work."""
        for split in self._splits.values():
            split.close()


def reside(
    split: Split | StoredSplit, config: DataConfig, device: torch.device, dtype: torch.dtype, place: Place
) -> Resident:
    """Return the split, kept at `place`. Raise DataUnfit for `stream` of a split in memory."""
    if place == "device":
        with _room(split, config, "the device"):
            return DeviceResident(split, config, device, dtype)
    if place == "host":
        with _room(split, config, "memory"):
            x = split.x
            return PrefetchedResident(x, _gather(x), config, device, dtype)
    if not isinstance(split, StoredSplit):
        raise DataUnfit(f"data.residency=stream reads batches from the disk, and {_why_in_memory(config)}")
    return PrefetchedResident(split.rows, split.rows.read, config, device, dtype)


@contextmanager
def _room(split: Split | StoredSplit, config: DataConfig, where: str) -> Iterator[None]:
    try:
        yield
    except (RuntimeError, MemoryError) as error:  # torch's OutOfMemoryError is a RuntimeError, and so is the CPU's
        if isinstance(error, RuntimeError) and "memory" not in str(error):
            raise
        stream = ", or to stream" if isinstance(split, StoredSplit) else ""
        raise DataError(
            f"{config.name}: {_bytes(split.rows):,} bytes of data have no room in {where}: set data.residency to auto"
            f"{stream}"
        ) from error


class DeviceResident:
    """A split that is on the device as it is stored; batches become x there. Memory: 1 or 4 bytes per element."""

    def __init__(
        self, split: Split | StoredSplit, config: DataConfig, device: torch.device, dtype: torch.dtype
    ) -> None:
        self._stored = split.x.to(device).contiguous()
        self._values = Values(self._stored, config, dtype)
        self.index_device = device

    def __len__(self) -> int:
        return self._stored.shape[0]

    def noise(self) -> Mapping[str, NoiseSpec]:
        return self._values.noise()

    def batch(self, indices: Tensor, noise: Mapping[str, Tensor]) -> Tensor:
        return self._values.x(self._stored.index_select(0, indices), noise)

    def reader(self, indices: Indices, *, rows: slice = slice(None), end: int) -> Reader:
        return Direct(self, indices, rows)

    def unfit(self, indices: Tensor) -> tuple[int, ...]:
        return _unfit(indices, self._stored.index_select(0, indices.to(self.index_device)))

    def close(self) -> None:
        pass


class Direct:
    """Batches that are made when they are asked for."""

    def __init__(self, data: Resident, indices: Indices, rows: slice) -> None:
        self._data, self._indices, self._rows = data, indices, rows

    def batch(self, step: int, noise: Mapping[str, Tensor]) -> Tensor:
        return self._data.batch(self._indices(step)[self._rows], noise)

    def close(self) -> None:
        pass


PinnableRead = Callable[..., list[Tensor]]  # (data of batches, *, pinned) -> a tensor in memory for each


@dataclass(frozen=True, kw_only=True)
class _Brought:
    """Stored values of a batch on the device; `copied`: when they are there, None where they are."""

    stored: Tensor
    copied: torch.cuda.Event | None = None


class PrefetchedResident:
    """A split in memory or on the disk, whose coming batches are gathered by threads.

    On a GPU they are gathered into pinned memory and copied by a stream of their own, beside the computation.
    """

    def __init__(
        self, stored: Rows, read: PinnableRead, config: DataConfig, device: torch.device, dtype: torch.dtype
    ) -> None:
        self._stored = stored
        self._read = read
        self._values = Values(stored, config, dtype)
        self._device = device
        self._copies = _stream(device) if device.type == "cuda" else None
        self._pool = ThreadPoolExecutor(THREADS, thread_name_prefix="batches")
        self.index_device = torch.device("cpu")

    def __len__(self) -> int:
        return len(self._stored)

    def noise(self) -> Mapping[str, NoiseSpec]:
        return self._values.noise()

    def batch(self, indices: Tensor, noise: Mapping[str, Tensor]) -> Tensor:
        return self.x(self._bring([indices.cpu().numpy()])[0], noise)

    def x(self, brought: _Brought, noise: Mapping[str, Tensor]) -> Tensor:
        """Return x of the data that are on the device, or on their way there."""
        if brought.copied is not None:
            computing = torch.cuda.current_stream(self._device)
            computing.wait_event(brought.copied)
            brought.stored.record_stream(computing)  # its memory is kept until the computation is done with it
        return self._values.x(brought.stored, noise)

    def reader(self, indices: Indices, *, rows: slice = slice(None), end: int) -> Reader:
        row = self._stored.shape[1:].numel() * self._stored.dtype.itemsize
        ahead = Prefetch(self._bring, indices, rows, end=end, datum_bytes=row, pool=self._pool)
        return _Ahead(self, ahead)

    def unfit(self, indices: Tensor) -> tuple[int, ...]:
        return _unfit(indices, self._read([indices.cpu().numpy()], pinned=False)[0])

    def close(self) -> None:
        """Close without waiting: the thread reads a few more batches at most, and then it ends."""
        self._pool.shutdown(wait=False, cancel_futures=True)

    def _bring(self, wanted: Sequence[NDArray[np.int64]]) -> list[_Brought]:
        if self._copies is None:
            return [_Brought(stored=stored.to(self._device)) for stored in self._read(wanted, pinned=False)]
        with torch.cuda.stream(self._copies):
            return [
                _Brought(stored=stored.to(self._device, non_blocking=True), copied=self._copies.record_event())
                for stored in self._read(wanted, pinned=True)
            ]


class _Ahead:
    """Batches of which the coming ones are being read."""

    def __init__(self, data: PrefetchedResident, ahead: Prefetch[_Brought]) -> None:
        self._data, self._ahead = data, ahead

    def batch(self, step: int, noise: Mapping[str, Tensor]) -> Tensor:
        return self._data.x(self._ahead.take(step), noise)

    def close(self) -> None:
        self._ahead.close()


def _gather(stored: Tensor) -> PinnableRead:
    """Return a function that reads from memory by numpy, in its own thread:
    torch's threads would compete with the model's.
    """
    held = stored.cpu().contiguous()
    array = held.numpy()

    def read(wanted: Sequence[NDArray[np.int64]], *, pinned: bool) -> list[Tensor]:
        batches = []
        for rows in wanted:
            batches.append(torch.empty((len(rows), *held.shape[1:]), dtype=held.dtype, pin_memory=pinned))
            np.take(array, rows, axis=0, out=batches[-1].numpy(), mode="clip")  # a plan's: none is outside
        return batches

    return read


def _stream(device: torch.device) -> torch.cuda.Stream:
    return torch.cuda.Stream(device)  # type: ignore[no-untyped-call]


def _unfit(indices: Tensor, chosen: Tensor) -> tuple[int, ...]:
    if not chosen.is_floating_point():
        return ()
    finite = chosen.isfinite().flatten(1).all(1).to(indices.device)
    return tuple(cast(list[int], indices[~finite].tolist()))
