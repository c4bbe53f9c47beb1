"""A picture of a few data of a set, to see at a glance what was made of a source.

Images in a grid with their labels below; videos as rows of frames; vectors and sequences of numbers as a map of rows.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from vae_models.data.canonical import SplitName
from vae_models.data.stored import StoredSet

_COLUMNS, _ROWS = 10, 6
_LEAST_PIXELS = 56  # of a side, as drawn
_MOST_PIXELS = 192
_FRAMES = 10
_LINE = 14  # pixels of a line of text
_GAP = 4
_MAP_ROWS, _MAP_COLUMNS = 64, 512
_LABEL_CHARACTERS = 12

Canvas = NDArray[np.uint8]


def draw(data: StoredSet, split: SplitName = "train") -> Image.Image:
    """Return a picture of data spread evenly over a split; of tokens there is none: print their `sentences`."""
    axes = data.spec.axes
    if {"height", "width"} <= set(axes):
        if "time" in axes:
            return _grid(_films(data, split), _labels(data, split, _ROWS), columns=1)
        count = _COLUMNS * _ROWS
        rows = _chosen(len(data.x(split)), count)
        images = [_drawn(data, np.asarray(data.x(split)[int(row)])) for row in rows]
        return _grid(images, _labels(data, split, count), columns=min(_COLUMNS, len(images)))
    return _map(data, split)


def sentences(data: StoredSet, split: SplitName = "train", count: int = 5) -> list[str]:
    """Return a few sentences of a set of tokens as text."""
    vocabulary, lengths = data.vocabulary or (), data.lengths(split)
    x = data.x(split)
    texts = []
    for row in _chosen(len(x), count):
        length = x.shape[1] if lengths is None else int(lengths[row])
        texts.append(" ".join(vocabulary[int(token)] if vocabulary else str(token) for token in x[int(row)][:length]))
    return texts


def label_of(data: StoredSet, split: SplitName, row: int) -> str:
    """Return the label of a datum in words; "" where there is none."""
    labels = data.labels(split)
    if labels is None or data.spec.labels is None:
        return ""
    classes, value = data.spec.labels.classes, labels[row]
    if np.ndim(value):
        return " ".join(f"{part:g}" for part in value)
    if classes is not None and 0 <= int(value) < len(classes):
        return classes[int(value)]
    return f"{value:g}"


def _chosen(count: int, most: int) -> NDArray[np.int64]:
    """Return row numbers spread evenly over a split."""
    return np.unique(np.linspace(0, count - 1, min(count, most)).round().astype(np.int64))


def _labels(data: StoredSet, split: SplitName, count: int) -> list[str]:
    return [label_of(data, split, int(row)) for row in _chosen(len(data.x(split)), count)]


def _drawn(data: StoredSet, image: NDArray[Any]) -> Image.Image:
    """Return [channels, height, width] of any support as a picture that is large enough to see."""
    levels = image if image.dtype == np.uint8 else _levels(image, unit=data.spec.support == "unit")
    if levels.shape[0] not in (1, 3):
        levels = levels[:3] if levels.shape[0] > 3 else levels[:1]
    picture = Image.fromarray(levels[0] if levels.shape[0] == 1 else np.ascontiguousarray(levels.transpose(1, 2, 0)))
    scale = max(1, -(-_LEAST_PIXELS // max(picture.size)))
    if scale > 1:
        return picture.resize((picture.width * scale, picture.height * scale), Image.Resampling.NEAREST)
    picture.thumbnail((_MOST_PIXELS, _MOST_PIXELS))
    return picture


def _levels(values: NDArray[Any], *, unit: bool) -> Canvas:
    low, high = (0.0, 1.0) if unit else (float(values.min()), float(values.max()))
    scaled = (values - low) / (high - low) if high > low else np.zeros_like(values)
    return np.round(255 * np.clip(scaled, 0, 1)).astype(np.uint8)


def _films(data: StoredSet, split: SplitName) -> list[Image.Image]:
    """Return a row of frames for each of a few videos; of a short one, all its frames."""
    x, lengths = data.x(split), data.lengths(split)
    films = []
    for row in _chosen(len(x), _ROWS):
        length = x.shape[1] if lengths is None else int(lengths[row])
        frames = [_drawn(data, x[int(row)][int(at)]) for at in _chosen(length, _FRAMES)]
        films.append(_grid(frames, [""] * len(frames), columns=len(frames)))
    return films


def _grid(images: list[Image.Image], labels: list[str], columns: int) -> Image.Image:
    line = _LINE if any(labels) else 0
    width = max(image.width for image in images) + _GAP
    height = max(image.height for image in images) + _GAP + line
    rows = -(-len(images) // columns)
    sheet = Image.new("RGB", (columns * width + _GAP, rows * height + _GAP), (255, 255, 255))
    pen = ImageDraw.Draw(sheet)
    for at, (image, label) in enumerate(zip(images, labels, strict=True)):
        left, top = _GAP + (at % columns) * width, _GAP + (at // columns) * height
        sheet.paste(image.convert("RGB"), (left, top))
        if label:
            short = label if len(label) <= _LABEL_CHARACTERS else label[: _LABEL_CHARACTERS - 1] + "."
            pen.text((left, top + height - _GAP - line), short.encode("latin-1", "replace").decode("latin-1"), fill=0)
    return sheet


def _map(data: StoredSet, split: SplitName) -> Image.Image:
    """Draw a datum a row, its numbers as grey values from the lowest (black) to the highest (white) shown."""
    x = data.x(split)
    values = np.stack([np.asarray(x[int(row)]).reshape(-1)[:_MAP_COLUMNS] for row in _chosen(len(x), _MAP_ROWS)])
    picture = Image.fromarray(_levels(values.astype(np.float64), unit=False))
    across = max(1, min(16, _MAP_COLUMNS // values.shape[1]))
    return picture.resize((picture.width * across, picture.height * 6), Image.Resampling.NEAREST)
