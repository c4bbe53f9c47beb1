"""Opens a folder with a set in its canonical form (`canonical`): facts at once, values through memory maps.

    train-x-00000.npy   [rows, *shape]: uint8 (bits as 0 and 255, bytes), float32 (unit, reals) or int32 (tokens)
    train-labels.npy    [n] or [n, k], int64 (classes) or float32 (quantities), where there are any
    train-lengths.npy   [n], int32, where data have lengths of their own along "time"

Importing this needs neither torch nor what makes the form (`ingest`).
"""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vae_models.data import canonical
from vae_models.data.canonical import Canonical, ShardFile
from vae_models.data.errors import DataCorrupt, DataMissing
from vae_models.data.spec import DataSpec

SplitName = canonical.SplitName
SPLITS = canonical.SPLITS
VOCABULARY = "vocabulary"  # the file of tokens
_LABELS = (np.dtype("<i8"), np.dtype("<f4"))
_LENGTHS = (np.dtype("<i4"),)
_READ_BYTES = 1 << 20

Array = NDArray[Any]
BytesProgress = Callable[[int, int], None]  # done, of how many bytes


@dataclass(frozen=True, eq=False)
class Rows:
    """The data of a split as one array [count, *shape], read through the memory maps of its shards.

    What is returned by `take` and by a slice is a copy in memory; a single row is a view of the map, read-only.
    """

    shards: tuple[Array, ...]
    starts: NDArray[np.int64] = field(init=False)  # the first row of each shard

    def __post_init__(self) -> None:
        counts = [len(shard) for shard in self.shards]
        object.__setattr__(self, "starts", np.cumsum([0, *counts[:-1]], dtype=np.int64))

    @property
    def shape(self) -> tuple[int, ...]:
        """Return [count, *shape of a datum]."""
        return (len(self), *self.shards[0].shape[1:])

    @property
    def dtype(self) -> np.dtype[Any]:
        """Return the type of the numbers: uint8, float32 or int32."""
        dtype: np.dtype[Any] = self.shards[0].dtype
        return dtype

    def __len__(self) -> int:
        return int(self.starts[-1]) + len(self.shards[-1])

    def __getitem__(self, index: int | slice) -> Array:
        """Return one row, or a copy of several."""
        if isinstance(index, slice):
            return self.take(np.arange(*index.indices(len(self)), dtype=np.int64))
        row = range(len(self))[index]  # negative ones too; IndexError
        shard = int(np.searchsorted(self.starts, row, side="right")) - 1
        datum: Array = self.shards[shard][row - int(self.starts[shard])]
        return datum

    def take(self, rows: NDArray[np.integer[Any]], out: Array | None = None) -> Array:
        """Return the rows of these numbers, in their order, [len(rows), *shape]; into `out` where it is given.

        Raise `IndexError` for a row that does not exist.
        """
        if len(rows) and not (int(rows.min()) >= 0 and int(rows.max()) < len(self)):
            raise IndexError(f"rows {rows.min()} to {rows.max()} of {len(self):,}")
        taken = np.empty((len(rows), *self.shape[1:]), self.dtype) if out is None else out
        if len(self.shards) == 1:
            return np.take(self.shards[0], rows, axis=0, out=taken, mode="clip")
        of_shard = np.searchsorted(self.starts, rows, side="right") - 1
        for shard in np.unique(of_shard):
            chosen = of_shard == shard
            taken[chosen] = self.shards[shard][rows[chosen] - self.starts[shard]]
        return taken


@dataclass(frozen=True, kw_only=True)
class StoredSet:
    """A set in its canonical form. `spec` has the digest. Pass `folder` to another process, not the set."""

    folder: Path
    digest: str
    spec: DataSpec
    manifest: Canonical

    def x(self, split: SplitName) -> Rows:
        """Return the data of a split. Raise `DataCorrupt` for a shard that differs from data.json."""
        return self._mapped[split]

    def labels(self, split: SplitName) -> Array | None:
        """Return the labels of a split, [n] or [n, k], int64 or float32; None where the set has none."""
        entry = self.manifest.splits[split].labels
        return None if entry is None else np.asarray(_mapped(self.folder / entry.file, entry, None, _LABELS))

    def lengths(self, split: SplitName) -> NDArray[np.int32] | None:
        """Return how long each datum of a split is along "time", [n]; None where all have the whole length."""
        entry = self.manifest.splits[split].lengths
        return None if entry is None else np.asarray(_mapped(self.folder / entry.file, entry, (), _LENGTHS))

    def texts(self, name: str) -> tuple[str, ...] | None:
        """Return the list of texts in the file of this name in data.json's `files`; None where there is none.

        Raise `DataCorrupt`.
        """
        entry = self.manifest.files.get(name)
        if entry is None:
            return None
        try:
            texts = json.loads(_mapped(self.folder / entry.file, entry, (), (np.dtype(np.uint8),)).tobytes())
        except (ValueError, RecursionError) as error:
            raise DataCorrupt(f"{self.folder / entry.file} cannot be read: {error}") from error
        if not isinstance(texts, list):
            raise DataCorrupt(f"{self.folder / entry.file} is no list of texts")
        return tuple(map(str, texts))

    @property
    def vocabulary(self) -> tuple[str, ...] | None:
        """Return the tokens of text: token i is the i-th. None for other data. Raise `DataCorrupt`."""
        tokens = self.texts(VOCABULARY)
        if tokens is not None and len(tokens) != self.spec.vocabulary:
            raise DataCorrupt(f"{self.folder} has {len(tokens):,} tokens, expected {self.spec.vocabulary:,}")
        return tokens

    def verify(self, progress: BytesProgress | None = None, *, workers: int = 4) -> None:
        """Compare the SHA-256 of every file. Raise `DataCorrupt` with the file that differs."""
        verify(self.folder, self.manifest, progress, workers=workers)

    @cached_property
    def _mapped(self) -> dict[SplitName, Rows]:
        dtype, shape = np.dtype(canonical.DTYPES[self.spec.support]), self.spec.shape
        return {
            name: Rows(
                tuple(
                    _mapped(self.folder / shard.file, shard, shape, (dtype,)) for shard in self.manifest.splits[name].x
                )
            )
            for name in SPLITS
        }


def read(folder: Path, *, digest: str | None = None, sums: bool = False) -> StoredSet:
    """Return the set in `folder`: data.json is read and checked, every file's size compared, no value read.

    digest: the set's expected digest; None: any
    sums:   compare the SHA-256 of every file too, which reads all of it

    Raise `DataMissing` where there is no data.json, `DataCorrupt` where something differs from it.
    """
    path = folder / canonical.DATA_JSON
    try:
        with path.open("rb") as file:
            encoded = file.read(canonical.MOST_JSON_BYTES + 1)
    except OSError as error:
        raise DataMissing(f"{folder} is no data set: {path.name} cannot be read there: {error.strerror}") from error
    own = canonical.digest_of(encoded)
    if digest is not None and own != digest:
        raise DataCorrupt(f"{folder} holds the set {own}, expected {digest}: delete it, and add or fetch the set again")
    manifest = canonical.read(encoded, str(path))
    check_sizes(folder, manifest)
    if sums:
        verify(folder, manifest)
    return StoredSet(folder=folder, digest=own, spec=canonical.facts(manifest, own), manifest=manifest)


def check_sizes(folder: Path, manifest: Canonical) -> None:
    """Compare the size of every file. Raise `DataCorrupt` with the first that is missing or of another size."""
    for entry in manifest.shards():
        path = folder / entry.file
        try:
            size = path.stat().st_size
        except OSError as error:
            raise DataCorrupt(f"{path} cannot be read: {error.strerror}; add or fetch the set again") from error
        if size != entry.bytes:
            raise DataCorrupt(f"{path} has {size:,} bytes, expected {entry.bytes:,}; add or fetch the set again")


def verify(folder: Path, manifest: Canonical, progress: BytesProgress | None = None, *, workers: int = 4) -> None:
    """Compare the SHA-256 of every file of a set. Raise `DataCorrupt` with the first file that differs."""
    files = manifest.shards()
    sums = sha256_of_files([folder / entry.file for entry in files], progress, workers=workers)
    for entry, sha256 in zip(files, sums, strict=True):
        if sha256 != entry.sha256:
            raise DataCorrupt(
                f"{folder / entry.file} is altered: expected SHA-256 {entry.sha256}, found {sha256}; "
                "add or fetch the set again"
            )


def sha256_of_files(paths: Sequence[Path], progress: BytesProgress | None = None, *, workers: int = 4) -> list[str]:
    """Return the SHA-256 of each file, several at a time. Raise `DataCorrupt` where one cannot be read."""
    lock, done = threading.Lock(), 0
    total = sum(path.stat().st_size for path in paths if path.exists())

    def tell(count: int) -> None:
        nonlocal done
        if progress is not None:
            with lock:
                done += count
                progress(done, total)

    def sum_of(path: Path) -> str:
        sha256 = hashlib.sha256()
        for block in _blocks(path):
            sha256.update(block)
            tell(len(block))
        return sha256.hexdigest()

    if len(paths) == 1:
        return [sum_of(paths[0])]
    with ThreadPoolExecutor(max_workers=max(1, workers)) as pool:
        return list(pool.map(sum_of, paths))


def _blocks(path: Path) -> Iterator[bytes]:
    try:
        with path.open("rb") as file:
            while block := file.read(_READ_BYTES):
                yield block
    except OSError as error:
        raise DataCorrupt(f"{path} cannot be read: {error.strerror}; add or fetch the set again") from error


def _mapped(path: Path, entry: ShardFile, shape: tuple[int, ...] | None, dtypes: tuple[np.dtype[Any], ...]) -> Array:
    """Return the memory map of an array's file, with `shape` after its rows (None: one dimension more at most)."""
    try:
        array: Array = np.load(path, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError) as error:
        raise DataCorrupt(f"{path} is no readable .npy: {error}; add or fetch the set again") from error
    rest = array.shape[1:]
    fits = array.ndim >= 1 and len(array) == entry.rows and (len(rest) <= 1 if shape is None else rest == shape)
    if not fits or array.dtype not in dtypes or not array.flags.c_contiguous:
        raise DataCorrupt(
            f"{path} is {array.dtype} of shape {list(array.shape)}, expected {dtypes[0]} of "
            f"[{entry.rows}, {', '.join(map(str, shape or ()))}] in C order; add or fetch the set again"
        )
    return array
