"""What is wrong, as text: the first mistakes, one a line, and how many more there are.

Whoever makes three thousand mistakes has made one, and an answer must not be larger than what it answers.
"""

from __future__ import annotations

from collections.abc import Iterable

MOST = 10  # mistakes that are named
LONGEST = 1000  # characters of one


def listed(lines: Iterable[str], total: int | None = None, *, between: str = "\n") -> str:
    """Return the first `MOST` different lines and "and N more mistakes". total: of lines, where not all were made."""
    unique = list(dict.fromkeys(lines))
    shown = [line if len(line) <= LONGEST else f"{line[: LONGEST - 3]}..." for line in unique[:MOST]]
    more = (len(unique) if total is None else max(total, len(unique))) - len(shown)
    if more > 0:
        shown.append(f"... and {more:,} more mistake{'s' if more > 1 else ''}")
    return between.join(shown)
