"""Reads tables in batches of rows: Parquet, and CSV in the ways that people write it."""

from __future__ import annotations

import csv
import io
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vae_models.data.errors import DataError, DataRefused
from vae_models.data.ingest.names import some

CSV = (".csv", ".tsv", ".csv.gz", ".tsv.gz")
PARQUET = (".parquet", ".pq")
_SEPARATORS = ",;\t|"


@contextmanager
def readable(path: Path) -> Iterator[None]:
    """Turn what pyarrow raises into `DataRefused`."""
    try:
        yield
    except (DataError, MemoryError):
        raise
    except Exception as error:  # pyarrow, csv and gzip raise of everything on altered bytes
        text = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise DataRefused(f"{path} is no readable table, or is truncated: {text}") from error


@dataclass(frozen=True, kw_only=True)
class Table:
    """columns: name -> pyarrow's type. rows: how many; None: not known before the end."""

    path: Path
    columns: dict[str, Any]
    rows: int | None
    csv: Dialect | None = None

    def batches(self, columns: Sequence[str], text: Sequence[str], rows: int) -> Iterator[Any]:
        """Yield record batches of some columns; of a CSV, the columns in `text` as they are written."""
        if self.csv is not None:
            yield from self.csv.batches(self.path, columns, text)
            return
        import pyarrow.parquet

        with pyarrow.parquet.ParquetFile(self.path) as file:
            yield from file.iter_batches(batch_size=rows, columns=list(columns))


@dataclass(frozen=True, kw_only=True)
class Dialect:
    """How a CSV is written. names: of its columns where it has no header."""

    separator: str
    names: tuple[str, ...] | None

    def batches(self, path: Path, columns: Sequence[str], text: Sequence[str]) -> Iterator[Any]:
        """Yield record batches: numbers in float64, but `text` as it is written."""
        import pyarrow
        import pyarrow.csv

        types = {name: pyarrow.string() if name in text else pyarrow.float64() for name in columns}
        with _unpacked(path) as file:
            reader = pyarrow.csv.open_csv(
                file,
                read_options=pyarrow.csv.ReadOptions(column_names=self.names, use_threads=False),
                parse_options=pyarrow.csv.ParseOptions(delimiter=self.separator, newlines_in_values=True),
                convert_options=pyarrow.csv.ConvertOptions(
                    column_types=types, include_columns=list(columns), strings_can_be_null=True
                ),
            )
            yield from reader


def _unpacked(path: Path) -> Any:
    import pyarrow

    return pyarrow.input_stream(os.fspath(path), compression="detect")


def opened(path: Path) -> Table:
    if path.name.lower().endswith(CSV):
        return _opened_csv(path)
    import pyarrow.parquet

    with pyarrow.parquet.ParquetFile(path) as file:
        schema = file.schema_arrow
        columns = dict(zip(schema.names, schema.types, strict=True))
        if len(columns) != len(schema.names):
            raise DataRefused(f"{path} has two columns of one name")
        return Table(path=path, columns=columns, rows=file.metadata.num_rows)


def _opened_csv(path: Path) -> Table:
    """Find the separator and the header by the first lines, and the types by the first megabyte."""
    import pyarrow.csv

    with _unpacked(path) as file:
        head = bytes(file.read(1 << 20))
    if not head.strip():
        raise DataRefused(f"{path} is empty")
    try:
        text = head.decode("utf-8-sig", "strict" if len(head) < 1 << 20 else "ignore")
    except UnicodeDecodeError as error:
        raise DataRefused(f"{path} is no UTF-8 at byte {error.start:,}: save it as UTF-8") from None
    first = next((line for line in text.splitlines() if line.strip()), "")
    if not first:
        raise DataRefused(f"{path} is empty")
    separator = "\t" if ".tsv" in path.name.lower() else max(_SEPARATORS, key=first.count)
    fields = next(csv.reader([first], delimiter=separator))
    names = None if not all(_is_number(part) for part in fields) else tuple(str(at) for at in range(len(fields)))
    if names is None and len(set(fields)) != len(fields):
        raise DataRefused(
            f"{path} has two columns of one name: {some(sorted({name for name in fields if fields.count(name) > 1}))}"
        )
    cut = text if len(head) < 1 << 20 else text[: text.rfind("\n")]
    guessed = pyarrow.csv.read_csv(
        io.BytesIO(cut.encode()),
        read_options=pyarrow.csv.ReadOptions(column_names=names, use_threads=False),
        parse_options=pyarrow.csv.ParseOptions(delimiter=separator, newlines_in_values=True),
        convert_options=pyarrow.csv.ConvertOptions(strings_can_be_null=True),
    )
    columns = dict(zip(guessed.schema.names, guessed.schema.types, strict=True))
    return Table(path=path, columns=columns, rows=None, csv=Dialect(separator=separator, names=names))


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True
