"""Sentences of tokens, and pictures of them as PNG bytes."""

from __future__ import annotations

import io
from collections.abc import Iterable, Sequence

from jaxtyping import Int
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from vae_models.data.tokens import BOS, EOS, PAD

SIZE, LINE, MARGIN = 14, 20, 8  # pixels: of the letters, from line to line, around the page
MOST = 120  # characters of a line that are drawn


def texts(tokens: Int[Tensor, "n time"], vocabulary: Sequence[str] | None) -> list[str]:
    """Return each sentence without its special tokens, up to its end; numbers where nobody knows the tokens' texts."""
    return [" ".join(_words(row, vocabulary)) for row in tokens.tolist()]


def _words(row: Iterable[int], vocabulary: Sequence[str] | None) -> Iterable[str]:
    for token in row:
        if token == EOS:
            return
        if token not in (PAD, BOS):
            yield str(token) if vocabulary is None else vocabulary[token]


def page(lines: Sequence[tuple[str, str]]) -> bytes:
    """Draw lines of text, each after its label, which is empty for most. Return the PNG.

    Raise ValueError where there are no lines.
    """
    if not lines:
        raise ValueError("a page of text needs at least one line")
    font = ImageFont.load_default(SIZE)
    shown = [(label, text if len(text) <= MOST else f"{text[: MOST - 3]}...") for label, text in lines]
    first = max(font.getlength(label) for label, _ in shown)
    left = MARGIN + (int(first) + MARGIN if first else 0)
    width = left + int(max(font.getlength(text) for _, text in shown)) + MARGIN
    image = Image.new("L", (max(width, 200), 2 * MARGIN + LINE * len(shown)), 255)
    pen = ImageDraw.Draw(image)
    for place, (label, text) in enumerate(shown):
        top = MARGIN + LINE * place
        pen.text((MARGIN, top), label, fill=110, font=font)
        pen.text((left, top), text, fill=0, font=font)
    buffer = io.BytesIO()
    image.save(buffer, format="PNG")
    return buffer.getvalue()


def pairs(originals: Sequence[str], reconstructions: Sequence[str]) -> bytes:
    """Draw sentences, each over its reconstruction. Return the PNG."""
    both = zip(originals, reconstructions, strict=True)
    return page(
        [line for original, likeliest in both for line in (("x", original), ("likeliest", likeliest), ("", ""))][:-1]
    )
