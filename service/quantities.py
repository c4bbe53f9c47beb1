"""Quantities in words, for messages and tables. Nothing is imported here: whatever says a number may use it."""

from __future__ import annotations


def size(amount: float) -> str:
    """Return bytes in words: "12 B", "1.5 GiB"."""
    for unit in ("B", "KiB", "MiB", "GiB"):
        if abs(amount) < 1024:
            return f"{amount:.0f} {unit}" if unit == "B" else f"{amount:.1f} {unit}"
        amount /= 1024
    return f"{amount:.1f} TiB"
