"""Omniglot's published archives of PNG files."""

from __future__ import annotations

import io
import re
import zipfile
import zlib
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

_MEMBER = re.compile(r"(?:.*/)?(images_\w+)/([^/]+)/(character\d+)/\d+_(\d+)\.png")
_SIDE = 28


@dataclass(frozen=True, kw_only=True)
class Drawings:
    """Sorted by path. images: uint8 [n, 28, 28], ink 255; alphabets: [n], 0, 1, ... by name; numbers: [n], 1 to 20."""

    images: NDArray[np.uint8]
    alphabets: NDArray[np.int64]
    numbers: NDArray[np.int64]


def read_drawings(content: bytes) -> Drawings:
    """Read `images_background.zip` or `images_evaluation.zip` (Lake et al. 2015):
    <part>/<Alphabet>/characterNN/IIII_DD.png.

    The files are 105x105, 1 bit, ink 0 on white 1. They are inverted and reduced to 28x28 by Pillow's box filter,
    rounded to bytes: a pixel is the share of ink among the 3 or 4 by 3 or 4 pixels whose centres lie in its 3.75x3.75
    square of the original.
    """
    alphabets: dict[str, int] = {}
    images, labels, numbers = [], [], []
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            members = [(name, match) for name in archive.namelist() if (match := _MEMBER.fullmatch(name))]
            for name, match in sorted(members, key=lambda pair: pair[0]):
                images.append(_reduced(archive.read(name), name))
                labels.append(alphabets.setdefault(match[2], len(alphabets)))
                numbers.append(int(match[4]))
    except (zipfile.BadZipFile, zlib.error, EOFError) as error:
        raise ValueError(f"not a readable zip archive: {error}") from error
    if not images:
        raise ValueError("no <part>/<Alphabet>/characterNN/IIII_DD.png in the archive")
    return Drawings(
        images=np.stack(images), alphabets=np.array(labels, dtype=np.int64), numbers=np.array(numbers, dtype=np.int64)
    )


def _reduced(png: bytes, name: str) -> NDArray[np.uint8]:
    from PIL import Image, ImageOps

    try:
        with Image.open(io.BytesIO(png)) as image:
            if image.size != (105, 105):
                raise ValueError(f"{name} is {image.size[0]}x{image.size[1]}, expected 105x105")
            ink = ImageOps.invert(image.convert("L"))
    except (OSError, SyntaxError) as error:  # what Pillow raises for a broken file
        raise ValueError(f"{name} is not a readable PNG file: {error}") from error
    return np.asarray(ink.resize((_SIDE, _SIDE), Image.Resampling.BOX))
