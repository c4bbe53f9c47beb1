"""Labels: names become classes 0, 1, ... in natural order; whole numbers stay as they are; others are quantities."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vae_models.data.errors import DataRefused
from vae_models.data.ingest.names import natural, shown
from vae_models.data.spec import LabelSpec

_MOST_CLASSES = 10_000


@dataclass(frozen=True, kw_only=True)
class Labels:
    """values: [n] or [n, k], int64 (classes) or float32 (quantities)."""

    values: NDArray[Any]
    spec: LabelSpec
    described: str


def coded(values: NDArray[Any], name: str) -> Labels:
    """Return labels as they are stored. Raise `DataRefused` for a value that is no label, with its number."""
    if values.ndim == 2 and values.shape[1] == 1:
        values = values[:, 0]
    if values.ndim > 2 or values.ndim == 0:
        raise DataRefused(f"labels {name!r} have the shape {list(values.shape)}; [n] or [n, k] is taken")
    if values.dtype.kind in "UOS":
        return _named(values, name)
    if values.dtype.kind == "b":
        values = values.astype(np.int64)
    if values.dtype.kind in "iu":
        return _whole(values, name)
    if values.dtype.kind == "f":
        return _real(values, name)
    raise DataRefused(f"labels {name!r} are {values.dtype}; names, whole numbers and real numbers are taken")


def _named(values: NDArray[Any], name: str) -> Labels:
    if values.ndim != 1:
        raise DataRefused(f"labels {name!r} are names in {values.shape[1]} columns; one is taken")
    texts = np.array([text.decode("utf-8", "backslashreplace") if isinstance(text, bytes) else text for text in values])
    distinct, inverse = np.unique(texts, return_inverse=True)
    if len(distinct) > _MOST_CLASSES:
        raise DataRefused(
            f"labels {name!r} have {len(distinct):,} different names; at most {_MOST_CLASSES:,} are taken"
        )
    order = sorted(range(len(distinct)), key=lambda at: natural(str(distinct[at])))
    rank = np.empty(len(order), np.int64)
    rank[order] = np.arange(len(order))
    classes = tuple(shown(str(distinct[at])) for at in order)
    few = ", ".join(classes[:10]) + (", ..." if len(classes) > 10 else "")
    return Labels(
        values=rank[inverse],
        spec=LabelSpec(name=name, classes=classes),
        described=f"labels: {len(classes):,} classes in natural order: {few}",
    )


def _whole(values: NDArray[Any], name: str) -> Labels:
    if values.dtype.kind == "u" and values.size and int(values.max()) > np.iinfo(np.int64).max:
        raise DataRefused(f"labels {name!r} reach {int(values.max())}, beyond 64 bits with a sign")
    whole = values.astype(np.int64)
    return Labels(
        values=whole,
        spec=LabelSpec(name=_names(whole, name)),
        described=f"labels: whole numbers from {whole.min()} to {whole.max()}",
    )


def _real(values: NDArray[Any], name: str) -> Labels:
    wrong = np.argwhere(~np.isfinite(values))
    if len(wrong):
        raise DataRefused(
            f"labels {name!r}: {values[tuple(wrong[0])]} at {wrong[0].tolist()}; every label must be finite"
        )
    if values.ndim == 1 and (values == np.round(values)).all() and np.abs(values).max() < 2**53:
        return _whole(values.astype(np.int64), name)
    return Labels(
        values=values.astype(np.float32),
        spec=LabelSpec(name=_names(values, name)),
        described=f"labels: quantities from {values.min():g} to {values.max():g}",
    )


def _names(values: NDArray[Any], name: str) -> str | tuple[str, ...]:
    return name if values.ndim == 1 else tuple(f"{name}-{column}" for column in range(values.shape[1]))
