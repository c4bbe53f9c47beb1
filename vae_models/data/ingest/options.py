"""The options of reading a source. Every default is the one that loses least."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

from vae_models.data.errors import DataRefused

Kind = Literal["images", "arrays", "table", "text", "video"]
Scale = Literal["bits", "bytes", "unit", "255", "signed", "reals"]
KINDS: tuple[Kind, ...] = get_args(Kind)
SCALES: tuple[Scale, ...] = get_args(Scale)

FRACTIONS = (0.8, 0.1, 0.1)
WHITE = (255, 255, 255)
VOCABULARY = 10_000  # tokens at most, the four special ones among them
MOST_TOKENS = 1024  # of a sentence, unless --length says otherwise
_COLOURS = {"white": WHITE, "black": (0, 0, 0), "grey": (128, 128, 128)}


@dataclass(frozen=True, kw_only=True)
class Options:
    """How a source is read.

    kind:        what it is; None: as its name says
    size:        (height, width) of every picture: scaled with its ratio kept and cut evenly, or stretched
    crop:        (height, width) that is cut from the middle first, in pixels of the source
    grey:        one channel, ITU-R 601 luma
    stretch:     --size without regard to the ratio
    background:  what shows through transparent pixels, 8 bits each of red, green and blue
    key:         the array or column that holds x
    label:       the array or column that holds the labels
    axes:        the dimensions of an array in their order: letters (N C H W T F) or names with commas
    scale:       what the values of an array are
    standardise: subtract the training split's mean and divide by its standard deviation; None: tables alone
    tokens:      what a sentence is made of
    vocabulary:  tokens at most; the rarer ones become <unk>
    length:      tokens of a sentence at most, <bos> and <eos> among them; longer ones are cut
    frames:      frames of a video at most; longer ones are cut
    fractions:   of train, val and test, where the source has no splits
    split_file:  lines `name,split`
    skip_broken: leave out what cannot be read, and list it
    workers:     processes; None: one for each core
    """

    kind: Kind | None = None
    size: tuple[int, int] | None = None
    crop: tuple[int, int] | None = None
    grey: bool = False
    stretch: bool = False
    background: tuple[int, int, int] = WHITE
    key: str | None = None
    label: str | None = None
    axes: str | None = None
    scale: Scale | None = None
    standardise: bool | None = None
    tokens: Literal["word", "char"] = "word"
    vocabulary: int = VOCABULARY
    length: int | None = None
    frames: int | None = None
    fractions: tuple[float, float, float] = FRACTIONS
    split_file: Path | None = None
    skip_broken: bool = False
    workers: int | None = None

    @property
    def processes(self) -> int:
        """Return how many processes decode."""
        return self.workers or (
            len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
        )


def parse_size(text: str, option: str = "--size") -> tuple[int, int]:
    """Return (height, width) of "64" or "48x64". Raise `DataRefused`."""
    sides = text.lower().split("x")
    if len(sides) <= 2 and all(side.isascii() and side.isdecimal() for side in sides):
        height, width = int(sides[0]), int(sides[-1])
        if 1 <= height <= 8192 and 1 <= width <= 8192:
            return height, width
    raise DataRefused(f"{option} {text}: a number of pixels (64), or HEIGHTxWIDTH (48x64), each from 1 to 8192")


def parse_fractions(text: str) -> tuple[float, float, float]:
    """Return the fractions of "0.8/0.1/0.1". Raise `DataRefused`."""
    try:
        train, val, test = (float(part) for part in text.replace(",", "/").split("/"))
    except ValueError:
        raise DataRefused(f"--split {text}: three fractions of train, val and test: 0.8/0.1/0.1") from None
    if not (min(train, val, test) > 0 and abs(train + val + test - 1) < 1e-6):
        raise DataRefused(f"--split {text}: each is above 0, and together they are 1: 0.8/0.1/0.1")
    return train, val, test


def parse_colour(text: str) -> tuple[int, int, int]:
    """Return red, green and blue of "white", "black", "grey" or "#rrggbb". Raise `DataRefused`."""
    if text in _COLOURS:
        return _COLOURS[text]
    try:
        if len(text) == 7 and text[0] == "#":
            red, green, blue = bytes.fromhex(text[1:])
            return red, green, blue
    except ValueError:
        pass
    raise DataRefused(f"--background {text}: white, black, grey or #rrggbb")
