"""Small sets in their canonical form, of any number of shards, as the writer of the product makes them."""

from __future__ import annotations

from pathlib import Path
from unittest import mock

import numpy as np
from numpy.typing import NDArray

from vae_models.data import canonical, stored
from vae_models.data.canonical import SPLITS
from vae_models.data.ingest.writer import draft
from vae_models.data.records import Dataset
from vae_models.data.shards import opened
from vae_models.data.spec import AXES, DataSpec, Support
from vae_models.data.stored import StoredSet

SIZES = (50, 13, 7)


def values(support: Support, shape: tuple[int, ...], sizes: tuple[int, int, int] = SIZES) -> list[NDArray[np.generic]]:
    """Random values of a support, one array for each split."""
    generator = np.random.default_rng(0)
    kinds = {
        "bits": lambda n: (generator.integers(0, 2, (n, *shape)) * 255).astype(np.uint8),
        "bytes": lambda n: generator.integers(0, 256, (n, *shape), dtype=np.uint8),
        "unit": lambda n: generator.random((n, *shape), dtype=np.float32),
        "reals": lambda n: generator.standard_normal((n, *shape), dtype=np.float32),
        "tokens": lambda n: generator.integers(0, 9, (n, *shape), dtype=np.int32),
    }
    return [kinds[support](size) for size in sizes]


def write(
    into: Path,
    support: Support = "bytes",
    shape: tuple[int, ...] = (1, 4, 5),
    *,
    sizes: tuple[int, int, int] = SIZES,
    rows_per_shard: int = 8,
    lengths: list[NDArray[np.int32]] | None = None,
) -> StoredSet:
    """Write a set of random values below `into`, and open it."""
    splits = values(support, shape, sizes)
    facts = DataSpec(
        shape=shape,
        axes=AXES if len(shape) == 3 else ("time",) if lengths or support == "tokens" else ("feature",),
        support=support,
        sizes=sizes,
        lengths=lengths is not None,
        vocabulary=9 if support == "tokens" else None,
    )
    row_bytes = facts.elements * canonical.ITEM_BYTES[support]
    with mock.patch.object(canonical, "SHARD_BYTES", rows_per_shard * row_bytes + 128), draft(into) as made:
        shards = made.allocate(dict(zip(SPLITS, sizes, strict=True)), shape, np.dtype(canonical.DTYPES[support]))
        for number, name in enumerate(SPLITS):
            shards[name].write(0, splits[number])
            if lengths is not None:
                made.lengths(name, lengths[number])
        folder = made.finish(facts, made={}, source={})
    return stored.read(folder)


def dataset(into: Path, *arguments: object, name: str = "mnist", **settings: object) -> Dataset:
    """As `write`, opened as a data set."""
    return opened(name, write(into, *arguments, **settings))  # type: ignore[arg-type]
