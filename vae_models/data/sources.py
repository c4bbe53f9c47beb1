"""Where data come from: the seam `data-source`. The published sets are sources like those of any package.

A source is an object with a name, which is what `data.name` says, the facts of its set, which cost nothing to ask for,
and `load`. A new set of this package is a file that defines it and a line in `SOURCES`; one of another package is an
entry point (see `vae_models.parts`) "data-source.NAME" with the same.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

from vae_models.data.spec import DataSpec
from vae_models.parts import Seam

if TYPE_CHECKING:
    from vae_models.data.fetch import Policy, ProgressCallback
    from vae_models.data.places import Places
    from vae_models.data.records import Dataset


class Source(Protocol):
    """What `data.name` stands for."""

    @property
    def name(self) -> str: ...

    @property
    def facts(self) -> DataSpec:
        """Return the facts of the set before any of it is read, without importing torch."""
        ...

    def load(
        self, places: Places, *, progress: ProgressCallback | None = None, policy: Policy | None = None
    ) -> Dataset:
        """Return the whole set: the same at every call, on every machine.

        places:   folders for files: one that is only read, and a cache that may be written, by several at a time
        progress: called with the state of downloads and of decoding
        policy:   how patiently to download
        Raises DataMissing, DataCorrupt, or DataError where the cache cannot be written.
        """
        ...


def _misfit(part: Any) -> str | None:
    if not isinstance(getattr(part, "facts", None), DataSpec):
        return "its `facts` are no DataSpec"
    if not callable(getattr(part, "load", None)):
        return "it has no method `load(places, *, progress, policy)`"
    return None


SOURCES: Seam[Source] = Seam(
    "data-source",
    ours=(
        "vae_models.data.catalogue.rendered:SETS",
        "vae_models.data.catalogue.mnist:SETS",
        "vae_models.data.catalogue.images:SETS",
        "vae_models.data.catalogue.faces:SETS",
        "vae_models.data.catalogue.renders:SETS",
        "vae_models.data.catalogue.motion:SETS",
        "vae_models.data.catalogue.text:SETS",
        "vae_models.data.catalogue.video:SETS",
    ),
    check=_misfit,
    summary="where data come from: what `data.name` may say",
)
