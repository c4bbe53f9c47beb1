"""Finds a file of a data set, brings it if need be, and lets nothing past that is not what was published.

Order: VAESVC_DATA_DIR (in DIR/<data set>/ and in DIR), the cache (VAESVC_CACHE_DIR, else $XDG_CACHE_HOME/vaesvc, else
~/.cache/vaesvc), the published addresses.
"""

from __future__ import annotations

import gzip
import hashlib
import os
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Generic, TypeVar

from vae_models.data.catalogue import CATALOGUE, DataFile, Facts, Form
from vae_models.data.errors import DataCorrupt, DataError, DataMissing
from vae_models.data.fetch import Policy, ProgressCallback, Unreachable, fetch

T = TypeVar("T")


@dataclass(frozen=True, kw_only=True)
class Places:
    """`data_dir` is only read; files are written under `cache_dir` alone."""

    data_dir: Path | None
    cache_dir: Path

    @classmethod
    def from_environment(cls) -> Places:
        data = os.environ.get("VAESVC_DATA_DIR")
        cache = os.environ.get("VAESVC_CACHE_DIR")
        base = os.environ.get("XDG_CACHE_HOME")
        fallback = (Path(base) if base else Path.home() / ".cache") / "vaesvc"
        return cls(
            data_dir=Path(data).expanduser() if data else None,
            cache_dir=Path(cache).expanduser() if cache else fallback,
        )


@dataclass(frozen=True, kw_only=True)
class Obtained(Generic[T]):
    value: T
    name: str
    sha256: str  # of the file's bytes as they lie on disk


@dataclass(frozen=True, kw_only=True)
class _Candidate:
    path: Path
    form: Form
    cached: bool = False
    shared: bool = False  # a folder that may hold another data set's file of the same name


def obtain(
    facts: Facts,
    file: DataFile,
    parse: Callable[[bytes], T],
    places: Places,
    *,
    progress: ProgressCallback | None = None,
    policy: Policy | None = None,
) -> Obtained[T]:
    """The parsed content of `file`; `parse` raises `ValueError` when its format or its counts are wrong.

    Raises `DataMissing` naming every place that was tried, `DataCorrupt` naming both sums.
    """
    looked: list[str] = []
    for candidate in _candidates(facts, file, places):
        if not candidate.path.is_file():
            looked.append(str(candidate.path))
            continue
        found = _take(candidate, facts, file, parse)
        if found is not None:
            return found
        looked.append(f"{candidate.path} (there, but of another data set)")
    form = next(form for form in file.forms if form.urls)
    target = places.cache_dir / facts.folder / form.name
    try:
        fetch(form, target, progress=progress, policy=policy)
    except Unreachable as error:
        raise DataMissing(_missing(facts, file, places, looked, error.causes)) from error
    found = _take(_Candidate(path=target, form=form, cached=True), facts, file, parse)
    assert found is not None  # only shared folders are passed over
    return found


def _candidates(facts: Facts, file: DataFile, places: Places) -> Iterator[_Candidate]:
    if places.data_dir is not None:
        for form in file.forms:
            for folder in dict.fromkeys((facts.folder, facts.name)):
                yield _Candidate(path=places.data_dir / folder / form.name, form=form)
        for form in file.forms:
            yield _Candidate(path=places.data_dir / form.name, form=form, shared=True)
    for form in file.forms:
        yield _Candidate(path=places.cache_dir / facts.folder / form.name, form=form, cached=True)


def _take(candidate: _Candidate, facts: Facts, file: DataFile, parse: Callable[[bytes], T]) -> Obtained[T] | None:
    try:
        raw = candidate.path.read_bytes()
    except OSError as error:
        raise DataError(f"cannot read {candidate.path}: {error.strerror or error}") from error
    sha256 = hashlib.sha256(raw).hexdigest()
    if candidate.shared and _owner(sha256) not in (None, facts.name):
        return None
    content = _verified(candidate, file, raw, sha256)
    unpublished = candidate.form.sha256 is None
    record = candidate.path.with_name(candidate.path.name + ".sha256") if unpublished and candidate.cached else None
    if record is not None and record.exists() and record.read_text().split()[0] != sha256:
        raise _corrupt(candidate, record.read_text().split()[0], sha256, "the sum was recorded when it was downloaded")
    try:
        value = parse(content)
    except ValueError as error:
        if record is not None and not record.exists():
            candidate.path.unlink()  # downloaded just now and refused: it must not stay in the way
        raise DataCorrupt(f"{candidate.path}: {error} (SHA-256 of the file: {sha256})") from error
    if record is not None and not record.exists():
        _write_whole(record, f"{sha256}  {candidate.path.name}\n")
    return Obtained(value=value, name=candidate.path.name, sha256=sha256)


def _write_whole(path: Path, text: str) -> None:
    """Other processes see the whole text or no file."""
    part = path.with_name(f"{path.name}.{os.getpid()}.part")
    part.write_text(text)
    os.replace(part, path)


def _verified(candidate: _Candidate, file: DataFile, raw: bytes, sha256: str) -> bytes:
    """The decompressed content, once the file's sum or its content's is a published one."""
    expected = candidate.form.sha256
    if expected is None:
        return raw
    if not candidate.path.name.endswith(".gz"):
        if sha256 != expected:
            raise _corrupt(candidate, expected, sha256)
        return raw
    try:
        content = gzip.decompress(raw)
    except (OSError, EOFError, zlib.error) as error:
        raise _corrupt(candidate, expected, sha256, f"gzip: {error}") from error
    if sha256 != expected and hashlib.sha256(content).hexdigest() not in file.content:
        raise _corrupt(candidate, expected, sha256)
    return content


def _corrupt(candidate: _Candidate, expected: str, found: str, note: str = "") -> DataCorrupt:
    mend = "delete it, and it is downloaded again" if candidate.cached else "replace it by the published file"
    owner = _owner(found)
    notes = [note] if note else []
    if owner is not None:
        notes.append(f"these are the bytes of a file of {owner}")
    return DataCorrupt(
        f"{candidate.path} is truncated or altered: expected SHA-256 {expected}, found {found} "
        f"({candidate.path.stat().st_size:,} bytes{''.join('; ' + text for text in notes)}); {mend}"
    )


def _owner(sha256: str) -> str | None:
    """The data set that publishes a file with this sum."""
    for facts in CATALOGUE.values():
        for file in facts.files.values():
            if sha256 in file.content or any(form.sha256 == sha256 for form in file.forms):
                return facts.name
    return None


def _missing(facts: Facts, file: DataFile, places: Places, looked: list[str], causes: dict[str, str]) -> str:
    form = next(form for form in file.forms if form.urls)
    lines = [f"{facts.name}: {form.name} is missing.", "Looked for it at:"]
    lines += [f"  {place}" for place in looked]
    lines += ["Could not download it:"]
    lines += [f"  {url}: {cause}" for url, cause in causes.items()]
    if places.data_dir is None:
        lines += ["VAESVC_DATA_DIR is not set."]
    elif not places.data_dir.is_dir():
        lines += [f"VAESVC_DATA_DIR={places.data_dir} is not a folder."]
    lines += [
        f"It can be had from {file.home}. Put it into a folder DIR (or DIR/{facts.folder}) and set "
        f"VAESVC_DATA_DIR=DIR, or load it once while online: it is then kept in {places.cache_dir / facts.folder}."
    ]
    return "\n".join(lines)
