"""Decodes what users have (pictures, arrays, tables, text, videos) into the canonical form that `stored` reads.

    stored = ingest(Path("photos"), Options(size=(64, 64)), into=cache / "own")

The same input gives the same digest, with any number of processes. Importing this needs neither torch nor the libraries
of the formats: each comes with the first source that needs it.
"""

from __future__ import annotations

import importlib
from pathlib import Path

from vae_models.data import stored
from vae_models.data.errors import DataRefused
from vae_models.data.ingest.detect import kind_of
from vae_models.data.ingest.meter import Meter, Step, StepProgress
from vae_models.data.ingest.options import Kind, Options
from vae_models.data.ingest.writer import draft
from vae_models.data.stored import StoredSet

__all__ = ["Kind", "Options", "Step", "StepProgress", "ingest"]

_SOURCES: dict[Kind, str] = {
    "images": "vae_models.data.ingest.images",
    "arrays": "vae_models.data.ingest.arrays",
    "table": "vae_models.data.ingest.tables",
    "text": "vae_models.data.ingest.text",
    "video": "vae_models.data.ingest.video",
}


def ingest(
    path: Path, options: Options | None = None, *, into: Path, progress: StepProgress | None = None
) -> StoredSet:
    """Decode `path`, check everything, and write the set to `into`/<digest>: whole or not at all.

    path:     a file, a folder or an archive; its kind follows from its name, or `options.kind`
    into:     the folder of all sets, `<cache>/own`; made if need be. Safe for several processes at once
    progress: called with the state of the work, several times a second

    Raise `DataRefused` for a source that is not supported, broken or ambiguous: the message has a remedy;
    `DataError` where the set cannot be written.
    """
    options = options or Options()
    source = importlib.import_module(_SOURCES[kind_of(path, options.kind)])
    with draft(into, workers=options.processes) as made:
        try:
            spec, report = source.add(path, options, made, progress)
        except MemoryError as error:
            raise DataRefused(f"{path} takes more memory than there is: {error}") from error
        total = sum(shards.count * shards.row_bytes for shards in made.x.values())
        meter = Meter("checksums", total, "bytes", progress)
        folder = made.finish(
            spec, made=report.as_made(), source=report.as_source(), progress=lambda done, _: meter.at(done)
        )
    return stored.read(folder)
