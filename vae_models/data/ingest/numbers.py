"""From an array, block by block, into the shards of a draft: arranged, scaled, standardised, divided."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from vae_models.data import canonical
from vae_models.data.canonical import SPLITS
from vae_models.data.errors import DataRefused
from vae_models.data.ingest import labels, values
from vae_models.data.ingest.axes import Arrangement
from vae_models.data.ingest.blocks import Array, Blocks
from vae_models.data.ingest.meter import Meter, StepProgress
from vae_models.data.ingest.names import some
from vae_models.data.ingest.options import Scale
from vae_models.data.ingest.report import Report
from vae_models.data.ingest.splits import TRAIN, Division
from vae_models.data.ingest.values import Scaling, Standard, Survey
from vae_models.data.ingest.writer import Draft
from vae_models.data.spec import DataSpec, LabelSpec, Support

_MOST_INLINE = 256  # features whose statistics and names are in data.json itself; all are in files
_MOST_TOKENS = 2**31 - 1


@dataclass(frozen=True, kw_only=True)
class Source:
    """An array and what is known of it.

    blocks:  the data first
    name:    for messages: a file and a key, a table
    columns: names of the features, of a table
    labels:  [n] or [n, k]; None: none
    """

    blocks: Blocks
    name: str
    arrangement: Arrangement
    columns: Sequence[str] | None = None
    labels: Array | None = None
    label: str = "class"


def write(
    source: Source,
    division: Division,
    draft: Draft,
    report: Report,
    progress: StepProgress | None,
    *,
    scale: Scale | None,
    standardise: bool,
) -> DataSpec:
    """Check every value, write all, and return the facts. Raise `DataRefused`."""
    surveyed = values.survey(source.blocks, source.name, progress)
    scaling = _scaling(source, surveyed, scale, standardise=standardise)
    apply, dtype = scaling.apply, np.dtype(canonical.DTYPES[scaling.support]).newbyteorder("<")
    report.made["values"] = {"lowest": surveyed.lowest, "highest": surveyed.highest, "dtype": str(source.blocks.dtype)}
    report.made["axes"] = source.arrangement.how
    report.note(f"{' x '.join(source.arrangement.axes)}: {source.arrangement.how}")
    if standardise:
        standard = values.standard(lambda: _training(source, division))
        apply = standard
        _keep(standard, source, draft, report)
    else:
        report.note(scaling.how)
        report.made["scaling"] = scaling.how
    draft.allocate(division.counts, source.arrangement.shape, dtype)
    meter = Meter("writing", source.blocks.shape[0], "data", progress)
    rows = division.rows
    for start, block in _numbered(source.blocks):
        stored = np.ascontiguousarray(apply(source.arrangement(block))).astype(dtype, copy=False)
        chosen = slice(start, start + len(block))
        draft.write(division.of[chosen], rows[chosen], stored)
        meter.at(start + len(block))
    counts = division.counts
    report.source |= {"data": source.blocks.shape[0], "splits": division.how}
    report.note(f"splits: {division.how}")
    return DataSpec(
        shape=source.arrangement.shape,
        axes=source.arrangement.axes,
        support=scaling.support,
        sizes=(counts["train"], counts["val"], counts["test"]),
        labels=_labels(source, division, draft, report),
        vocabulary=int(surveyed.highest) + 1 if scaling.support == "tokens" else None,
    )


def _scaling(source: Source, surveyed: Survey, scale: Scale | None, *, standardise: bool) -> Scaling:
    axes, dtype = source.arrangement.axes, source.blocks.dtype
    if standardise:
        if axes[-1] != "feature":
            raise DataRefused(f"--standardise is for vectors and sequences of them, and {source.name} has {list(axes)}")
        return values.choose(surveyed, dtype, "reals", image=False, name=source.name)
    if axes == ("time",) and dtype.kind in "iu" and dtype.itemsize > 1 and scale is None:
        return _tokens(surveyed, source.name)
    return values.choose(surveyed, dtype, scale, image=source.arrangement.image, name=source.name)


def _tokens(surveyed: Survey, name: str) -> Scaling:
    if not surveyed.within(0, _MOST_TOKENS - 1) or surveyed.highest < 1:
        raise DataRefused(f"{name} reaches {surveyed}: tokens are whole numbers from 0 on, two different ones at least")
    tokens: Support = "tokens"
    return Scaling(support=tokens, how=f"tokens {surveyed}", apply=lambda k: k.astype(np.int32))


def _numbered(blocks: Blocks) -> Iterator[tuple[int, Array]]:
    start = 0
    for block in blocks:
        yield start, block
        start += len(block)


def _training(source: Source, division: Division) -> Iterator[Array]:
    """Yield the training data, arranged."""
    for start, block in _numbered(source.blocks):
        mine = division.of[start : start + len(block)] == TRAIN
        if mine.any():
            yield source.arrangement(block)[mine]


def _keep(standard: Standard, source: Source, draft: Draft, report: Report) -> None:
    """Record the statistics as data, and report constant columns."""
    draft.numbers("standardisation", np.stack([standard.mean, standard.deviation]))
    kept: dict[str, Any] = {"file": "standardisation", "constant": list(standard.constant)[:_MOST_INLINE]}
    if len(standard.mean) <= _MOST_INLINE:
        kept |= {"mean": standard.mean.tolist(), "deviation": standard.deviation.tolist()}
    report.made["standardised"] = kept
    report.note("standardised: (x - mean) / deviation of the training split, which are kept with the set")
    if standard.constant:
        names = [source.columns[at] if source.columns else str(at) for at in standard.constant]
        report.note(f"{len(names):,} constant features become 0: {some(names)}")


def _labels(source: Source, division: Division, draft: Draft, report: Report) -> LabelSpec | None:
    if source.labels is None:
        return None
    coded = labels.coded(source.labels, source.label)
    for number, split in enumerate(SPLITS):
        draft.labels(split, coded.values[division.of == number])
    report.note(coded.described)
    return coded.spec
