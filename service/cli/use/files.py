"""Results in files: each appears whole, with everything in it, or not at all."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from service.directories import disk_error
from service.errors import UsageError


@dataclass(frozen=True, kw_only=True)
class Column:
    """A column of a table. unit: "1" of what has none."""

    name: str
    values: Any
    unit: str = "1"


def suffix(path: Path, *allowed: str) -> str:
    """Return the file's kind by its name. Raises UsageError for one that is not allowed, before anything is made."""
    if path.suffix not in allowed:
        raise UsageError(f"--out {path}: its name must end in {' or '.join(allowed)}")
    if path.is_dir():
        raise UsageError(f"--out {path}: is a folder; name a file")
    return path.suffix


@contextmanager
def whole(path: Path) -> Iterator[Path]:
    """Yield a file beside `path` to be written, which then takes its place. Raises StorageError where it cannot."""
    try:
        path.absolute().parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=f".{path.name}.", dir=path.absolute().parent) as scratch:
            partial = Path(scratch) / path.name
            yield partial
            partial.replace(path)
    except OSError as error:
        raise disk_error(error, path) from error


def write_table(path: Path, columns: Sequence[Column], about: Mapping[str, Any]) -> None:
    """Write a Parquet file. Each column's unit is in its field's metadata, `about` in the schema's, as JSON."""
    import pyarrow
    import pyarrow.parquet

    arrays = [pyarrow.array(column.values) for column in columns]
    fields = [
        pyarrow.field(column.name, array.type, metadata={"unit": column.unit})
        for column, array in zip(columns, arrays, strict=True)
    ]
    schema = pyarrow.schema(fields, metadata={"vaesvc": json.dumps(dict(about))})
    with whole(path) as partial:
        pyarrow.parquet.write_table(pyarrow.table(arrays, schema=schema), partial)


def write_arrays(path: Path, arrays: Mapping[str, Any], about: Mapping[str, Any]) -> None:
    """Write an .npz file; `about` is its array of that name, JSON as text."""
    import numpy as np

    with whole(path) as partial, partial.open("wb") as file:
        np.savez(file, about=np.array(json.dumps(dict(about))), **arrays)


def write_bytes(path: Path, content: bytes) -> None:
    """Write a file of these bytes."""
    with whole(path) as partial:
        partial.write_bytes(content)
