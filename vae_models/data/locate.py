"""Finds a file of a data set, brings it if need be, and lets nothing past that is not what was published.

Order: VAESVC_DATA_DIR (in DIR/<data set>/ and in DIR), the cache (VAESVC_CACHE_DIR, else $XDG_CACHE_HOME/vaesvc, else
~/.cache/vaesvc), the published addresses.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Generic, TypeVar

from vae_models.data import sums
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
    target, form = _fetched(facts, file, places, looked, progress, policy)
    found = _take(_Candidate(path=target, form=form, cached=True), facts, file, parse)
    assert found is not None  # only shared folders are passed over
    return found


def locate(
    facts: Facts,
    file: DataFile,
    places: Places,
    *,
    progress: ProgressCallback | None = None,
    policy: Policy | None = None,
) -> tuple[Path, Form]:
    """Where `file`, or the folder it unpacks to, lies: for what is too large to be read whole. Its sum is not checked.

    Raises `DataMissing` as `obtain` does.
    """
    looked = []
    for candidate in _candidates(facts, file, places):
        if candidate.path.exists():
            return candidate.path, candidate.form
        looked.append(str(candidate.path))
    return _fetched(facts, file, places, looked, progress, policy)


def present(facts: Facts, file: DataFile, places: Places) -> bool:
    """Whether it lies in one of the places; it may still be refused."""
    return any(candidate.path.is_file() for candidate in _candidates(facts, file, places))


def _fetched(
    facts: Facts,
    file: DataFile,
    places: Places,
    looked: list[str],
    progress: ProgressCallback | None,
    policy: Policy | None,
) -> tuple[Path, Form]:
    form = file.download
    if form is None:
        raise DataMissing(_missing(facts, file, places, looked, {}))
    target = places.cache_dir / (file.folder or facts.folder) / form.name
    try:
        fetch(form, target, progress=progress, policy=policy)
    except Unreachable as error:
        raise DataMissing(_missing(facts, file, places, looked, error.causes)) from error
    except DataCorrupt as error:
        raise DataCorrupt(f"{error}\n{_by_hand(facts, file, places)}") from error
    return target, form


def _candidates(facts: Facts, file: DataFile, places: Places) -> Iterator[_Candidate]:
    if places.data_dir is not None:
        for form in file.forms:
            for folder in dict.fromkeys((file.folder or facts.folder, facts.name)):
                yield _Candidate(path=places.data_dir / folder / form.name, form=form)
        for form in file.forms:
            yield _Candidate(path=places.data_dir / form.name, form=form, shared=True)
    for form in file.forms:
        yield _Candidate(path=places.cache_dir / (file.folder or facts.folder) / form.name, form=form, cached=True)


def _take(candidate: _Candidate, facts: Facts, file: DataFile, parse: Callable[[bytes], T]) -> Obtained[T] | None:
    try:
        raw = candidate.path.read_bytes()
    except OSError as error:
        raise DataError(f"cannot read {candidate.path}: {error.strerror or error}") from error
    sha256 = hashlib.sha256(raw).hexdigest()
    owners = _owners(sha256)
    if candidate.shared and owners and facts.name not in owners:
        return None
    unpublished = candidate.form.sha256 is None
    record = candidate.path.with_name(candidate.path.name + ".sha256") if unpublished and candidate.cached else None
    if record is not None and record.exists() and record.read_text().split()[0] != sha256:
        raise _corrupt(
            candidate, f"SHA-256 {record.read_text().split()[0]}", sha256, "the sum was recorded when it was downloaded"
        )
    try:
        value = _parsed(candidate, file, parse, raw, sha256)
    except DataCorrupt:
        if record is not None and not record.exists():
            candidate.path.unlink()  # downloaded just now and refused: it must not stay in the way
        raise
    if record is not None and not record.exists():
        _write_whole(record, f"{sha256}  {candidate.path.name}\n")
    return Obtained(value=value, name=candidate.path.name, sha256=sha256)


def _parsed(candidate: _Candidate, file: DataFile, parse: Callable[[bytes], T], raw: bytes, sha256: str) -> T:
    content = _verified(candidate, file, raw, sha256)
    try:
        return parse(content)
    except ValueError as error:
        raise DataCorrupt(f"{candidate.path}: {error} (SHA-256 of the file: {sha256})") from error


def _write_whole(path: Path, text: str) -> None:
    """Other processes see the whole text or no file."""
    part = path.with_name(f"{path.name}.{os.getpid()}.part")
    part.write_text(text)
    os.replace(part, path)


def _verified(candidate: _Candidate, file: DataFile, raw: bytes, sha256: str) -> bytes:
    """The decompressed content, once the file's sum or its content's is a published one; or if none is published."""
    name, published = candidate.path.name, sorted(file.content)
    expected = f"SHA-256 {candidate.form.sha256}"
    if candidate.form.sha256 is None:
        expected = " or ".join(f"content of {sums.label(sum_)} {sum_}" for sum_ in published)
    try:
        content = sums.decompressed(name, raw)
        if sha256 == candidate.form.sha256 or not expected:
            return content
        found = {sum_: sums.content_sum(sum_, name, content) for sum_ in published}
    except ValueError as error:
        raise _corrupt(candidate, expected or "a whole file", sha256, str(error)) from error
    if any(sum_ == value for sum_, value in found.items()):
        return content
    kinds = dict.fromkeys(f"content of {sums.label(sum_)} {value}" for sum_, value in found.items())
    raise _corrupt(candidate, expected, sha256, "" if candidate.form.sha256 else ", ".join(kinds))


def _corrupt(candidate: _Candidate, expected: str, found: str, note: str = "") -> DataCorrupt:
    mend = "delete it, and it is downloaded again" if candidate.cached else "replace it by the published file"
    notes = [note] if note else []
    notes += [f"these are the bytes of a file of {owner}" for owner in _owners(found)[:1]]
    return DataCorrupt(
        f"{candidate.path} is truncated or altered: expected {expected}, found SHA-256 {found} "
        f"({candidate.path.stat().st_size:,} bytes{''.join('; ' + text for text in notes)}); {mend}"
    )


def _owners(sha256: str) -> list[str]:
    """The data sets that publish a file with this sum."""
    return [
        facts.name
        for facts in CATALOGUE.values()
        if any(
            sha256 in file.content or any(form.sha256 == sha256 for form in file.forms) for file in facts.files.values()
        )
    ]


def _missing(facts: Facts, file: DataFile, places: Places, looked: list[str], causes: dict[str, str]) -> str:
    lines = [f"{facts.name}: {(file.download or file.forms[0]).name} is missing.", "Looked for it at:"]
    lines += [f"  {place}" for place in looked]
    if causes:
        lines += ["Could not download it:"]
        lines += [f"  {url}: {cause}" for url, cause in causes.items()]
    else:
        lines += ["It is not downloaded: no address of this one file is published."]
    if places.data_dir is None:
        lines += ["VAESVC_DATA_DIR is not set."]
    elif not places.data_dir.is_dir():
        lines += [f"VAESVC_DATA_DIR={places.data_dir} is not a folder."]
    return "\n".join([*lines, _by_hand(facts, file, places)])


def _by_hand(facts: Facts, file: DataFile, places: Places) -> str:
    folder = file.folder or facts.folder
    online = f", or load it once while online: it is then kept in {places.cache_dir / folder}"
    return (
        f"It can be had from {file.home}. Put it into a folder DIR (or DIR/{folder}) and set "
        f"VAESVC_DATA_DIR=DIR{online if file.download else ''}."
    )
