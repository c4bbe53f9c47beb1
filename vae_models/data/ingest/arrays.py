"""Arrays: .npy, .npz, .mat (v5 and v7.3), .h5, .safetensors."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from vae_models.data.errors import DataRefused
from vae_models.data.ingest import axes as axes_of
from vae_models.data.ingest import blocks, numbers, openers, splits
from vae_models.data.ingest.blocks import Array, Blocks, Joined, Sliced, Zipped
from vae_models.data.ingest.meter import StepProgress
from vae_models.data.ingest.openers import Arrays
from vae_models.data.ingest.options import Options
from vae_models.data.ingest.report import Report, begin
from vae_models.data.ingest.splits import Division
from vae_models.data.ingest.writer import Draft
from vae_models.data.spec import DataSpec

_X = ("x", "images", "image", "imgs", "data", "features", "inputs", "samples", "arr_0", "train_data")
_Y = ("y", "labels", "label", "targets", "target", "classes", "class")
_SPLITS = "|".join(sorted(splits.WORDS, key=len, reverse=True))
# train_x, train/images; x_train; and the short ones, trainX and Xtest: "latest" is no split
_BEFORE = re.compile(rf"(?:.*/)?({_SPLITS})(?:[_\-/.](.+)|([xy]))", re.IGNORECASE)
_AFTER = re.compile(rf"(?:(.+)[_\-/.]|([xy]))({_SPLITS})", re.IGNORECASE)

_OPENERS: Mapping[str, Callable[[Path, ExitStack], Arrays]] = {
    ".npy": openers.npy,
    ".npz": openers.npz,
    ".mat": openers.mat,
    ".h5": openers.hdf5,
    ".hdf5": openers.hdf5,
    ".safetensors": openers.safetensors,
}


def add(path: Path, options: Options, draft: Draft, progress: StepProgress | None) -> tuple[DataSpec, Report]:
    """Write the arrays of a file into `draft`. Raise `DataRefused` with what is wrong, and where."""
    report = begin("arrays", path)
    opener = _OPENERS.get(path.suffix.lower())
    if opener is None or not path.is_file():
        raise DataRefused(f"{path}: arrays are in files {', '.join(_OPENERS)}")
    with ExitStack() as opened, openers.readable(path, path.suffix.lower()):
        arrays = opener(path, opened)
        chosen = _chosen(path, arrays, options, report)
        arrangement = axes_of.arranged(chosen.x.shape[1:], options.axes, chosen.name)
        source = numbers.Source(
            blocks=chosen.x,
            name=chosen.name,
            arrangement=arrangement,
            labels=chosen.labels,
            label=options.label or "class",
        )
        division = _divided(chosen, options)
        spec = numbers.write(
            source,
            division,
            draft,
            report,
            progress,
            scale=options.scale,
            standardise=bool(options.standardise),
        )
    return spec, report


@dataclass(frozen=True, kw_only=True)
class _Chosen:
    """x: the data first. of: the split of each datum, where the names of the arrays say so."""

    x: Blocks
    name: str
    labels: Array | None
    of: NDArray[np.uint8] | None


def _divided(chosen: _Chosen, options: Options) -> Division:
    if options.split_file is None and chosen.of is not None:
        return splits.completed(Division(of=chosen.of, how="by the names of the arrays"))
    count = chosen.x.shape[0]
    return splits.divide(None, count, fractions=options.fractions, split_file=options.split_file)


def _chosen(path: Path, arrays: Arrays, options: Options, report: Report) -> _Chosen:
    """Return the array of the data and that of their labels, found by name. Raise `DataRefused`."""
    if not arrays.named:
        raise DataRefused(f"{path} holds no arrays of numbers")
    base, parts = _data(path, arrays, options.key)
    label, label_parts = _label(path, arrays, base, options.label)
    pieces = []
    for split, name in parts.items():
        label_array = arrays.named.get(label_parts[split]) if split in label_parts else None
        labels = None if label_array is None else _squeezed(blocks.whole(label_array))
        shown = f"{path.name}: {name}" if len(arrays.named) > 1 else path.name
        x = _counted(arrays.named[name], labels, options.axes, shown, matlab=arrays.matlab)
        pieces.append((x, labels, shown))
    labels = _joined_labels(pieces, label, options, report)
    of = None
    if None not in parts:
        of = np.concatenate([np.full(x.shape[0], split) for split, (x, _, _) in zip(parts, pieces, strict=True)])
    report.source |= {"key": base, "label": None if labels is None else label}
    return _Chosen(
        x=_joined([x for x, _, _ in pieces], list(parts.values()), path), name=pieces[0][2], labels=labels, of=of
    )


def _by_base(names: Iterable[str]) -> dict[str, dict[int | None, str]]:
    """Return names without their splits, splits in order: {"x": {0: "x_train", 2: "test_x"}, "y": {None: "y"}}."""
    bases: dict[str, dict[int | None, str]] = {}
    for name in names:
        base, split = name, None
        if (before := _BEFORE.fullmatch(name)) is not None:
            base, split = before[2] or before[3], splits.word(before[1])
        elif (after := _AFTER.fullmatch(name)) is not None:
            base, split = after[1] or after[2], splits.word(after[3])
        bases.setdefault(base, {})[split] = name
    for base, parts in bases.items():
        if len(parts) > 1 and None not in parts:
            bases[base] = dict(sorted(parts.items(), key=lambda part: part[0] or 0))
    return bases


def _data(path: Path, arrays: Arrays, key: str | None) -> tuple[str, dict[int | None, str]]:
    """Return the data's name without a split, and the array of each split."""
    bases = _by_base(arrays.named)
    if key is not None:
        if key in arrays.named:
            return key, {None: key}
        if key in bases:
            return key, bases[key]
        raise DataRefused(f"{path} has no array {key!r}. It has: {_listing(arrays)}")
    candidates = [base for base in bases if base.lower().rpartition("/")[2] in _X]
    if not candidates:
        candidates = [
            base for base, parts in bases.items() if all(_may_be_data(arrays, name) for name in parts.values())
        ]
    if len(candidates) != 1:
        why = "more than one array that may be the data" if candidates else "no array that must be the data"
        raise DataRefused(f"{path} has {why}: say which with --key. It has: {_listing(arrays)}")
    parts = bases[candidates[0]]
    if None in parts and len(parts) > 1:
        raise DataRefused(
            f"{path} has {candidates[0]!r} whole and by splits: say which with --key. It has: {_listing(arrays)}"
        )
    return candidates[0], parts


def _may_be_data(arrays: Arrays, name: str) -> bool:
    array = arrays.named[name]
    return len(array.shape) >= 2 and array.dtype.kind in "buif" and max(array.shape) > 1


def _label(path: Path, arrays: Arrays, base: str, label: str | None) -> tuple[str | None, dict[int | None, str]]:
    """Return the labels' name and arrays, as `_data` does; None and nothing where no array has such a name."""
    bases = _by_base(arrays.named)
    if label is not None:
        if label in arrays.named:
            return label, {None: label}
        if label in bases:
            return label, bases[label]
        raise DataRefused(f"{path} has no array {label!r} for labels. It has: {_listing(arrays)}")
    for known in _Y:
        for base_of_labels, parts in bases.items():
            if base_of_labels.lower().rpartition("/")[2] == known and base_of_labels != base:
                return base_of_labels, parts
    return None, {}


def _listing(arrays: Arrays) -> str:
    parts = [f"{name} {array.dtype} {list(array.shape)}" for name, array in arrays.named.items()]
    return ", ".join(parts[:20]) + (f" and {len(parts) - 20} more" if len(parts) > 20 else "")


def _squeezed(labels: Array) -> Array:
    """Return [n] for [n, 1] and [1, n]: MATLAB has no vectors."""
    return labels.reshape(-1) if labels.ndim == 2 and 1 in labels.shape else labels


def _counted(array: Sliced | Zipped, labels: Array | None, axes: str | None, name: str, *, matlab: bool) -> Blocks:
    """Return the array with the dimension first that counts the data, which MATLAB mostly has last."""
    if not array.shape:
        raise DataRefused(f"{name} is one number: give an array [n, ...]")
    axis = axes_of.count_axis(axes)
    first, last = array.shape[0], array.shape[-1]
    if matlab and axes is None and len(array.shape) >= 3 and first != last:
        if labels is not None and (len(labels) in (first, last)):
            axis = 0 if len(labels) == first else len(array.shape) - 1
        elif last > first:
            raise DataRefused(
                f"{name} has the shape {list(array.shape)}: {first:,} data, or {last:,}, as MATLAB mostly has them. "
                "Say which with --axes: NHW or HWN for grey images, NHWC or HWCN for colour"
            )
    if axis == 0:
        return array
    if axis >= len(array.shape):
        raise DataRefused(f"{name} has {len(array.shape)} dimensions, and --axes {axes} more")
    return array.along(axis) if isinstance(array, Sliced) else blocks.of_array(blocks.whole(array), axis)


def _joined(parts: list[Blocks], names: list[str], path: Path) -> Blocks:
    for part, name in zip(parts, names, strict=True):
        if part.shape[1:] != parts[0].shape[1:]:
            raise DataRefused(
                f"{path}: {names[0]} has data of shape {list(parts[0].shape[1:])}, and {name} of {list(part.shape[1:])}"
            )
    return parts[0] if len(parts) == 1 else Joined(tuple(parts))


def _joined_labels(
    pieces: list[tuple[Blocks, Array | None, str]], label: str | None, options: Options, report: Report
) -> Array | None:
    """Return the labels of all splits; None where there is not one for each datum, unless they were requested."""
    if label is None:
        return None
    for x, labels, name in pieces:
        if labels is None or len(labels) != x.shape[0]:
            count = "no labels" if labels is None else f"{len(labels):,} labels"
            said = f"{name} has {x.shape[0]:,} data, and {count} in {label!r}"
            if options.label is not None:
                raise DataRefused(f"{said}: it must be one for each")
            report.note(f"no labels: {said}")
            return None
    return np.concatenate([labels for _, labels, _ in pieces if labels is not None])
