"""Texts with a sentence a line, its tokens with blanks between them."""

from __future__ import annotations

UNKNOWN = ("<unk>", "_UNK")  # as published texts write a token that their vocabulary lacks


def read_lines(content: bytes) -> list[list[str]]:
    """Return the tokens of each line that has some. Raise ValueError for what is no UTF-8."""
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise ValueError(f"not text in UTF-8: {error}") from error
    return [tokens for line in text.split("\n") if (tokens := line.split())]
