"""Data: readers of published formats, rendered sets, and the batches made of them.

`load(config)` returns the whole set as bytes. Importing this package is cheap; torch comes with the first `load`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from vae_models.data.errors import DataCorrupt, DataError, DataMissing, DataUnfit
from vae_models.data.records import Dataset, Split

if TYPE_CHECKING:
    from pathlib import Path

    from vae_models.data.cache import Fetch
    from vae_models.data.config import DataConfig
    from vae_models.data.fetch import ProgressCallback

__all__ = ["DataCorrupt", "DataError", "DataMissing", "DataUnfit", "Dataset", "Split", "load"]


def load(
    config: DataConfig,
    *,
    data_dir: Path | None = None,
    cache_dir: Path | None = None,
    progress: ProgressCallback | None = None,
    fetch: Fetch | None = None,
) -> Dataset:
    """Return the data set that `config` names, with its noise (`binarize` is applied to batches, not here).

    A user's own set is found by its digest in the cache, where it is brought, if it is missing, from
    `data_dir`/own/DIGEST or else by `fetch`; it stays on the disk until it is read, and in the cache as long as the
    returned set is used.

    Files are looked for under `data_dir` (default VAESVC_DATA_DIR) and `cache_dir` (default VAESVC_CACHE_DIR, else
    ~/.cache/vaesvc), then downloaded, with reports to `progress` (default: standard error). Cheap to call again, from
    any number of processes at once. Raise `DataMissing`, `DataCorrupt`, or `DataError` when the cache cannot be
    written.
    """
    from vae_models.data.places import Places
    from vae_models.data.progress import StderrProgress
    from vae_models.data.sources import SOURCES

    default = Places.from_environment()
    places = Places(data_dir=data_dir or default.data_dir, cache_dir=cache_dir or default.cache_dir)
    progress = progress or StderrProgress()
    if config.digest is None:
        dataset = SOURCES.get(config.name).load(places, progress=progress)
    else:
        from vae_models.data.cache import FolderFetch, NodeCache, most_bytes_of_environment
        from vae_models.data.shards import opened

        if places.data_dir is not None and (places.data_dir / "own" / config.digest).is_dir():
            fetch = FolderFetch(folder=places.data_dir / "own")
        cache = NodeCache(cache_dir=places.cache_dir, most_bytes=most_bytes_of_environment())
        lease = cache.lease(config.digest, fetch, progress=progress)
        if lease.stored.spec.model_copy(update={"digest": None}) != config.facts:
            raise DataUnfit(f"data.facts are not those of the set {config.digest}: leave them out, they are filled in")
        dataset = opened(config.name, lease.stored, keep=lease)
    return config.noise.applied(dataset)
