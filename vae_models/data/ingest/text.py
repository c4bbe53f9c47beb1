"""Text: a sentence a line, in UTF-8. Tokens are words between blanks, or characters.

A sentence is stored as <bos>, its tokens, <eos>, and <pad> up to the longest; its length counts all but <pad>. The
vocabulary is the training split's: the special tokens, then the others from the most frequent on, equally frequent ones
by code point.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from vae_models.data.canonical import SPLITS
from vae_models.data.errors import DataRefused
from vae_models.data.ingest import splits
from vae_models.data.ingest.meter import Meter, StepProgress
from vae_models.data.ingest.names import ignored, natural
from vae_models.data.ingest.options import MOST_TOKENS, Options
from vae_models.data.ingest.report import Report, begin
from vae_models.data.ingest.splits import TRAIN, Division
from vae_models.data.ingest.writer import Draft
from vae_models.data.spec import DataSpec
from vae_models.data.stored import VOCABULARY
from vae_models.data.tokens import BOS, EOS, PAD, SPECIAL, UNK

_MOST_LINE_BYTES = 1 << 20
_MOST_COUNTED = 20_000_000  # different tokens of the training split
_BLOCK = 1024  # sentences


@dataclass(frozen=True, kw_only=True)
class Lines:
    """The lines of files that are not empty, in order; `of` is the split of each file where their names say so."""

    files: Sequence[Path]

    def __iter__(self) -> Iterator[str]:
        for path in self.files:
            yield from _lines(path)


def add(path: Path, options: Options, draft: Draft, progress: StepProgress | None) -> tuple[DataSpec, Report]:
    """Write the sentences of a file, or of a folder of .txt, into `draft`. Raise `DataRefused`."""
    report = begin("text", path)
    files = _files(path)
    counts, empty = _counted(files, progress)
    division = _divided(files, counts, options)
    lines = Lines(files=files)
    vocabulary, longest, seen = _vocabulary(lines, division, options, progress)
    most = options.length or MOST_TOKENS
    if most < 3:
        raise DataRefused(f"--length {most}: <bos>, one token and <eos> are three")
    width = min(longest + 2, most)
    draft.allocate(division.counts, (width,), np.dtype("<i4"))
    cut, unknown = _write(draft, lines, division, vocabulary, width, options, progress)
    draft.texts(VOCABULARY, list(vocabulary))
    _say(report, options, division, vocabulary=len(vocabulary), seen=seen, width=width, cut=cut, unknown=unknown)
    report.source |= {"files": len(files), "data": len(division.of), "empty_lines": empty}
    if empty:
        report.note(f"passed over: {empty:,} empty lines")
    counts_of = division.counts
    spec = DataSpec(
        shape=(width,),
        axes=("time",),
        support="tokens",
        sizes=(counts_of["train"], counts_of["val"], counts_of["test"]),
        lengths=True,
        vocabulary=len(vocabulary),
    )
    return spec, report


def _write(
    draft: Draft,
    lines: Lines,
    division: Division,
    vocabulary: dict[str, int],
    width: int,
    options: Options,
    progress: StepProgress | None,
) -> tuple[int, int]:
    """Write every sentence and its length; return how many were cut, and how many tokens are unknown."""
    rows, lengths = division.rows, np.empty(len(division.of), np.int32)
    cut, unknown = 0, 0
    meter = Meter("writing", len(division.of), "sentences", progress)
    for start, block in _blocks(lines):
        chosen = slice(start, start + len(block))
        stored, lengths[chosen], cut_here, unknown_here = _encoded(block, vocabulary, width, options)
        cut, unknown = cut + cut_here, unknown + unknown_here
        draft.write(division.of[chosen], rows[chosen], stored)
        meter.at(start + len(block))
    for number, split in enumerate(SPLITS):
        draft.lengths(split, lengths[division.of == number])
    return cut, unknown


def _say(
    report: Report,
    options: Options,
    division: Division,
    *,
    vocabulary: int,
    seen: int,
    width: int,
    cut: int,
    unknown: int,
) -> None:
    kind = "words between blanks" if options.tokens == "word" else "characters"
    report.note(f"tokens: {kind}; sentences of at most {width:,}, <bos> and <eos> among them")
    report.note(f"vocabulary: {vocabulary:,} of the {seen + len(SPECIAL):,} that the training split has")
    report.note(f"splits: {division.how}")
    if cut:
        report.note(f"{cut:,} sentences were longer, and cut (--length)")
    if unknown:
        report.note(f"{unknown:,} tokens are not in the vocabulary, and <unk>")
    report.made |= {
        "tokens": options.tokens,
        "special": list(SPECIAL),
        "vocabulary": VOCABULARY,
        "cut": cut,
        "unknown": unknown,
    }
    report.source["splits"] = division.how


def _files(path: Path) -> list[Path]:
    if path.is_file():
        return [path]
    files = [file for file in path.rglob("*") if file.is_file() and file.suffix.lower() in (".txt", ".text")]
    files = [file for file in files if ignored(file.relative_to(path).as_posix()) is None]
    if not files:
        raise DataRefused(f"{path} holds no .txt files")
    return sorted(files, key=lambda file: natural(file.relative_to(path).as_posix()))


def _divided(files: Sequence[Path], counts: Sequence[int], options: Options) -> Division:
    """Divide by file names such as train.txt or ptb.valid.txt, where every one names a split."""
    total = sum(counts)
    if not total:
        raise DataRefused(f"{files[0]} has no sentences")
    words = [_word(file) for file in files]
    if options.split_file is None and len(files) > 1 and None not in words and TRAIN in words:
        of = np.concatenate([np.full(count, word, np.uint8) for count, word in zip(counts, words, strict=True)])
        return splits.completed(Division(of=of, how="by the names of the files"))
    return splits.divide(None, total, fractions=options.fractions, split_file=options.split_file)


def _word(path: Path) -> int | None:
    parts = path.stem.replace("-", ".").replace("_", ".").split(".")
    return next((word for part in parts if (word := splits.word(part)) is not None), None)


def _counted(files: Sequence[Path], progress: StepProgress | None) -> tuple[list[int], int]:
    """Return how many sentences each file has, and how many empty lines there are."""
    counts, empty = [], 0
    meter = Meter("counting", None, "lines", progress)
    for path in files:
        count = 0
        for line in _lines(path, keep_empty=True):
            count += bool(line)
            empty += not line
            meter.add(1)
        counts.append(count)
    return counts, empty


def _lines(path: Path, *, keep_empty: bool = False) -> Iterator[str]:
    """Yield the lines of a file without blanks around them. Raise `DataRefused` for bytes that are no UTF-8."""
    with _opened(path), path.open("rb") as file:
        number = 0
        while raw := file.readline(_MOST_LINE_BYTES + 1):
            number += 1
            if len(raw) > _MOST_LINE_BYTES:
                raise DataRefused(
                    f"{path}, line {number:,} has more than {_MOST_LINE_BYTES:,} bytes: a sentence a line"
                )
            if b"\0" in raw:
                raise DataRefused(f"{path}, line {number:,} has a zero byte: this is no text in UTF-8")
            try:
                line = raw.decode("utf-8-sig" if number == 1 else "utf-8").strip()
            except UnicodeDecodeError as error:
                raise DataRefused(
                    f"{path}, line {number:,} is no UTF-8 at byte {error.start}: save it as UTF-8"
                ) from None
            if line or keep_empty:
                yield line


@contextmanager
def _opened(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise DataRefused(f"{path} cannot be read: {error.strerror}") from error


def _tokens(line: str, options: Options) -> Sequence[str]:
    return line.split() if options.tokens == "word" else line


def _vocabulary(
    lines: Lines, division: Division, options: Options, progress: StepProgress | None
) -> tuple[dict[str, int], int, int]:
    """Return token -> number, the tokens of the longest sentence, and how many different ones training has."""
    counts: Counter[str] = Counter()
    longest = 0
    meter = Meter("vocabulary", len(division.of), "sentences", progress)
    for place, line in enumerate(lines):
        tokens = _tokens(line, options)
        longest = max(longest, len(tokens))
        if division.of[place] == TRAIN:
            counts.update(tokens)
            if len(counts) > _MOST_COUNTED:
                raise DataRefused(f"there are more than {_MOST_COUNTED:,} different words: take --tokens char")
        meter.add(1)
    for special in SPECIAL:
        counts.pop(special, None)
    ordered = sorted(counts, key=lambda token: (-counts[token], token))[: options.vocabulary - len(SPECIAL)]
    return {token: number for number, token in enumerate((*SPECIAL, *ordered))}, longest, len(counts)


def _blocks(lines: Lines) -> Iterator[tuple[int, list[str]]]:
    start, block = 0, []
    for line in lines:
        block.append(line)
        if len(block) == _BLOCK:
            yield start, block
            start, block = start + len(block), []
    if block:
        yield start, block


def _encoded(
    block: Sequence[str], vocabulary: dict[str, int], width: int, options: Options
) -> tuple[NDArray[np.int32], NDArray[np.int32], int, int]:
    """Return [n, width] and lengths [n] of sentences, how many were cut, and how many tokens are unknown."""
    stored = np.full((len(block), width), PAD, np.int32)
    lengths = np.empty(len(block), np.int32)
    cut, unknown = 0, 0
    for at, line in enumerate(block):
        tokens = [vocabulary.get(token, UNK) for token in _tokens(line, options)]
        unknown += tokens.count(UNK)
        cut += len(tokens) > width - 2
        row = [BOS, *tokens[: width - 2], EOS]
        stored[at, : len(row)] = row
        lengths[at] = len(row)
    return stored, lengths, cut, unknown
