"""A few data of a set that lies in the bucket, without fetching it: the first rows of its training split.

Rows were given their places at random when the set was made, so the first ones are as good as any.
"""

from __future__ import annotations

import hashlib
import io
from pathlib import Path
from typing import Any

import numpy as np

from service.data.fetch import Addresses
from service.download import get_bytes
from service.errors import StorageError
from service.wire import DataFiles
from vae_models.data import canonical, stored
from vae_models.data.canonical import DATA_JSON, SPLITS, Canonical, ShardFile

MOST_ROWS = 60
MOST_BYTES = 16 * 2**20  # of x; and of each file that belongs to what was made of it


def sample(files: DataFiles, into: Path) -> stored.StoredSet:
    """Write a small set with the first rows of the set's training split, as all of its splits, into the folder `into`.

    Raises StorageError for what is not what its data.json says, UnavailableError, NotFoundError.
    """
    data = Addresses(files=files).manifest(files.digest)
    if canonical.digest_of(data) != files.digest:
        raise StorageError(f"the data set {files.digest} is damaged in the storage: its {DATA_JSON} is another's")
    whole = canonical.read(data, DATA_JSON)
    train = whole.splits["train"]
    row = whole.spec.elements * canonical.ITEM_BYTES[whole.spec.support]
    count = max(1, min(train.x[0].rows, MOST_ROWS, MOST_BYTES // row))
    arrays = {"x": _rows(files, train.x[0], count)}
    arrays |= {
        name: _rows(files, shard, count)
        for name, shard in (("labels", train.labels), ("lengths", train.lengths))
        if shard
    }
    splits: dict[str, Any] = {}
    for split in SPLITS:
        entries = {name: _write(into / f"{split}-{name}.npy", values) for name, values in arrays.items()}
        splits[split] = {"count": count, **entries, "x": [entries["x"]]}
    extra = {name: _whole(files, shard, into) for name, shard in whole.files.items() if shard.bytes <= MOST_BYTES}
    _finish(whole, splits, extra, count, into)
    return stored.read(into)


def _rows(files: DataFiles, shard: ShardFile, count: int) -> np.ndarray[Any, Any]:
    """Return the first rows of a plain .npy, of which no more is read."""
    head = get_bytes(files.files[shard.file], canonical.HEADER_BYTES, (0, min(canonical.HEADER_BYTES, shard.bytes)))
    stream = io.BytesIO(head)
    try:
        version = np.lib.format.read_magic(stream)
        if version != (1, 0):
            raise ValueError(f"its version is {version}")
        shape, fortran, dtype = np.lib.format.read_array_header_1_0(stream)
        if fortran or dtype.hasobject or not shape or shape[0] != shard.rows:
            raise ValueError("it is no plain array of the rows that it should have")
    except ValueError as error:
        raise StorageError(f"{shard.file} is damaged in the storage: {error}") from error
    start = stream.tell()
    each = int(np.prod(shape[1:], dtype=np.int64)) * dtype.itemsize
    end = min(start + count * each, shard.bytes)
    data = get_bytes(files.files[shard.file], end - start, (start, end))
    return np.frombuffer(data, dtype).reshape(count, *shape[1:])


def _write(path: Path, values: np.ndarray[Any, Any]) -> dict[str, Any]:
    np.save(path, values)
    return _entry(path, len(values))


def _whole(files: DataFiles, shard: ShardFile, into: Path) -> dict[str, Any]:
    Addresses(files=files).file(files.digest, shard, into / shard.file, lambda count: None)
    return _entry(into / shard.file, shard.rows)


def _entry(path: Path, rows: int) -> dict[str, Any]:
    data = path.read_bytes()
    return {"file": path.name, "rows": rows, "bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}


def _finish(whole: Canonical, splits: dict[str, Any], extra: dict[str, Any], count: int, into: Path) -> None:
    spec = whole.spec.model_dump(mode="json", exclude={"digest"}) | {"sizes": [count] * len(SPLITS)}
    plain = {"format": 1, "spec": spec, "splits": splits, "files": extra, "made": whole.made, "source": whole.source}
    (into / DATA_JSON).write_bytes(canonical.encode(plain))
