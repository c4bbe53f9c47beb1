"""A user's own data set in its canonical form, small and made by numpy alone: for tests."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import numpy as np

from vae_models.data import canonical
from vae_models.data.canonical import DATA_JSON

SHAPE = (3, 8, 8)


def write(
    folder: Path,
    *,
    sizes: tuple[int, int, int] = (40, 10, 10),
    shape: tuple[int, int, int] = SHAPE,
    shard_rows: int = 15,
    seed: int = 0,
    **source: Any,
) -> str:
    """Write random images of bytes with two classes into `folder`, and return the set's digest."""
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(seed)
    splits: dict[str, Any] = {}
    for name, count in zip(canonical.SPLITS, sizes, strict=True):
        x = rng.integers(0, 256, (count, *shape), dtype=np.uint8)
        starts = range(0, count, shard_rows)
        shards = [
            _shard(folder, f"{name}-x-{i:05d}.npy", x[start : start + shard_rows]) for i, start in enumerate(starts)
        ]
        labels = _shard(folder, f"{name}-labels.npy", rng.integers(0, 2, count, dtype=np.int64))
        splits[name] = {"count": count, "x": shards, "labels": labels, "lengths": None}
    spec = {
        "shape": list(shape), "axes": ["channel", "height", "width"], "support": "bytes", "sizes": list(sizes),
        "labels": {"name": "class", "unit": None, "classes": ["cat", "dog"]}, "lengths": False, "vocabulary": None,
    }  # fmt: skip
    made = {"range": "0 to 255, as they are"}
    whole = {"format": 1, "spec": spec, "splits": splits, "made": made, "source": {"kind": "arrays", **source}}
    data = canonical.encode(whole)
    canonical.decode(data)
    (folder / DATA_JSON).write_bytes(data)
    return canonical.digest_of(data)


def _shard(folder: Path, name: str, values: np.ndarray[Any, Any]) -> dict[str, Any]:
    np.save(folder / name, values)
    data = (folder / name).read_bytes()
    return {"file": name, "rows": len(values), "bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}
