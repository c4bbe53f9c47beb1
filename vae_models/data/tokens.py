"""The special tokens that every vocabulary begins with, by their numbers."""

from __future__ import annotations

PAD, BOS, EOS, UNK = range(4)
SPECIAL = ("<pad>", "<bos>", "<eos>", "<unk>")
