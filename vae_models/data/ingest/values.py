"""The support of a source's numbers, and how they are stored.

    bool             bits
    uint8            bytes k, x = k/255; of zeros and ones alone it must be said whether they are bits
    uint16           k / 65535 in [0, 1]
    other integers   bytes where all are in 0 .. 255, else reals
    floats in [0, 1] unit
    other floats     reals of vectors and sequences; of images it must be said

Whatever is stored as reals is stored in float32. NaN and infinity are refused with their place.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import numpy as np

from vae_models.data.errors import DataRefused
from vae_models.data.ingest.blocks import Array, Blocks
from vae_models.data.ingest.meter import Meter, StepProgress
from vae_models.data.ingest.options import Scale
from vae_models.data.spec import Support

_FLOAT32 = float(np.finfo(np.float32).max)


@dataclass(frozen=True, kw_only=True)
class Survey:
    """lowest, highest: of all values; whole: none has a fraction; binary: all are 0 or 1, or all are 0 or 255."""

    lowest: float
    highest: float
    whole: bool
    binary: bool

    def within(self, low: float, high: float) -> bool:
        """Return whether every value is in [low, high]."""
        return low <= self.lowest and self.highest <= high

    def __str__(self) -> str:
        return f"from {self.lowest:g} to {self.highest:g}"


@dataclass(frozen=True, kw_only=True)
class Scaling:
    """What is done with the values, in words, and the function that does it: to uint8, or float32."""

    support: Support
    how: str
    apply: Callable[[Array], Array]


def survey(blocks: Blocks, name: str, progress: StepProgress | None) -> Survey:
    """Survey the values. Raise `DataRefused` for no numbers, and for NaN or infinity with its place."""
    kind = blocks.dtype.kind
    if kind not in "buif":
        raise DataRefused(
            f"{name} holds {_described(blocks.dtype)}: numbers (bool, integers, floats) are taken, nothing is unpickled"
        )
    meter = Meter("checking", blocks.shape[0], "data", progress)
    lowest, highest, whole, start = np.inf, -np.inf, True, 0
    tops = {1, 255}  # that, with 0, may still be all that there is
    for block in blocks:
        low, high = block.min(), block.max()
        if kind == "f" and not np.isfinite(low + high):
            _refuse_not_finite(blocks, name)
        whole = whole and (kind != "f" or bool((block == np.round(block)).all()))
        lowest, highest = min(lowest, float(low)), max(highest, float(high))
        tops = {top for top in tops if ((block == 0) | (block == top)).all()}
        start += len(block)
        meter.at(start)
    return Survey(lowest=lowest, highest=highest, whole=whole, binary=bool(tops))


def _described(dtype: np.dtype[np.generic]) -> str:
    if dtype.names is not None:
        return f"records of {', '.join(dtype.names)}"
    return {"O": "Python objects", "U": "texts", "S": "texts", "c": "complex numbers", "M": "dates"}.get(
        dtype.kind, str(dtype)
    )


def _refuse_not_finite(blocks: Blocks, name: str) -> None:
    """Raise `DataRefused` with the first place and the count, after a second pass over data that are refused anyway."""
    first, count, data, start = "", 0, 0, 0
    for block in blocks:
        wrong = ~np.isfinite(block)
        if wrong.any():
            if not first:
                at = np.argwhere(wrong)[0]
                index = ", ".join(map(str, (start + int(at[0]), *map(int, at[1:]))))
                first = f"{block[tuple(at)]} at [{index}]"
            count += int(wrong.sum())
            data += int(wrong.reshape(len(block), -1).any(1).sum())
        start += len(block)
    if first:
        raise DataRefused(
            f"{name} has {first}, and {count:,} such values in all, in {data:,} of {blocks.shape[0]:,} data: every "
            "value must be finite. Mend them, or leave those data out"
        )


def choose(surveyed: Survey, dtype: np.dtype[np.generic], scale: Scale | None, *, image: bool, name: str) -> Scaling:
    """Return the scaling of the values. Raise `DataRefused` where it must be chosen, or is impossible."""
    if scale is not None:
        return _said(surveyed, dtype, scale, name)
    if dtype.kind == "b":
        return _bits(surveyed, name)
    if dtype == np.uint16:
        return Scaling(support="unit", how=f"uint16 {surveyed}: x = k/65535", apply=lambda k: _real(k, 1 / 65535))
    if dtype.kind in "iu" and surveyed.within(0, 255):
        if surveyed.highest <= 1 and image:
            raise DataRefused(
                f"{name} is {dtype} and holds zeros and ones alone: --scale bits if they are bits, "
                "--scale bytes if 1 is the level 1/255"
            )
        if image or dtype == np.uint8:
            return Scaling(support="bytes", how=f"{dtype} {surveyed}: bytes k, x = k/255", apply=_as_bytes)
    if dtype.kind == "f" and surveyed.within(0, 1):
        hint = "; all are 0 or 1: --scale bits makes bits of them" if surveyed.whole else ""
        return Scaling(support="unit", how=f"{dtype} {surveyed}: x as it is, in [0, 1]{hint}", apply=_real)
    if not image:
        return _reals(surveyed, dtype, name)
    raise DataRefused(f"{name} is {dtype} and reaches {surveyed}: {_ways(surveyed)}")


def _ways(surveyed: Survey) -> str:
    ways = []
    if surveyed.within(0, 255):
        ways.append("--scale 255 divides by 255")
    if surveyed.within(-1, 1):
        ways.append("--scale signed takes (x + 1) / 2")
    return ", ".join([*ways, "--scale reals keeps the values, for a likelihood of unbounded reals"])


def _said(surveyed: Survey, dtype: np.dtype[np.generic], scale: Scale, name: str) -> Scaling:
    if scale == "bits":
        return _bits(surveyed, name)
    if scale == "reals":
        return _reals(surveyed, dtype, name)
    if scale == "signed":
        _need(surveyed.within(-1, 1), scale, "values in [-1, 1]", surveyed, name)
        return Scaling(support="unit", how=f"{dtype} {surveyed}: (x + 1) / 2", apply=lambda x: _real(x, 0.5, 0.5))
    if scale == "unit" and dtype == np.uint16:
        return Scaling(support="unit", how=f"uint16 {surveyed}: x = k/65535", apply=lambda k: _real(k, 1 / 65535))
    if scale == "unit":
        _need(surveyed.within(0, 1), scale, "values in [0, 1]", surveyed, name)
        return Scaling(support="unit", how=f"{dtype} {surveyed}: x as it is, in [0, 1]", apply=_real)
    return _levels(surveyed, dtype, scale, name)


def _levels(surveyed: Survey, dtype: np.dtype[np.generic], scale: Scale, name: str) -> Scaling:
    """Return the scaling for --scale bytes and --scale 255."""
    if dtype == np.uint16 and scale == "bytes" and not surveyed.within(0, 255):
        return Scaling(
            support="bytes",
            how=f"uint16 {surveyed}: to 8 bits, round(k / 257)",
            apply=lambda k: ((k.astype(np.uint32) + 128) // 257).astype(np.uint8),
        )
    if scale == "bytes" and dtype.kind == "f" and surveyed.within(0, 1) and not surveyed.whole:
        return Scaling(
            support="bytes",
            how=f"{dtype} {surveyed}: to bytes, round(255 x)",
            apply=lambda x: _as_bytes(np.round(255 * x)),
        )
    _need(surveyed.within(0, 255), scale, "values in [0, 255]", surveyed, name)
    if surveyed.whole:
        return Scaling(support="bytes", how=f"{dtype} {surveyed}: bytes k, x = k/255", apply=_as_bytes)
    _need(scale == "255", scale, "whole numbers", surveyed, name)
    return Scaling(support="unit", how=f"{dtype} {surveyed}: divided by 255", apply=lambda x: _real(x, 1 / 255))


def _bits(surveyed: Survey, name: str) -> Scaling:
    _need(surveyed.binary, "bits", "only 0 and 1, or only 0 and 255", surveyed, name)
    return Scaling(support="bits", how=f"bits, {surveyed}", apply=lambda k: np.where(k > 0, 255, 0).astype(np.uint8))


def _reals(surveyed: Survey, dtype: np.dtype[np.generic], name: str) -> Scaling:
    if max(abs(surveyed.lowest), abs(surveyed.highest)) > _FLOAT32:
        raise DataRefused(f"{name} reaches {surveyed}, beyond float32's {_FLOAT32:.3g}: scale it before")
    return Scaling(support="reals", how=f"{dtype} {surveyed}: reals, x as it is, in float32", apply=_real)


def _need(fits: bool, scale: Scale, what: str, surveyed: Survey, name: str) -> None:
    if not fits:
        raise DataRefused(f"--scale {scale} is for {what}, and {name} reaches {surveyed}")


def _as_bytes(values: Array) -> Array:
    return values.astype(np.uint8)


def _real(values: Array, factor: float = 1.0, offset: float = 0.0) -> Array:
    if factor == 1.0 and offset == 0.0:
        return values.astype(np.float32)
    return (values.astype(np.float64) * factor + offset).astype(np.float32)


@dataclass(frozen=True, kw_only=True)
class Standard:
    """Mean and standard deviation of each feature over the training split, float64 [d]; 1 for what is constant."""

    mean: Array
    deviation: Array
    constant: tuple[int, ...]

    def __call__(self, values: Array) -> Array:
        """Return the values standardised, in float32."""
        return ((values.astype(np.float64) - self.mean) / self.deviation).astype(np.float32)


def standard(training: Callable[[], Iterable[Array]]) -> Standard:
    """Return the statistics of [..., d] over all but the last dimension, in two passes: first means, then squares.

    The deviation is that of the data, divided by their number and not by one less.
    """
    count, total, low, high = 0, np.zeros(0), np.zeros(0), np.zeros(0)
    for block in training():
        flat = block.reshape(-1, block.shape[-1]).astype(np.float64)
        if not count:
            total, low, high = np.zeros(flat.shape[1]), flat[0], flat[0]
        count, total = count + len(flat), total + flat.sum(0)
        low, high = np.minimum(low, flat.min(0)), np.maximum(high, flat.max(0))
    constant = low == high
    mean = np.where(constant, low, total / count)
    squares = np.zeros_like(mean)
    for block in training():
        flat = block.reshape(-1, block.shape[-1]).astype(np.float64)
        squares += ((flat - mean) ** 2).sum(0)
    deviation = np.where(constant, 1.0, np.sqrt(squares / count))
    return Standard(mean=mean, deviation=deviation, constant=tuple(int(at) for at in np.flatnonzero(constant)))
