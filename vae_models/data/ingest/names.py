"""Names of files as people have them: Unicode in two forms, bytes that are none, hidden ones, links that lead back."""

from __future__ import annotations

import os
import re
import stat
import unicodedata
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from vae_models.data.errors import DataRefused

MOST_FILES = 50_000_000
_MOST_DEPTH = 64  # folders in folders: links between siblings could double the tree at every level
_SHOWN = 10
_JUNK = frozenset({"__macosx", "thumbs.db", "desktop.ini", "ehthumbs.db"})
_DIGITS = re.compile(r"([0-9]+)")


def normalised(name: str) -> str:
    """Return the name in Unicode's form C: macOS writes "é" as two code points, others as one."""
    return unicodedata.normalize("NFC", name)


def shown(name: str) -> str:
    """Return the name for people and for JSON: bytes that are no UTF-8 are written as \\xe9."""
    return normalised(name).encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")


def natural(name: str) -> tuple[tuple[str | int, ...], str]:
    """Return the key of natural order: runs of digits compare as numbers, so that "2" is before "10".

    What differs in leading zeros alone is ordered by code point.
    """
    pieces = _DIGITS.split(name)
    return tuple(int(piece) if at % 2 else piece for at, piece in enumerate(pieces)), name


def ignored(name: str) -> str | None:
    """Return why a file of this relative name is passed over: hidden, or left by a system; None: it is not."""
    for part in name.split("/"):
        if part.lower() in _JUNK:
            return part.lower()
        if part.startswith("."):
            return "hidden"
    return None


def some(names: Sequence[str]) -> str:
    """Return the first ten names, and the number of the others."""
    listed = ", ".join(shown(name) for name in names[:_SHOWN])
    return listed + (f" and {len(names) - _SHOWN:,} more" if len(names) > _SHOWN else "")


@dataclass(kw_only=True)
class Tree:
    """The regular files below a folder: (name with slashes, path), in the order of their names by code point.

    ignored: how many were passed over, by why
    """

    files: list[tuple[str, str]] = field(default_factory=list)
    ignored: Counter[str] = field(default_factory=Counter)
    unreadable: list[tuple[str, str]] = field(default_factory=list)


def walk(root: Path) -> Tree:
    """Return every file below `root`. Links are followed, but not back into a folder that they are in.

    What cannot be listed or does not exist (a link to nothing) is kept in `unreadable`. Raise `DataRefused` beyond
    50 million files.
    """
    tree = Tree()
    _walk(os.fspath(root), "", (), tree)
    tree.files.sort(key=lambda file: (normalised(file[0]), file[0]))
    return tree


def _walk(folder: str, prefix: str, above: tuple[tuple[int, int], ...], tree: Tree) -> None:
    try:
        status = os.stat(folder)
        own = (status.st_dev, status.st_ino)
        if own in above or len(above) > _MOST_DEPTH:
            tree.ignored["links that lead back"] += 1
            return
        entries = list(os.scandir(folder))
    except OSError as error:
        tree.unreadable.append((prefix.rstrip("/") or folder, error.strerror or str(error)))
        return
    for entry in entries:
        name = prefix + entry.name
        if (why := ignored(entry.name)) is not None:
            tree.ignored[why] += 1
        elif entry.is_dir():
            _walk(entry.path, f"{name}/", (*above, own), tree)
        else:
            _add(entry, name, tree)
    if len(tree.files) > MOST_FILES:
        raise DataRefused(f"there are more than {MOST_FILES:,} files below {folder}")


def _add(entry: os.DirEntry[str], name: str, tree: Tree) -> None:
    try:
        regular = entry.is_file() if not entry.is_symlink() else stat.S_ISREG(os.stat(entry.path).st_mode)
    except OSError as error:
        tree.unreadable.append((name, f"a link to nothing: {error.strerror}"))
        return
    if regular:
        tree.files.append((name, entry.path))
    else:
        tree.ignored["no regular file"] += 1  # reading a pipe would wait for ever


def without_common_folders(names: Iterable[str], keep: Iterable[str]) -> tuple[str, list[str]]:
    """Return the folders that all names share and the names without them, up to a folder whose name is in `keep`."""
    parts = [name.split("/") for name in names]
    kept, depth = frozenset(keep), 0
    while parts and all(len(part) > depth + 1 for part in parts):
        first = parts[0][depth]
        if first.lower() in kept or any(part[depth] != first for part in parts):
            break
        depth += 1
    return "/".join(parts[0][:depth]) if parts else "", ["/".join(part[depth:]) for part in parts]
