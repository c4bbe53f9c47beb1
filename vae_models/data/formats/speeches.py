"""Plays as plain text: speeches between empty lines, each a line NAME: and lines of verse or prose."""

from __future__ import annotations

import re

_TOKEN = re.compile(r"[a-z]+(?:'[a-z]+)*|'[a-z]+|[^\sa-z]")


def read_speeches(content: bytes) -> list[list[str]]:
    """Return the lines of each speech that has some, without its speaker's name.

    Raise ValueError for what is no UTF-8, and for a speech without a name.
    """
    try:
        text = content.decode("utf-8")
    except UnicodeDecodeError as error:
        raise ValueError(f"not text in UTF-8: {error}") from error
    speeches = []
    for number, block in enumerate(re.split(r"\n{2,}", text.replace("\r\n", "\n").strip()), 1):
        name, *lines = block.split("\n")
        if not name.endswith(":"):
            raise ValueError(f"speech {number} begins with {name[:40]!r}, which is no speaker's name and a colon")
        if spoken := [line.strip() for line in lines if line.strip()]:
            speeches.append(spoken)
    return speeches


def words(line: str) -> list[str]:
    """Return the tokens of a line in small letters: words, apostrophes inside of them kept, and marks one by one."""
    return _TOKEN.findall(line.lower())
