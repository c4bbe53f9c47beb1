"""A user's own sets on this machine: a folder for each digest, and names that point to them.

<cache>/own/<digest>/          a set in its canonical form
<cache>/own/names/NAME         which digest a name points to
<cache>/own/sources/<sum>      what a source with these files (names, sizes, times) was decoded to, so that adding it
                               again costs a listing
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vae_models.data import canonical, stored
from vae_models.data.errors import DataError, DataMissing, DataRefused
from vae_models.data.fetch import writing
from vae_models.data.stored import StoredSet

if TYPE_CHECKING:
    from vae_models.data.ingest import Options, StepProgress

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")
_DIGEST = re.compile(r"[0-9a-f]{64}")
_SHORTENED = re.compile(r"[0-9a-f]{8,63}")
_REVISION = 1  # of how sources are decoded: what was decoded by another one is decoded anew


@dataclass(frozen=True, kw_only=True)
class Pointer:
    """A name, the set that it points to, what that was made of, and when (seconds since 1970)."""

    name: str
    digest: str
    source: str
    added_at: float


def folder(cache_dir: Path) -> Path:
    """Return the folder of all own sets of the user."""
    return cache_dir / "own"


def check_name(name: str) -> None:
    """Raise `DataRefused` for a text that cannot be a set's name."""
    if not NAME.fullmatch(name):
        raise DataRefused(
            f"{name!r} names no data set: letters, digits, '.', '_' and '-', a letter or digit first, at most 100"
        )
    if _DIGEST.fullmatch(name) or _SHORTENED.fullmatch(name):
        raise DataRefused(f"{name!r} could be taken for a digest: give another name")


def add(path: Path, options: Options, cache_dir: Path, *, progress: StepProgress | None = None) -> StoredSet:
    """Return the set decoded from `path`: at once where it was decoded before and its files have not changed.

    Raise what `ingest` raises.
    """
    from vae_models.data.ingest import ingest

    place = folder(cache_dir)
    remembered = place / "sources" / fingerprint(path, options)
    try:
        return stored.read(place / remembered.read_text().strip())
    except (OSError, DataError):
        made = ingest(path, options, into=place, progress=progress)
    _write(remembered, made.digest)
    return made


def fingerprint(path: Path, options: Options) -> str:
    """Return a sum of the names, sizes and times of all files of a source, and of how it is decoded.

    It reads no file, so a change that keeps a file's size and time is not seen.
    """
    plain = asdict(options) | {"workers": None}
    digest = hashlib.sha256(repr((_REVISION, os.fspath(path.resolve()), sorted(plain.items()))).encode())
    listed = [path] if options.split_file is None else [path, options.split_file]
    for root in listed:
        for name, status in _stats(root):
            line = f"{name}\0{status.st_size}\0{status.st_mtime_ns}\0{status.st_ino}\n"
            digest.update(line.encode("utf-8", "surrogateescape"))
    return digest.hexdigest()


def _stats(root: Path) -> list[tuple[str, os.stat_result]]:
    """Return (name, status) of every file that can be looked at."""
    from vae_models.data.ingest.names import walk

    paths = walk(root).files if root.is_dir() else [(root.name, os.fspath(root))]
    statuses = []
    for name, path in paths:
        try:
            statuses.append((name, os.stat(path)))
        except OSError:
            continue  # said when it is read
    return statuses


def point(cache_dir: Path, name: str, digest: str, source: str) -> Pointer:
    """Let `name` point to a set, replacing its earlier one. Raise `DataRefused` for a text that cannot be a name."""
    check_name(name)
    pointer = Pointer(name=name, digest=digest, source=source, added_at=time.time())
    _write(folder(cache_dir) / "names" / name, json.dumps(asdict(pointer)))
    return pointer


def _write(path: Path, text: str) -> None:
    """Write a text so that other processes see the whole of it or none."""
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    with writing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        part.write_text(text)
        os.replace(part, path)


def pointers(cache_dir: Path) -> list[Pointer]:
    """Return every name of this machine, sorted; damaged ones are left out."""
    place = folder(cache_dir) / "names"
    names = sorted(path.name for path in place.iterdir()) if place.is_dir() else []
    read = (_pointer(place / name) for name in names if NAME.fullmatch(name))
    return [pointer for pointer in read if pointer is not None]


def _pointer(path: Path) -> Pointer | None:
    try:
        plain: Any = json.loads(path.read_text())
        pointer = Pointer(**plain)
    except (OSError, ValueError, TypeError):
        return None
    return pointer if _DIGEST.fullmatch(str(pointer.digest)) else None


def find(cache_dir: Path, text: str) -> StoredSet:
    """Return the set of a name, a digest (its first eight digits or more), or a folder in the canonical form.

    Raise `DataMissing` with the known names, `DataCorrupt` where the set is damaged.
    """
    place = folder(cache_dir)
    named = _pointer(place / "names" / text) if NAME.fullmatch(text) else None
    if named is not None:
        return stored.read(place / named.digest, digest=named.digest)
    if _DIGEST.fullmatch(text) or _SHORTENED.fullmatch(text):
        matching = [path for path in place.glob(f"{text}*") if _DIGEST.fullmatch(path.name)]
        if len(matching) == 1:
            return stored.read(matching[0], digest=matching[0].name)
        if matching:
            raise DataMissing(f"{len(matching)} sets begin with {text}: give more of the digest")
    if (Path(text) / canonical.DATA_JSON).is_file():
        return stored.read(Path(text))
    names = ", ".join(pointer.name for pointer in pointers(cache_dir)) or "none"
    raise DataMissing(f"{text}: no set of yours on this machine has this name or digest. Names here: {names}")


def remove(cache_dir: Path, name: str) -> tuple[Pointer, bool]:
    """Remove a name, and its set where no other name points to it. Return its pointer, and whether the set was deleted.

    Raise `DataMissing` where there is no such name.
    """
    place = folder(cache_dir)
    pointer = _pointer(place / "names" / name) if NAME.fullmatch(name) else None
    if pointer is None:
        names = ", ".join(each.name for each in pointers(cache_dir)) or "none"
        raise DataMissing(f"{name}: no set of yours on this machine has this name. Names here: {names}")
    with writing(place / "names" / name):
        (place / "names" / name).unlink(missing_ok=True)
    if any(other.digest == pointer.digest for other in pointers(cache_dir)):
        return pointer, False
    gone = place / f".draft-gone-{pointer.digest}-{os.getpid()}"  # a name that is taken for no set, and swept
    with writing(place / pointer.digest):
        if (place / pointer.digest).is_dir():
            (place / pointer.digest).rename(gone)
            shutil.rmtree(gone)
    return pointer, True
