"""A cache of decoded pictures: hundreds of thousands of JPEGs are decoded once, into one file of bytes.

<cache>/<folder>/<name>.uint8   the pictures, [n, channels, height, width], train then val then test
<cache>/<folder>/<name>.json    its SHA-256, its shape, how it was made, and of what; written last
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import zipfile
import zlib
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from vae_models.data.errors import DataCorrupt
from vae_models.data.fetch import ProgressCallback
from vae_models.data.published import Published
from vae_models.data.written import Content, manifest_of, written_once

Images = NDArray[np.uint8]

_AT_ONCE = 1024  # pictures that are in memory as JPEG and decoded


class Pictures(Protocol):
    """A zip archive or a folder."""

    def read(self, name: str) -> bytes: ...  # DataCorrupt when it is not there, or cut short


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """From a picture to an image: `size` (width, height) is asserted (None: any), `crop` is a side, centred.

    grey: in one channel, by the weights of ITU-R 601
    """

    size: tuple[int, int] | None
    crop: int | None
    side: int
    grey: bool = False

    def __str__(self) -> str:
        crop = f"centre crop {self.crop}x{self.crop}, " if self.crop else ""
        return f"{'grey, ' if self.grey else ''}{crop}Pillow bilinear to {self.side}x{self.side}"

    def image(self, jpeg: bytes, name: str) -> Images:
        """Return the image as uint8 [channels, side, side];
        bilinear with antialiasing: the filter's support grows with the factor.
        """
        try:
            with Image.open(io.BytesIO(jpeg)) as opened:
                picture = opened.convert("L" if self.grey else "RGB")
        except (OSError, SyntaxError, ValueError) as error:  # what Pillow raises for no picture and for half a one
            raise DataCorrupt(f"{name} is not a readable picture: {error}") from error
        if self.size is not None and picture.size != self.size:
            raise DataCorrupt(
                f"{name} is {picture.size[0]}x{picture.size[1]} pixels, expected {self.size[0]}x{self.size[1]}"
            )
        if self.crop is not None:
            left, top = (picture.width - self.crop) // 2, (picture.height - self.crop) // 2
            picture = picture.crop((left, top, left + self.crop, top + self.crop))
        resized = np.asarray(picture.resize((self.side, self.side), Image.Resampling.BILINEAR))
        return resized[None] if self.grey else resized.transpose(2, 0, 1)


@dataclass(frozen=True, kw_only=True)
class Source:
    """What is decoded when the cache is empty: names in the order of the splits; what was read, for the records."""

    pictures: Pictures
    names: Sequence[str]
    sources: dict[str, str]


def decoded(
    published: Published,
    recipe: Recipe,
    cache_dir: Path,
    source: Callable[[], AbstractContextManager[Source]],
    progress: ProgressCallback | None,
) -> tuple[list[Images], dict[str, str]]:
    """Return train, val and test as uint8 arrays, and their sources; `source` is called when nothing is cached.

    The file is written whole or not at all: it gets its name at the end, and one process decodes while the others wait.
    """
    path = cache_dir / published.folder / f"{published.name}-{recipe.side}.uint8"
    total = sum(published.facts.sizes) * published.facts.elements

    @contextmanager
    def content() -> Iterator[Content]:
        with source() as opened_source:
            yield _content(published, recipe, opened_source)

    written_once(path, content, total=total, what=f"{published.name}: decoding", progress=progress)
    return _read(published, recipe, path, manifest_of(path))


def _content(published: Published, recipe: Recipe, source: Source) -> Content:
    pictures = hashlib.sha256()

    def blocks() -> Iterator[bytes]:
        with ThreadPoolExecutor(os.cpu_count()) as pool:
            for first in range(0, len(source.names), _AT_ONCE):
                names = source.names[first : first + _AT_ONCE]
                jpegs = [source.pictures.read(name) for name in names]
                for name, jpeg in zip(names, jpegs, strict=True):
                    pictures.update(name.encode() + b"\0" + len(jpeg).to_bytes(8, "big") + jpeg)
                yield np.stack(list(pool.map(recipe.image, jpegs, names))).tobytes()

    def made() -> dict[str, Any]:
        return {
            "recipe": str(recipe),
            "shape": [len(source.names), *published.facts.shape],
            "sources": {**source.sources, "pictures": pictures.hexdigest()},
        }

    return Content(blocks=blocks(), made=made)


def _read(published: Published, recipe: Recipe, path: Path, manifest: Path) -> tuple[list[Images], dict[str, str]]:
    mend = f"delete {manifest}, and the pictures are decoded again"
    try:
        made = json.loads(manifest.read_text())
        as_now = made["recipe"] == str(recipe) and made["shape"] == [sum(published.facts.sizes), *published.facts.shape]
        expected, sources = str(made["sha256"]), {str(key): str(value) for key, value in made["sources"].items()}
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise DataCorrupt(f"{manifest} is truncated or altered: {error!r}; {mend}") from error
    if not as_now:
        raise DataCorrupt(f"{manifest} is of {made['shape']}, {made['recipe']}; expected {recipe}; {mend}")
    parts, digest = [], hashlib.sha256()
    try:
        with path.open("rb") as file:
            for size in published.facts.sizes:
                pixels = np.fromfile(file, np.uint8, count=size * int(np.prod(published.facts.shape)))
                digest.update(pixels.data)
                parts.append(pixels)
            digest.update(file.read())
    except OSError as error:
        raise DataCorrupt(f"cannot read {path}: {error.strerror or error}; {mend}") from error
    if digest.hexdigest() != expected:
        raise DataCorrupt(
            f"{path} is truncated or altered: expected SHA-256 {expected}, found {digest.hexdigest()}; {mend}"
        )
    return [pixels.reshape(-1, *published.facts.shape) for pixels in parts], sources


class Folder:
    def __init__(self, path: Path) -> None:
        self.path = path

    def read(self, name: str) -> bytes:
        try:
            return (self.path / name).read_bytes()
        except OSError as error:
            raise DataCorrupt(f"{self.path} lacks {name}, or it cannot be read: {error.strerror or error}") from error


class Archive:
    """Names are looked up by how they end: archives differ in the folder that holds everything."""

    def __init__(self, path: Path, archive: zipfile.ZipFile) -> None:
        self.path = path
        self.archive = archive
        self.members = {name.rpartition("/")[2]: name for name in archive.namelist()}

    def read(self, name: str) -> bytes:
        try:
            return self.archive.read(self.members[name.rpartition("/")[2]])
        except KeyError as error:
            raise DataCorrupt(f"{self.path} has no member {name}") from error
        except (RuntimeError, NotImplementedError) as error:  # with a password; by a method that Python has not
            raise DataCorrupt(f"{self.path} cannot be unpacked at {name}: {error}; unpack it there by hand") from error
        except (zipfile.BadZipFile, zlib.error, EOFError, OSError) as error:
            raise DataCorrupt(f"{self.path} is truncated or altered at {name}: {error}") from error


@contextmanager
def opened(path: Path) -> Iterator[Pictures]:
    if path.is_dir():
        yield Folder(path)
        return
    try:
        archive = zipfile.ZipFile(path)
    except (zipfile.BadZipFile, OSError) as error:
        raise DataCorrupt(f"{path} is not a readable zip archive: {error}") from error
    with archive:
        yield Archive(path, archive)
