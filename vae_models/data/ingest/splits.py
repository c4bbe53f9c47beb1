"""Which datum belongs to which split: by a fixed permutation, by folders, or by a file.

Within a split, data keep the order of the source. The permutation is numpy's `RandomState(0)`, as for the published
sets that have no splits of their own: it has given the same numbers since 2006 and is promised to.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from vae_models.data.canonical import SPLITS, SplitName
from vae_models.data.errors import DataRefused
from vae_models.data.ingest.names import normalised, shown, some

TRAIN, VAL, TEST, NOWHERE = 0, 1, 2, 255
WORDS = {"train": TRAIN, "training": TRAIN, "val": VAL, "valid": VAL, "validation": VAL, "dev": VAL, "test": TEST}
_NUMBERS = {"0": TRAIN, "1": VAL, "2": TEST}
_TAKEN = 0.1  # of the training data, for a split that the source has not
_MOST_LIST_BYTES = 1 << 32

Assignment = NDArray[np.uint8]  # [n]: 0 train, 1 val, 2 test


@dataclass(frozen=True, kw_only=True)
class Division:
    """The split of each datum, and how it came about, in words."""

    of: Assignment
    how: str

    @property
    def counts(self) -> dict[SplitName, int]:
        """Return the number of data of each split."""
        return {split: int((self.of == number).sum()) for number, split in enumerate(SPLITS)}

    @property
    def rows(self) -> NDArray[np.int64]:
        """Return which row of its split each datum is, [n]."""
        rows = np.empty(len(self.of), np.int64)
        for number in range(len(SPLITS)):
            mine = self.of == number
            rows[mine] = np.arange(int(mine.sum()))
        return rows


def by_fraction(count: int, fractions: tuple[float, float, float]) -> Division:
    """Divide by a fixed permutation; every split gets one datum at least. Raise `DataRefused` below three data."""
    if count < len(SPLITS):
        raise DataRefused(f"there are {count} data, and each of train, val and test needs one at least")
    val, test = (max(1, round(count * fraction)) for fraction in fractions[1:])
    val = min(val, count - 2)
    test = min(test, count - 1 - val)
    order = np.random.RandomState(0).permutation(count)
    of = np.zeros(count, np.uint8)
    of[order[count - val - test : count - test]] = VAL
    of[order[count - test :]] = TEST
    return Division(of=of, how=f"by fraction {'/'.join(f'{part:g}' for part in fractions)}, a fixed permutation")


def word(text: str) -> int | None:
    """Return the split that a word names: "train", "Validation", "dev"; None where it names none."""
    return WORDS.get(text.strip().lower())


def by_folders(names: Sequence[str]) -> tuple[Division, list[str]] | None:
    """Divide by the first folder of each name, where all of them are splits; return the names below them as well.

    None where the folders mean something else (a class of vehicles may be called "train"). Raise `DataRefused` where
    two splits are there and other folders beside them.
    """
    tops = [name.partition("/")[0] if "/" in name else "" for name in names]
    number = {top: word(top) for top in dict.fromkeys(tops)}
    splits_there = {split for split in number.values() if split is not None}
    if TRAIN not in splits_there or (len(splits_there) == 1 and None in number.values()):
        return None
    if None in number.values():
        beside = [name for name, top in zip(names, tops, strict=True) if number[top] is None]
        raise DataRefused(
            f"there are folders of splits and {len(beside):,} files beside them: {some(beside)}; put each into train, "
            "val or test, or name the splits with --split-file"
        )
    of = np.array([number[top] for top in tops], np.uint8)
    below = [name.partition("/")[2] for name in names]
    return completed(Division(of=of, how="by the folders " + ", ".join(sorted(number)))), below


def completed(division: Division) -> Division:
    """Take the missing splits from the training data. Raise `DataRefused` where there are none to take."""
    missing = [number for number in (VAL, TEST) if not (division.of == number).any()]
    if not missing:
        return division
    of = division.of.copy()
    train = np.flatnonzero(of == TRAIN)
    take = max(1, round(len(train) * _TAKEN))
    if len(train) <= take * len(missing):
        raise DataRefused(f"there are {len(train)} training data: too few to take {' and '.join(_named(missing))} from")
    order = train[np.random.RandomState(0).permutation(len(train))]
    for at, number in enumerate(missing):
        of[order[at * take : (at + 1) * take]] = number
    taken = f"{' and '.join(_named(missing))} taken from train: {take:,} each, a fixed permutation"
    return Division(of=of, how=f"{division.how}; {taken}")


def _named(numbers: Sequence[int]) -> list[str]:
    return [SPLITS[number] for number in numbers]


def by_file(path: Path, names: Sequence[str], short: Sequence[str] = ()) -> Division:
    """Divide by lines `name,split` (or a tab or blanks between), with or without a header; 0, 1, 2 are taken too.

    short: the same data without the folders that they share, by which they may be named as well

    Raise `DataRefused` for a malformed line, for an unknown name, and for data without a line.
    """
    places = {normalised(name): at for listed in (short, names) for at, name in enumerate(listed)}
    of = np.full(len(names), NOWHERE, np.uint8)
    unknown: list[str] = []
    for number, line in enumerate(_lines(path), start=1):
        if not line.strip():
            continue
        name, split = _parsed(line)
        if split is None:
            if number == 1:
                continue  # a header
            raise DataRefused(
                f"{path}, line {number}: {shown(line[:100])!r} is no `name,split` with train, val or test"
            )
        at = places.get(name)
        if at is None:
            unknown.append(name)
        elif of[at] not in (NOWHERE, split):
            raise DataRefused(f"{path}, line {number}: {shown(name)} has been put into another split before")
        else:
            of[at] = split
    if unknown:
        raise DataRefused(f"{path} names {len(unknown):,} data that there are not: {some(unknown)}")
    if (left := np.flatnonzero(of == NOWHERE)).size:
        raise DataRefused(f"{path} has no line for {left.size:,} data: {some([names[int(at)] for at in left])}")
    if not (of == TRAIN).any():
        raise DataRefused(f"{path} puts nothing into train")
    return completed(Division(of=of, how=f"by the file {shown(path.name)}"))


def _lines(path: Path) -> list[str]:
    try:
        if path.stat().st_size > _MOST_LIST_BYTES:
            raise DataRefused(f"{path} has more than {_MOST_LIST_BYTES:,} bytes")
        return path.read_text("utf-8-sig").splitlines()
    except OSError as error:
        raise DataRefused(f"--split-file {path} cannot be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise DataRefused(f"--split-file {path} is no UTF-8 at byte {error.start:,}: save it as UTF-8") from error


def _parsed(line: str) -> tuple[str, int | None]:
    for separator in (",", "\t", ";", None):
        name, *rest = line.rsplit(separator, 1)
        if rest:
            text = rest[0].strip().strip('"').lower()
            split = WORDS.get(text, _NUMBERS.get(text))
            if split is not None:
                name = name.strip().strip('"').replace("\\", "/").removeprefix("./")
                return normalised(name), split
    return "", None


def divide(
    names: Sequence[str] | None, count: int, *, fractions: tuple[float, float, float], split_file: Path | None
) -> Division:
    """Divide by the file where there is one, else by fraction; data without names are named "0", "1", ..."""
    if split_file is None:
        return by_fraction(count, fractions)
    return by_file(split_file, names if names is not None else [str(at) for at in range(count)])
