"""Texts: sentences of tokens of a vocabulary.

tinyshakespeare   22,969 / 1,278 / 1,308: lines of speeches, in small letters, marks apart from words; of the speeches
                  in the order of RandomState(0).permutation the first 90 %, the next 5 % and the rest (no split is
                  published). The 5,996 most frequent tokens of the training lines, and four special ones
yahoo             100,000 / 10,000 / 10,000 by the published files, a document a line; the 9,996 most frequent tokens of
                  training and four special ones (MR-VAE's count is of 10,000; the files have about 20,000); of a
                  document of more than 200 tokens the first 200
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from functools import partial

import numpy as np
import torch

from vae_models.data.builders.common import Files, from_files
from vae_models.data.formats.lines import UNKNOWN, read_lines
from vae_models.data.formats.speeches import read_speeches, words
from vae_models.data.records import Dataset, Split
from vae_models.data.spec import DataSpec
from vae_models.data.tokens import BOS, EOS, PAD, SPECIAL, UNK

_SEED = 0  # of the order of the speeches; numpy keeps the streams of RandomState fixed for ever
SPLITS = ("train", "val", "test")
_TRAIN, _VAL = 0.9, 0.05  # of the speeches


@from_files
def tinyshakespeare(files: Files) -> Dataset:
    """Return lines of speeches as sentences; a speech is in one split alone."""
    return files.read("text", partial(_speeches, files))


@from_files
def yahoo(files: Files) -> Dataset:
    """Return documents as sentences, the vocabulary of training; of one longer than the facts' length the beginning."""
    facts = files.facts
    parts = {key: files.read(key, partial(_lines, size)) for key, size in zip(SPLITS, facts.sizes, strict=True)}
    vocabulary = _vocabulary(parts["train"], facts.vocabulary or 0)
    numbers = {token: number for number, token in enumerate(vocabulary)}
    longest = facts.shape[0] - 2  # beside <bos> and <eos>
    cut = {key: [sentence[:longest] for sentence in part] for key, part in parts.items()}
    train, val, test = (_split(cut[key], numbers, facts) for key in SPLITS)
    return Dataset(
        name=files.published.name, train=train, val=val, test=test, shape=facts.shape, sources=files.sources,
        vocabulary=vocabulary,
    )  # fmt: skip


def _lines(count: int, content: bytes) -> list[list[str]]:
    """Return the sentences of a split. Raise ValueError where they are not so many."""
    sentences = read_lines(content)
    if len(sentences) != count:
        raise ValueError(f"{len(sentences):,} lines, expected {count:,}")
    return sentences


def _speeches(files: Files, content: bytes) -> Dataset:
    facts, speeches = files.facts, read_speeches(content)
    order = np.random.RandomState(_SEED).permutation(len(speeches))
    ends = [int(len(speeches) * _TRAIN), int(len(speeches) * (_TRAIN + _VAL))]
    parts = [[words(line) for at in part for line in speeches[at]] for part in np.split(order, ends)]
    if (sizes := tuple(map(len, parts))) != facts.sizes:
        raise ValueError(f"{sizes} lines in train, val and test, expected {facts.sizes}")
    vocabulary = _vocabulary(parts[0], facts.vocabulary or 0)
    numbers = {token: number for number, token in enumerate(vocabulary)}
    train, val, test = (_split(part, numbers, facts) for part in parts)
    return Dataset(
        name=files.published.name, train=train, val=val, test=test, shape=facts.shape, sources=files.sources,
        vocabulary=vocabulary,
    )  # fmt: skip


def _vocabulary(sentences: Iterable[Sequence[str]], size: int) -> tuple[str, ...]:
    """Return the special tokens, then the most frequent ones, equally frequent ones by their letters."""
    counts = Counter(token for sentence in sentences for token in sentence if token not in UNKNOWN)
    ordered = sorted(counts, key=lambda token: (-counts[token], token))
    return (*SPECIAL, *ordered[: size - len(SPECIAL)])


def _split(sentences: Sequence[Sequence[str]], numbers: Mapping[str, int], facts: DataSpec) -> Split:
    (width,) = facts.shape
    x = np.full((len(sentences), width), PAD, np.int32)
    lengths = np.empty(len(sentences), np.int64)
    for at, sentence in enumerate(sentences):
        row = [BOS, *(numbers.get(token, UNK) for token in sentence), EOS]
        x[at, : len(row)] = row
        lengths[at] = len(row)
    return Split(x=torch.from_numpy(x), lengths=torch.from_numpy(lengths))
