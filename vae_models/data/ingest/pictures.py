"""Decodes many pictures at once into the shards of a draft, each into its own place.

How the pictures are (grey or colour, which size) is guessed from a few of them before; a file that is otherwise says
so, and then either everything is decoded again with three channels, or the sizes that there are are listed. So every
file is read once, and not all heads first.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from vae_models.data.canonical import SPLITS, SplitName
from vae_models.data.errors import DataRefused
from vae_models.data.ingest import pool
from vae_models.data.ingest.decode import Look, Met, Opened
from vae_models.data.ingest.files import Given, Locator, Unreadable, content
from vae_models.data.ingest.meter import Meter, StepProgress
from vae_models.data.ingest.names import shown
from vae_models.data.ingest.options import Options
from vae_models.data.ingest.splits import Division
from vae_models.data.ingest.writer import Draft, Shards

_PROBED = 32  # pictures that are looked at to guess how all are
_TASK_BYTES = 1 << 23  # decoded, in one task
_TASK_PICTURES = 128
_ALONE = 192  # pictures for a process at least: starting one costs as much as decoding so many small ones
_NAMED = 10


class Source(Protocol):
    """Where pictures come from: `names` in order, and the bytes of each in the order that is fastest to read."""

    @property
    def names(self) -> Sequence[str]: ...

    def stream(self) -> Iterator[tuple[int, Locator]]: ...


class Piece(NamedTuple):
    """One picture: its number among the names, and the split and row that it goes to."""

    place: int
    split: int
    row: int
    locator: Locator


@dataclass
class Tally:
    """What a task, or all of them, found.

    kinds:   how many were of one bit, grey, coloured
    sizes:   (height, width) -> (how many, the place of one)
    unfit:   coloured ones among grey ones
    broken:  place -> why
    """

    done: int = 0
    met: Met = field(default_factory=Met)
    kinds: Counter[str] = field(default_factory=Counter)
    sizes: dict[tuple[int, int], tuple[int, int]] = field(default_factory=dict)
    unfit: int = 0
    broken: dict[int, str] = field(default_factory=dict)

    def count_size(self, size: tuple[int, int], place: int, count: int = 1) -> None:
        """Count pictures of a size; the first place is kept."""
        before, first = self.sizes.get(size, (0, place))
        self.sizes[size] = (before + count, min(first, place))

    def add(self, other: Tally) -> None:
        """Add the counts of another tally."""
        self.done += other.done
        self.met += other.met
        self.kinds += other.kinds
        self.unfit += other.unfit
        self.broken |= other.broken
        for size, (count, place) in other.sizes.items():
            self.count_size(size, place, count)


@dataclass(frozen=True, kw_only=True)
class Decoder:
    """Decodes the pictures of a task and writes them. Sent to other processes.

    size:   (height, width) that every picture must have before it is changed; None: any
    shards: where they go; [channels, height, width] each
    """

    look: Look
    channels: int
    size: tuple[int, int] | None
    shards: Mapping[SplitName, Shards]

    def __call__(self, pieces: Sequence[Piece]) -> Tally:
        """Decode and write pictures; those that cannot be are counted in the returned tally."""
        tally = Tally(done=len(pieces))
        pieces = sorted(pieces, key=lambda piece: (piece.split, piece.row))
        shape = self.shards["train"].shape
        block = np.empty((len(pieces), *shape), np.uint8)
        good = [self._one(piece, block[at], tally) for at, piece in enumerate(pieces)]
        for start, end in _runs(pieces, good):
            self.shards[SPLITS[pieces[start].split]].write(pieces[start].row, block[start:end])
        return tally

    def _one(self, piece: Piece, out: NDArray[np.uint8], tally: Tally) -> bool:
        try:
            opened = Opened(content(piece.locator))
            picture = opened.decode(self.look, tally.met)
        except Unreadable as error:
            tally.broken[piece.place] = str(error)
            return False
        if self.size is not None:  # counted when it is decoded: what is broken is left out, whatever its head says
            tally.count_size((opened.height, opened.width), piece.place)
            if (opened.height, opened.width) != self.size:
                return False
        tally.kinds[picture.kind] += 1
        if picture.kind == "colour" and self.channels == 1:
            tally.unfit += 1
            return False
        out[...] = picture.pixels if picture.pixels.ndim == 2 else picture.pixels.transpose(2, 0, 1)
        return True


def _runs(pieces: Sequence[Piece], good: Sequence[bool]) -> Iterator[tuple[int, int]]:
    """Yield (start, end) of consecutive rows of one split."""
    start = None
    for at, piece in enumerate(pieces):
        if start is not None and (
            not good[at] or piece.split != pieces[at - 1].split or piece.row != pieces[at - 1].row + 1
        ):
            yield start, at
            start = None
        if start is None and good[at]:
            start = at
    if start is not None:
        yield start, len(pieces)


@dataclass(frozen=True, kw_only=True)
class Decoded:
    """All pictures are in the draft. `kept`: [n], which of the names are; the others are in the tally's `broken`."""

    shape: tuple[int, int, int]
    tally: Tally
    kept: NDArray[np.bool_]


def look_of(options: Options) -> Look:
    """Return how the pictures are to look."""
    return Look(
        size=options.size,
        crop=options.crop,
        grey=options.grey,
        stretch=options.stretch,
        background=options.background,
    )


def decode_into(
    draft: Draft, source: Source, division: Division, options: Options, progress: StepProgress | None
) -> Decoded:
    """Decode every picture into its row.

    Raise `DataRefused` for sizes that differ, and for broken pictures unless they are left out; `DataError` where the
    disk is full.
    """
    look = look_of(options)
    size, channels = _guessed(source, look)
    while True:
        after = look.size or look.crop or size
        shards = draft.allocate(division.counts, (channels, *after), np.dtype(np.uint8))
        asked = None if look.size or look.crop else size
        decoder = Decoder(look=look, channels=channels, size=asked, shards=shards)
        meter = Meter("decoding", len(source.names), "files", progress)
        per_task = max(1, min(_TASK_PICTURES, _TASK_BYTES // shards["train"].row_bytes))
        tally = _run(decoder, source, division, options, meter, per_task)
        if not tally.unfit:
            break
        channels = 3
    if len(tally.sizes) > 1:
        heads = _run(_heads, source, division, options, Meter("sizes", len(source.names), "files", progress))
        raise DataRefused(_sizes_differ(heads, source.names))
    kept = np.ones(len(source.names), bool)
    kept[list(tally.broken)] = False
    if tally.broken:
        named = [(source.names[place], tally.broken[place]) for place in sorted(tally.broken)]
        refuse_broken(named, len(source.names), skip=options.skip_broken)
        leave_out(draft, division, kept)
    return Decoded(shape=(channels, *after), tally=tally, kept=kept)


def leave_out(draft: Draft, division: Division, kept: NDArray[np.bool_]) -> None:
    """Close the gaps of the pictures left out. Raise `DataRefused` where a split is left without data."""
    masks = {split: kept[division.of == number] for number, split in enumerate(SPLITS)}
    for split, mask in masks.items():
        if not mask.any():
            raise DataRefused(f"every one of the {len(mask):,} data of {split} is broken")
    draft.keep(masks)


def refuse_broken(broken: Sequence[tuple[str, str]], count: int, *, skip: bool) -> None:
    """Raise `DataRefused` that names the broken data, ten at most, unless they are left out and others remain."""
    if skip and len(broken) < count:
        return
    lines = [f"  {shown(name)}: {why}" for name, why in broken[:_NAMED]]
    more = f"\n  and {len(broken) - _NAMED:,} more" if len(broken) > _NAMED else ""
    of = "it" if count == 1 else f"{len(broken):,} of {count:,} files"
    mend = "" if skip else "\nMend or delete them, or leave them out with --skip-broken."
    raise DataRefused(f"{of} cannot be read:\n" + "\n".join(lines) + more + mend)


def _guessed(source: Source, look: Look) -> tuple[tuple[int, int], int]:
    """Return (height, width) and channels, from a few pictures. Raise `DataRefused` where none can be read."""
    size, kinds = None, set()
    broken: list[tuple[str, str]] = []
    for probed, (place, locator) in enumerate(_probes(source)):
        if size is not None and probed >= _PROBED:
            break
        try:
            opened = Opened(content(locator))
            kinds.add(opened.decode(look, Met()).kind)
            size = size or (opened.height, opened.width)  # of one that can be decoded to its end
        except Unreadable as error:
            broken.append((source.names[place], str(error)))
    if size is None:
        refuse_broken(broken, max(len(source.names), len(broken)), skip=False)
        raise AssertionError  # something was refused
    return size, 3 if "colour" in kinds and not look.grey else 1


def _probes(source: Source) -> Iterator[tuple[int, Locator]]:
    """Yield pictures from everywhere, then all; of a stream, which cannot be entered in the middle, from its start."""
    locators = getattr(source, "locators", None)
    if locators is None:
        yield from source.stream()
        return
    step = max(1, len(locators) // _PROBED)
    yield from ((place, locators[place]) for place in range(0, len(locators), step))
    yield from enumerate(locators)


def _heads(pieces: Sequence[Piece]) -> Tally:
    """Count sizes without decoding."""
    tally = Tally(done=len(pieces))
    for piece in pieces:
        try:
            opened = Opened(content(piece.locator))
        except Unreadable as error:
            tally.broken[piece.place] = str(error)
        else:
            tally.count_size((opened.height, opened.width), piece.place)
    return tally


def _run(
    work: Callable[[Sequence[Piece]], Tally],
    source: Source,
    division: Division,
    options: Options,
    meter: Meter,
    per_task: int = _TASK_PICTURES,
) -> Tally:
    """Return the tallies of all tasks; decoding stops at the first picture that shows the settings to be wrong."""
    whole, count = Tally(), len(source.names)
    processes = min(options.processes, max(1, count // _ALONE) if per_task == _TASK_PICTURES else count)
    for tally in pool.unordered(work, _tasks(source.stream(), division, per_task), processes):
        whole.add(tally)
        meter.add(tally.done)
        if work is not _heads and (whole.unfit or len(whole.sizes) > 1):
            break
    return whole


def _tasks(stream: Iterable[tuple[int, Locator]], division: Division, per_task: int) -> Iterator[list[Piece]]:
    """Yield tasks of so many pictures, or fewer where their bytes come with them: tasks under way are in memory."""
    rows, held = division.rows, 0
    pieces: list[Piece] = []
    for place, locator in stream:
        pieces.append(Piece(place, int(division.of[place]), int(rows[place]), locator))
        held += len(locator.content) if isinstance(locator, Given) else 0
        if len(pieces) == per_task or held >= _TASK_BYTES:
            yield pieces
            pieces, held = [], 0
    if pieces:
        yield pieces


def _sizes_differ(tally: Tally, names: Sequence[str]) -> str:
    sizes = sorted(tally.sizes.items(), key=lambda entry: (-entry[1][0], entry[0]))
    lines = [
        f"  {height}x{width}: {count:,}, for example {shown(names[place])}"
        for (height, width), (count, place) in sizes[:_NAMED]
    ]
    more = f"\n  and {len(sizes) - _NAMED:,} sizes more" if len(sizes) > _NAMED else ""
    return (
        f"the pictures have {len(sizes):,} sizes (height x width):\n" + "\n".join(lines) + more + "\n"
        "Say which one all shall have: --size 64 or --size 48x64 scales with the ratio kept and cuts what is over, "
        "evenly; --stretch keeps all and not the ratio; --crop 64 cuts from the middle without scaling."
    )
