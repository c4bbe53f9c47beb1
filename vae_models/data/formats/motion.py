"""Acclaim skeletons (`.asf`) and motion (`.amc`), the text formats of the CMU motion capture database."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, kw_only=True)
class Skeleton:
    """`channels`: each bone that moves and its number of angles, in the order of the file; the root has 6."""

    channels: tuple[tuple[str, int], ...]


def read_asf(content: bytes) -> Skeleton:
    """Read the order of the channels: `:root order ...`, then the `dof` of every bone of `:bonedata`;
    angles in degrees.
    """
    section, bone, channels = "", "", []
    for number, line in enumerate(_lines(content), 1):
        words = line.split()
        if not words or line.startswith("#"):
            continue
        if words[0].startswith(":"):
            section = words[0]
        elif section == ":units" and words[0] == "angle" and words[1:] != ["deg"]:
            raise ValueError(f"line {number}: angles in {' '.join(words[1:])}, expected deg")
        elif section == ":root" and words[0] == "order":
            channels.append(("root", len(words) - 1))
        elif section == ":bonedata" and words[0] == "name":
            bone = words[1]
        elif section == ":bonedata" and words[0] == "dof":
            channels.append((bone, len(words) - 1))
    if len(channels) < 2 or channels[0][0] != "root":
        raise ValueError("no :root order and no bones with dof: not an .asf skeleton")
    return Skeleton(channels=tuple(channels))


def read_amc(content: bytes, skeleton: Skeleton) -> NDArray[np.float64]:
    """Read the motion, frames x channels, in the order of the skeleton; angles in degrees.

    A frame is its number on a line, then a line a bone: its name and its values, bones in any order.
    """
    order = {name: place for place, (name, _) in enumerate(skeleton.channels)}
    frames: list[list[list[float]]] = []
    degrees = False
    for number, line in enumerate(_lines(content), 1):
        words = line.split()
        if not words or line.startswith("#"):
            continue
        if words[0].startswith(":"):
            degrees |= words[0] == ":DEGREES"
        elif len(words) == 1 and words[0].isdigit():
            _complete(frames, skeleton, number)
            frames.append([[] for _ in order])
        elif frames and words[0] in order:
            place = order[words[0]]
            frames[-1][place] = _values(words, skeleton.channels[place][1], number)
        else:
            raise ValueError(f"line {number}: {line[:40]!r} is neither a frame number nor a bone of the skeleton")
    _complete(frames, skeleton, "the last")
    if not frames:
        raise ValueError("no frames: not an .amc motion")
    if not degrees:
        raise ValueError("no line :DEGREES; angles in another unit are not read")
    return np.array([[value for bone in frame for value in bone] for frame in frames])


def _lines(content: bytes) -> list[str]:
    try:
        return content.decode("ascii").splitlines()
    except UnicodeDecodeError as error:
        raise ValueError(f"not text: {error}") from error


def _values(words: list[str], count: int, number: int) -> list[float]:
    try:
        values = [float(word) for word in words[1:]]
    except ValueError as error:
        raise ValueError(f"line {number}: {error}") from error
    if len(values) != count or not all(map(math.isfinite, values)):
        raise ValueError(f"line {number}: {words[0]} needs {count} finite values, got {' '.join(words[1:])}")
    return values


def _complete(frames: list[list[list[float]]], skeleton: Skeleton, line: int | str) -> None:
    """Raise ValueError unless the frame before `line` has every bone."""
    absent = (
        [name for (name, _), values in zip(skeleton.channels, frames[-1], strict=True) if not values] if frames else []
    )
    if absent:
        raise ValueError(f"the frame that ends before line {line} lacks {', '.join(absent)}")
