"""The meaning of an array's dimensions: as specified, or inferred from their sizes where that is unambiguous."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from vae_models.data.errors import DataRefused
from vae_models.data.ingest.blocks import Array
from vae_models.data.spec import Axis

_LETTERS: dict[str, Axis | None] = {
    "N": None,
    "T": "time",
    "C": "channel",
    "H": "height",
    "W": "width",
    "F": "feature",
    "D": "feature",
}
_ORDER: tuple[Axis, ...] = ("time", "channel", "height", "width", "feature")
_CHANNELS = range(1, 5)  # an image has one to four


@dataclass(frozen=True, kw_only=True)
class Arrangement:
    """From a block of a source, the data first, to [n, *shape].

    order:   of the source's dimensions after the first, as numbers of the block's dimensions
    channel: where a dimension of one channel is put in; None: it has one, or is no image
    """

    axes: tuple[Axis, ...]
    shape: tuple[int, ...]
    order: tuple[int, ...]
    channel: int | None
    how: str

    @property
    def image(self) -> bool:
        """Return whether it has pixels."""
        return "height" in self.axes

    def __call__(self, block: Array) -> Array:
        """Return the block as it is stored."""
        arranged = block.transpose(0, *self.order)
        return arranged if self.channel is None else np.expand_dims(arranged, self.channel)


def count_axis(axes: str | None) -> int:
    """Return which dimension counts the data, of axes in letters; else the first."""
    letters = (axes or "").upper()
    return letters.index("N") if axes and _lettered(axes) and "N" in letters else 0


def parse(text: str) -> tuple[Axis, ...]:
    """Return the dimensions of a datum in their order, of "NHWC", "HWC" or "height,width,channel".

    Raise `DataRefused` with what is allowed.
    """
    if _lettered(text):
        named = [_LETTERS[letter] for letter in text.upper()]
        axes = [axis for axis in named if axis is not None]
        wrong = len(named) - len(axes) > 1
    else:
        parts = [part.strip().lower() for part in text.split(",")]
        allowed = {axis: axis for axis in _ORDER}
        axes = [allowed[part] for part in parts if part in allowed]
        wrong = len(axes) != len(parts)
    if wrong or not axes or len(set(axes)) != len(axes) or ("height" in axes) != ("width" in axes):
        raise DataRefused(
            f"--axes {text}: letters of N data, T time, C channel, H height, W width, F feature, each once (NHWC, HWN, "
            "NTF), or names with commas (time,feature)"
        )
    if "feature" in axes and "height" in axes:
        raise DataRefused(f"--axes {text}: a datum has height and width, or features")
    return tuple(axes)


def _lettered(text: str) -> bool:
    return bool(text) and all(letter in _LETTERS for letter in text.upper())


def arranged(shape: Sequence[int], text: str | None, name: str) -> Arrangement:
    """Return how a datum of `shape` (the data already first and left out) is stored.

    Raise `DataRefused` where it can be read in two ways, naming both, or does not fit `text`.
    """
    shape = tuple(shape)
    if not shape:
        raise DataRefused(f"{name} has one dimension, a number for each datum: give [n, d], or name another (--key)")
    if text is not None:
        axes = parse(text)
        if len(axes) != len(shape):
            raise DataRefused(
                f"--axes {text} names {len(axes)} dimensions of a datum, and {name} has {len(shape)}: "
                f"[n, {_listed(shape)}]"
            )
        return _stored(axes, shape, f"--axes {text}")
    if len(shape) == 1:
        return _stored(("feature",), shape, "vectors")
    if len(shape) == 2:
        return _stored(("height", "width"), shape, "grey images (sequences are said by --axes time,feature)")
    if len(shape) in (3, 4):
        return _with_channel(shape, name)
    raise DataRefused(f"{name} has {len(shape) + 1} dimensions, [n, {_listed(shape)}]: say what they are with --axes")


def _with_channel(shape: tuple[int, ...], name: str) -> Arrangement:
    """Return the arrangement of images or videos: the channel is first or last, whichever can be one."""
    time: tuple[Axis, ...] = ("time",) if len(shape) == 4 else ()
    first = (*time, "channel", "height", "width")
    last = (*time, "height", "width", "channel")
    letters = ("NTCHW", "NTHWC") if time else ("NCHW", "NHWC")
    can = [shape[at] in _CHANNELS for at in (len(time), len(shape) - 1)]
    if can == [True, False]:
        return _stored(first, shape, letters[0])
    if can == [False, True]:
        return _stored(last, shape, letters[1])
    readings = " or ".join(
        f"{word} ({' x '.join(f'{axis} {size}' for axis, size in zip(axes, shape, strict=True))}: --axes {word})"
        for word, axes in zip(letters, (first, last), strict=True)
    )
    raise DataRefused(f"{name} has the shape [n, {_listed(shape)}], which can be {readings}: say which")


def _stored(axes: tuple[Axis, ...], shape: tuple[int, ...], how: str) -> Arrangement:
    order = sorted(range(len(axes)), key=lambda at: _ORDER.index(axes[at]))
    named: list[Axis] = [axes[at] for at in order]
    sizes = [shape[at] for at in order]
    channel = None
    if "height" in named and "channel" not in named:
        at = named.index("height")
        named.insert(at, "channel")
        sizes.insert(at, 1)
        channel = at + 1
    if any(size == 0 for size in sizes):
        raise DataRefused(f"a datum of shape {list(shape)} holds nothing")
    return Arrangement(
        axes=tuple(named), shape=tuple(sizes), order=tuple(at + 1 for at in order), channel=channel, how=how
    )


def _listed(shape: Sequence[int]) -> str:
    return ", ".join(map(str, shape))
