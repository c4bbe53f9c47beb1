"""What the inputs are described with: how a file is made, how it is read, and what must come out."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from vae_models.data.ingest import Options
from vae_models.data.stored import StoredSet

Make = Callable[[Path], Path | None]  # makes the input in a folder that is there; returns it where it is not the folder


@dataclass(frozen=True, kw_only=True)
class Good:
    """An input as somebody has it.

    pixels:    {index into a datum: value}, of every datum unless `of` says of which
    tolerance: of the values: JPEG's are not exact
    """

    name: str
    make: Make
    options: Options = field(default_factory=Options)
    shape: tuple[int, ...]
    support: str = "bytes"
    sizes: tuple[int, int, int] = (1, 1, 1)
    pixels: Mapping[tuple[int, ...], float] = field(default_factory=dict)
    tolerance: float = 0
    classes: tuple[str, ...] | None = None
    check: Callable[[StoredSet], None] | None = None
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Bad:
    """An input that is refused, and what is said: each of the texts."""

    name: str
    make: Make
    said: tuple[str, ...]
    options: Options = field(default_factory=Options)


def everything(data: StoredSet) -> np.ndarray[Any, Any]:
    """The data of all splits."""
    return np.concatenate([data.x("train")[:], data.x("val")[:], data.x("test")[:]])


def all_labels(data: StoredSet) -> np.ndarray[Any, Any]:
    parts = [data.labels("train"), data.labels("val"), data.labels("test")]
    return np.concatenate([part for part in parts if part is not None])


def raw_png(path: Path, width: int, height: int, depth: int, colour: int, rows: bytes, *extra: bytes) -> None:
    """A PNG by hand, of what Pillow does not write: `rows` are those of the image, without filter bytes."""
    stride = len(rows) // height
    filtered = b"".join(b"\0" + rows[at * stride : (at + 1) * stride] for at in range(height))
    head = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0)
    parts = [chunk(b"IHDR", head), *extra, chunk(b"IDAT", zlib.compress(filtered)), chunk(b"IEND", b"")]
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + b"".join(parts))


def chunk(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))
