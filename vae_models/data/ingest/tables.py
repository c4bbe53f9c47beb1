"""Tables: Parquet and CSV. Numeric columns are a vector; a column of bytes is a picture; a column may be the labels.

What is read is kept as float64 in a file of the draft until the statistics of the training split are known.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from vae_models.data.errors import DataRefused
from vae_models.data.fetch import check_room, writing
from vae_models.data.ingest import axes, images, numbers, pictures, splits, tabular
from vae_models.data.ingest.blocks import Array, of_array
from vae_models.data.ingest.files import Given, Locator
from vae_models.data.ingest.meter import Meter, StepProgress
from vae_models.data.ingest.names import natural, some
from vae_models.data.ingest.options import Options
from vae_models.data.ingest.report import Report, begin
from vae_models.data.ingest.splits import Division
from vae_models.data.ingest.tabular import Table
from vae_models.data.ingest.writer import Draft
from vae_models.data.spec import DataSpec

_LABELS = ("label", "labels", "target", "class")
_IMAGES = ("image", "images", "img", "picture")
_MOST_COLUMNS = 100_000
_BATCH_ROWS = 4096
_PICTURE_ROWS = 64  # of a batch with a column of pictures: each may be megabytes


def add(path: Path, options: Options, draft: Draft, progress: StepProgress | None) -> tuple[DataSpec, Report]:
    """Write the rows of a table, or of a folder of them, into `draft`. Raise `DataRefused`."""
    report = begin("table", path)
    files = _files(path)
    with tabular.readable(path):
        tables = [tabular.opened(file) for file in files]
        _same_columns(files, tables)
        picture = _picture_column(tables[0], options.key)
        if picture is not None:
            return _pictures(files, tables, picture, options, draft, report, progress)
        return _vectors(files, tables, options, draft, report, progress)


def _files(path: Path) -> list[Path]:
    if path.is_file():
        return [path]
    tables = sorted(
        (file for file in path.rglob("*") if file.is_file() and _is_table(file) and not file.name.startswith(".")),
        key=lambda file: natural(file.relative_to(path).as_posix()),
    )
    if not tables:
        raise DataRefused(f"{path} holds no tables: .parquet, .csv, .tsv")
    return tables


def _is_table(path: Path) -> bool:
    return path.name.lower().endswith((*tabular.PARQUET, *tabular.CSV))


def _same_columns(files: Sequence[Path], tables: Sequence[Table]) -> None:
    for file, table in zip(files, tables, strict=True):
        if set(table.columns) != set(tables[0].columns):
            other = sorted(set(table.columns) ^ set(tables[0].columns))
            raise DataRefused(f"{file.name} has not the columns of {files[0].name}: they differ in {some(other)}")


def _picture_column(table: Table, key: str | None) -> str | None:
    """Return the column that holds pictures: bytes, or a struct of bytes and path as Hugging Face writes it."""
    import pyarrow

    def holds(kind: Any) -> bool:
        if pyarrow.types.is_struct(kind):
            return any(field.name == "bytes" and holds(field.type) for field in kind)
        return bool(pyarrow.types.is_binary(kind) or pyarrow.types.is_large_binary(kind))

    columns = [name for name, kind in table.columns.items() if holds(kind)]
    if key is not None:
        return key if key in columns else None
    named = [name for name in columns if name.lower() in _IMAGES]
    if len(columns) > 1 and len(named) != 1:
        raise DataRefused(
            f"{table.path} has several columns of bytes: say which holds the pictures with --key: {some(columns)}"
        )
    return next(iter(named or columns), None)


def _label_column(table: Table, options: Options, taken: Sequence[str]) -> str | None:
    if options.label is not None:
        if options.label not in table.columns:
            raise DataRefused(f"{table.path} has no column {options.label!r}. It has: {some(list(table.columns))}")
        return options.label
    return next((name for name in table.columns if name.lower() in _LABELS and name not in taken), None)


@dataclass
class _Labels:
    """Gathers the labels of one column; texts that are all numbers become numbers."""

    column: str
    values: list[Array] = field(default_factory=list)

    def add(self, column: Any, path: Path, start: int) -> None:
        if column.null_count:
            row = start + int(np.flatnonzero(column.is_null().to_numpy(zero_copy_only=False))[0])
            raise DataRefused(f"{path}: row {row:,} has no value in the label column {self.column!r}")
        self.values.append(column.to_numpy(zero_copy_only=False))

    def array(self) -> Array:
        joined = np.concatenate(self.values)
        if joined.dtype.kind == "O":
            joined = _numbers_of(joined)
        return joined


def _numbers_of(texts: Array) -> Array:
    """Return the texts of a CSV as integers or floats, where every one is such."""
    for kind in (np.int64, np.float64):
        try:
            converted: Array = texts.astype(kind)
        except (ValueError, TypeError, OverflowError):
            continue
        if kind == np.float64 and not np.isfinite(converted).all():
            continue
        return converted
    return texts


def _split_of(files: Sequence[Path], counts: Sequence[int], options: Options) -> Division:
    """Divide by file names such as train-00000-of-00002.parquet, where all name a split."""
    words = [splits.word(file.name.replace(".", "-").replace("_", "-").partition("-")[0]) for file in files]
    if options.split_file is None and len(files) > 1 and None not in words and splits.TRAIN in words:
        of = np.concatenate([np.full(count, word, np.uint8) for count, word in zip(counts, words, strict=True)])
        return splits.completed(Division(of=of, how="by the names of the files"))
    return splits.divide(None, sum(counts), fractions=options.fractions, split_file=options.split_file)


def _vectors(
    files: Sequence[Path],
    tables: Sequence[Table],
    options: Options,
    draft: Draft,
    report: Report,
    progress: StepProgress | None,
) -> tuple[DataSpec, Report]:
    columns, label = _columns(tables[0], options, report)
    spool, labels = draft.folder / ".spool", None if label is None else _Labels(label)
    counts = []
    with _spooled(spool) as file:
        total = sum(table.rows or 0 for table in tables)
        if total:
            check_room(draft.folder, 8 * total * len(columns), "the table as numbers")
        meter = Meter("reading", total or None, "rows", progress)
        for table in tables:
            counts.append(_spool(table, columns, label, file, labels, meter))
    if sum(counts) == 0:
        raise DataRefused(f"{files[0]} has no rows")
    values = np.memmap(spool, np.float64, "r", shape=(sum(counts), len(columns)))
    source = numbers.Source(
        blocks=of_array(values),
        name=files[0].name,
        arrangement=axes.arranged((len(columns),), None, files[0].name),
        columns=columns,
        labels=None if labels is None else labels.array(),
        label=label or "class",
    )
    division = _split_of(files, counts, options)
    standardise = options.standardise if options.standardise is not None else options.scale is None
    spec = numbers.write(source, division, draft, report, progress, scale=options.scale, standardise=standardise)
    report.source["files"] = len(files)
    draft.texts("columns", columns)
    del values, source
    with writing(spool):
        spool.unlink()
    return spec, report


def _columns(table: Table, options: Options, report: Report) -> tuple[list[str], str | None]:
    """Return the numeric columns, in their order, and the one of the labels."""
    import pyarrow

    types = pyarrow.types
    numeric = {
        name
        for name, kind in table.columns.items()
        if types.is_integer(kind) or types.is_floating(kind) or types.is_boolean(kind) or types.is_null(kind)
    }
    label = _label_column(table, options, ())
    if options.key is not None:
        wanted = [name.strip() for name in options.key.split(",")]
        if missing := [name for name in wanted if name not in numeric]:
            raise DataRefused(
                f"{table.path} has no numeric columns {some(missing)}. Numeric are: {some(sorted(numeric))}"
            )
    else:
        wanted = [name for name in table.columns if name in numeric and name != label]
    if not wanted:
        raise DataRefused(
            f"{table.path} has no numeric columns: {some([f'{n} {k}' for n, k in table.columns.items()])}"
        )
    if len(wanted) > _MOST_COLUMNS:
        raise DataRefused(f"{table.path} has {len(wanted):,} columns; at most {_MOST_COLUMNS:,} are taken")
    others = [name for name in table.columns if name not in wanted and name != label]
    report.source["columns_left_out"] = others[:1000]
    if others:
        report.note(f"columns left out: {some(others)}")
    if label is not None:
        report.note(f"the column {label!r} holds the labels")
    return wanted, label


@contextmanager
def _spooled(path: Path) -> Iterator[IO[bytes]]:
    with writing(path), path.open("wb") as file:
        yield file


def _spool(
    table: Table, columns: Sequence[str], label: str | None, file: IO[bytes], labels: _Labels | None, meter: Meter
) -> int:
    """Write a table's numbers as float64, and gather its labels. Return how many rows it has."""
    wanted = list(dict.fromkeys([*columns, *([label] if label is not None else [])]))
    text = [label] if label is not None and label not in columns else []
    start = 0
    for batch in table.batches(wanted, text, _BATCH_ROWS):
        block = np.empty((batch.num_rows, len(columns)), np.float64)
        for at, name in enumerate(columns):
            block[:, at] = _numeric(batch.column(name), name, table.path, start)
        if labels is not None:
            labels.add(batch.column(label), table.path, start)
        file.write(block.data)
        start += batch.num_rows
        meter.add(batch.num_rows)
    return start


def _numeric(column: Any, name: str, path: Path, start: int) -> NDArray[np.float64]:
    """Return a column as float64. Raise `DataRefused` with the row of a value that is missing or not finite."""
    if column.null_count:
        row = start + int(np.flatnonzero(column.is_null().to_numpy(zero_copy_only=False))[0])
        raise DataRefused(
            f"{path}: row {row:,} has no value in the column {name!r}: fill it in, or leave the row or column out"
        )
    values = np.asarray(column.to_numpy(zero_copy_only=False)).astype(np.float64)
    wrong = np.flatnonzero(~np.isfinite(values))
    if wrong.size:
        raise DataRefused(
            f"{path}: row {start + int(wrong[0]):,} has {values[wrong[0]]} in the column {name!r}: it must be finite"
        )
    return values


@dataclass(frozen=True, kw_only=True)
class _Column:
    """Pictures in a column, named by their row. Read from the beginning: a batch of rows is in memory at a time."""

    tables: Sequence[Table]
    column: str
    names: Sequence[str]

    def stream(self) -> Iterator[tuple[int, Locator]]:
        """Yield (row, the bytes of its picture)."""
        place = 0
        for table in self.tables:
            for batch in table.batches([self.column], (), _PICTURE_ROWS):
                column = batch.column(self.column)
                for value in column.to_pylist():
                    file = value.get("bytes") if isinstance(value, dict) else value
                    yield place, Given(file or b"")
                    place += 1


class _Rows(Sequence[str]):
    """The names "row 0", "row 1", ... without a list of them."""

    def __init__(self, count: int) -> None:
        self._count = count

    def __len__(self) -> int:
        return self._count

    def __getitem__(self, at: Any) -> Any:
        rows = range(self._count)[at]
        return f"row {rows}" if isinstance(rows, int) else [f"row {row}" for row in rows]


def _pictures(
    files: Sequence[Path],
    tables: Sequence[Table],
    column: str,
    options: Options,
    draft: Draft,
    report: Report,
    progress: StepProgress | None,
) -> tuple[DataSpec, Report]:
    counts = [table.rows or 0 for table in tables]
    if not sum(counts):
        raise DataRefused(f"{files[0]} has no rows")
    label = _label_column(tables[0], options, (column,))
    gathered = None if label is None else _Labels(label)
    if gathered is not None and label is not None:
        for table in tables:
            start = 0
            for batch in table.batches([label], (), _BATCH_ROWS):
                gathered.add(batch.column(label), table.path, start)
                start += batch.num_rows
    division = _split_of(files, counts, options)
    source = _Column(tables=tables, column=column, names=_Rows(sum(counts)))
    decoded = pictures.decode_into(draft, source, division, options, progress)
    broken = [(source.names[place], why) for place, why in sorted(decoded.tally.broken.items())]
    report.source |= {"files": len(files), "key": column, "data": sum(counts)}
    others = [name for name in tables[0].columns if name not in (column, label)]
    report.note(f"pictures in the column {column!r}" + (f"; columns left out: {some(others)}" if others else ""))
    labelled = None if gathered is None else gathered.array()
    named = replace(options, label=label)
    return images.finish(draft, source, division, decoded, labelled, named, report, broken, {})
