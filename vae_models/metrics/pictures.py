"""Grids of images as PNG bytes: what a person looks at first.

Images are [n, channels, height, width] with values in [0, 1] (others are clipped; NaN is drawn black). One channel is
grey, three are RGB; with any other number the channels are drawn in grey, side by side.
"""

from __future__ import annotations

import io
import math
from collections.abc import Collection, Sequence
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float, UInt8
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

TILE_PIXELS = 64  # small images are enlarged by a whole number to about this height
PADDING_PIXELS = 2  # between tiles and around the grid
PAPER = 255  # grey level between the tiles: white, so that black images keep their edge
MOST_COLUMNS = 16
GROUP_PIXELS = 8  # more, between groups of rows
TEXT_PIXELS = 12  # size of the labels' font
OUTLINE = "#0072B2"  # of marked tiles: the first of the plots' colours
COLOURS = 256  # the most that a GIF has


def as_images(data: Float[Tensor, "n *data"]) -> Float[Tensor, "n channels height width"]:
    """Return data of any shape as images: an image itself, a video's frames side by side, a sequence [time, n] as one
    grey image with a row for each time, a vector as one row.
    """
    if data.ndim == 5:  # [n, time, channels, height, width]
        return data.permute(0, 2, 3, 1, 4).flatten(3)
    if data.ndim > 5:
        return data.flatten(1, -2).unsqueeze(1)
    return data if data.ndim == 4 else data.reshape(len(data), 1, -1, data.shape[-1])


def reconstructions(
    originals: Float[Tensor, "n channels height width"],
    means: Float[Tensor, "_n _channels _height _width"],
    columns: int = MOST_COLUMNS,
) -> bytes:
    """Draw pairs of rows of at most `columns` images: originals over their reconstructions E[x|z]. Return the PNG."""
    if originals.shape != means.shape or originals.shape[0] == 0:
        raise ValueError(
            "originals and reconstructions must be the same number of images, at least one, of one shape:"
            f" got {list(originals.shape)} and {list(means.shape)}"
        )
    columns = min(originals.shape[0], columns)
    upper, lower = _tiles(originals), _tiles(means)
    rows = [row for pair in zip(torch.split(upper, columns), torch.split(lower, columns), strict=True) for row in pair]
    return _png(rows, columns)


def samples(means: Float[Tensor, "n channels height width"], columns: int | None = None) -> bytes:
    """Draw a grid, filled row by row, about square unless `columns` is given. Return the PNG."""
    if means.shape[0] == 0:
        raise ValueError("a picture of samples needs at least one image")
    columns = columns or min(math.ceil(math.sqrt(means.shape[0])), MOST_COLUMNS)
    return _png(list(torch.split(_tiles(means), columns)), columns)


def grid(
    images: Float[Tensor, "n channels height width"],
    columns: int,
    *,
    row_labels: Sequence[str] | None = None,
    column_labels: Sequence[str] | None = None,
    group: int | None = None,
    outlined: Collection[int] = (),
) -> bytes:
    """Draw images row by row, `columns` in each, with what the rows and columns show beside and above them.

    group:    how many rows belong together: a wider gap follows them
    outlined: the numbers of images with a coloured line around them

    Return the PNG. Raise ValueError for no image, and for labels that are not one for each row or column.
    """
    drawn = _grid(images, columns, row_labels=row_labels, column_labels=column_labels, group=group, outlined=outlined)
    return _encoded(drawn)


def film(
    frames: Float[Tensor, "time n channels height width"],
    columns: int,
    *,
    row_labels: Sequence[Sequence[str]],
    column_labels: Sequence[str] | None = None,
    outlined: Sequence[Collection[int]],
    milliseconds: int = 250,
    pause_milliseconds: int = 1000,
) -> bytes:
    """Draw a grid for each time, one after another, without end. Return the GIF: the same images give the same bytes.

    row_labels, outlined: of each time, as of `grid`; milliseconds: that one is seen; pause: the last, beside them

    Each time has a palette of its own, of the colours that it has, or of 256 that suit it where it has more. Raise
    ValueError where labels and times differ in number, or grids in size.
    """
    drawn = [
        _grid(images, columns, row_labels=labels, column_labels=column_labels, group=None, outlined=marked)
        for images, labels, marked in zip(frames, row_labels, outlined, strict=True)
    ]
    if len({image.size for image in drawn}) > 1:
        raise ValueError("the grids of a film are of one size: give each time's labels the same width")
    durations = [milliseconds] * (len(drawn) - 1) + [milliseconds + pause_milliseconds]
    buffer = io.BytesIO()
    first, *others = (_of_few_colours(image) for image in drawn)
    first.save(
        buffer,
        format="GIF",
        save_all=True,
        append_images=others,
        duration=durations,
        loop=0,
        optimize=False,
        disposal=1,
    )
    return buffer.getvalue()


def _of_few_colours(image: Image.Image) -> Image.Image:
    """Return the image with a palette of its own: exactly where it has no more than 256 colours."""
    coloured = image.convert("RGB")
    colours, places = np.unique(np.asarray(coloured).reshape(-1, 3), axis=0, return_inverse=True)
    if len(colours) > COLOURS:
        return coloured.quantize(COLOURS, method=Image.Quantize.MEDIANCUT, dither=Image.Dither.NONE)
    indexed = Image.frombytes("P", image.size, places.astype(np.uint8).tobytes())
    indexed.putpalette(colours.astype(np.uint8).tobytes())
    return indexed


def _grid(
    images: Float[Tensor, "n channels height width"],
    columns: int,
    *,
    row_labels: Sequence[str] | None,
    column_labels: Sequence[str] | None,
    group: int | None,
    outlined: Collection[int],
) -> Image.Image:
    if images.shape[0] == 0 or columns < 1:
        raise ValueError(f"a grid needs an image and a column: got {images.shape[0]} in {columns} columns")
    rows = list(torch.split(_tiles(images), columns))
    for labels, wanted, what in ((row_labels, len(rows), "rows"), (column_labels, columns, "columns")):
        if labels is not None and len(labels) != wanted:
            raise ValueError(f"{len(labels)} labels for {wanted} {what}: give one for each")
    height, width = rows[0].shape[1:3]
    tops = _tops(len(rows), height, group)
    paper = _paper(rows, columns, tops)
    if outlined:
        paper = _outlined(paper, (height, width), tops, columns, outlined)
    return _labelled(paper, (height, width), tops, row_labels or (), column_labels or ())


def _outlined(
    paper: Image.Image, tile: tuple[int, int], tops: Sequence[int], columns: int, numbers: Collection[int]
) -> Image.Image:
    """Return the grid in colour, with a line in the padding around these tiles. tile: height and width."""
    coloured = paper.convert("RGB")
    draw = ImageDraw.Draw(coloured)
    for number in numbers:
        row, column = divmod(number, columns)
        left, top = PADDING_PIXELS + column * (tile[1] + PADDING_PIXELS), tops[row]
        box = (
            left - PADDING_PIXELS, top - PADDING_PIXELS, left + tile[1] + PADDING_PIXELS - 1,
            top + tile[0] + PADDING_PIXELS - 1,
        )  # fmt: skip
        draw.rectangle(box, outline=OUTLINE, width=PADDING_PIXELS)
    return coloured


def _tiles(images: Float[Tensor, "n channels height width"]) -> UInt8[Tensor, "n tile_height tile_width colours"]:
    """Return each image as it is drawn: enlarged, in grey (1 colour) or RGB (3)."""
    levels = images.detach().double().cpu().nan_to_num(nan=0.0).clamp(0, 1).mul(255).round().to(torch.uint8)
    channels, height, width = levels.shape[1:]
    if channels not in (1, 3):
        levels = levels.permute(0, 2, 1, 3).reshape(-1, 1, height, channels * width)
    scale = max(1, round(TILE_PIXELS / height))
    return levels.repeat_interleave(scale, 2).repeat_interleave(scale, 3).permute(0, 2, 3, 1)


def _png(rows: list[UInt8[Tensor, "_ tile_height tile_width colours"]], columns: int) -> bytes:
    """Return rows of at most `columns` tiles on white as PNG. Lossless; the same images give the same bytes."""
    return _encoded(_paper(rows, columns, _tops(len(rows), rows[0].shape[1], None)))


def _tops(rows: int, height: int, group: int | None) -> list[int]:
    """Return where each row of tiles begins, pixels from above."""
    step = height + PADDING_PIXELS
    return [PADDING_PIXELS + row * step + (row // group * GROUP_PIXELS if group else 0) for row in range(rows)]


def _paper(
    rows: list[UInt8[Tensor, "_ tile_height tile_width colours"]], columns: int, tops: Sequence[int]
) -> Image.Image:
    _, height, width, colours = rows[0].shape
    step = width + PADDING_PIXELS
    size = (tops[-1] + height + PADDING_PIXELS, columns * step + PADDING_PIXELS, colours)
    paper = torch.full(size, PAPER, dtype=torch.uint8)
    for top, row in zip(tops, rows, strict=True):
        for x, tile in enumerate(row):
            left = PADDING_PIXELS + x * step
            paper[top : top + height, left : left + width] = tile
    return Image.frombytes("L" if colours == 1 else "RGB", (size[1], size[0]), paper.numpy().tobytes())


def _labelled(
    paper: Image.Image,
    tile: tuple[int, int],
    tops: Sequence[int],
    row_labels: Sequence[str],
    column_labels: Sequence[str],
) -> Image.Image:
    """Return the grid with a margin for its labels: to the left, ending at the tiles, and above, over their middle.

    tile: height and width; tops: of the rows.
    """
    font = _font()
    gap = 2 * PADDING_PIXELS
    left = max((math.ceil(font.getlength(label)) + 2 * gap for label in row_labels), default=0)
    top = TEXT_PIXELS + 2 * gap if column_labels else 0
    whole = Image.new(paper.mode, (left + paper.width, top + paper.height), "white")
    whole.paste(paper, (left, top))
    draw = ImageDraw.Draw(whole)
    for start, label in zip(tops, row_labels, strict=False):
        draw.text((left - gap, top + start + tile[0] / 2), label, fill="black", font=font, anchor="rm")
    for column, label in enumerate(column_labels):
        middle = left + PADDING_PIXELS + column * (tile[1] + PADDING_PIXELS) + tile[1] / 2
        draw.text((middle, top - gap), label, fill="black", font=font, anchor="ms")
    return whole


def _font() -> ImageFont.FreeTypeFont:
    """Return the font of plots, which has Greek letters and comes with matplotlib."""
    import matplotlib

    return ImageFont.truetype(Path(matplotlib.get_data_path()) / "fonts" / "ttf" / "DejaVuSans.ttf", TEXT_PIXELS)


def _encoded(image: Image.Image) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, format="PNG")  # with `optimize` it takes two to ten times as long, for a hundredth less at most
    return buffer.getvalue()
