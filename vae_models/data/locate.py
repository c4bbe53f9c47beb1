"""Find a file of a data set, download it if need be, and refuse any content but the published one.

Order: VAESVC_DATA_DIR (DIR/<data set>/, the folders in which other tools put it, such as torchvision's DIR/MNIST/raw,
and DIR itself), the cache (VAESVC_CACHE_DIR, else $XDG_CACHE_HOME/vaesvc, else ~/.cache/vaesvc), the published
addresses. A file is taken for its sum or its content's, under any of the names and in any of the forms that the
catalogue knows.
"""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Generic, Protocol, TypeVar

from vae_models.data import sums
from vae_models.data.catalogue.records import DataFile, Form
from vae_models.data.errors import DataCorrupt, DataError, DataMissing
from vae_models.data.fetch import Policy, ProgressCallback, Unreachable, fetch, writing
from vae_models.data.places import Places
from vae_models.data.published import Published
from vae_models.data.sources import SOURCES

T = TypeVar("T")
_SHOWN = 12  # names of a folder in a message
_UNFINISHED = (".part", ".crdownload", ".download")


class Home(Protocol):
    """What a file belongs to, such as a data set: its name, and its folder in VAESVC_DATA_DIR and in the cache."""

    @property
    def name(self) -> str: ...

    @property
    def folder(self) -> str: ...


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

    @property
    def there(self) -> bool:
        mode = _mode(self.path)
        return stat.S_ISDIR(mode) if self.form.unpacked else stat.S_ISREG(mode)


def _mode(path: Path) -> int:
    """Return the mode of the path; 0: nothing is there. Raise DataError where this user may not look."""
    try:
        return path.stat().st_mode
    except (FileNotFoundError, NotADirectoryError):
        return 0
    except OSError as error:
        raise DataError(_unreadable(path, error)) from error


def obtain(
    home: Home,
    file: DataFile,
    parse: Callable[[bytes], T],
    places: Places,
    *,
    progress: ProgressCallback | None = None,
    policy: Policy | None = None,
) -> Obtained[T]:
    """Return the parsed content of `file`; `parse` raises `ValueError` when its format or its counts are wrong.

    Raise `DataMissing` naming every place that was tried, `DataCorrupt` naming both sums.
    """
    looked: list[tuple[Path, str]] = []
    for candidate in _candidates(home, file, places):
        if not candidate.there:
            looked.append((candidate.path, ""))
            continue
        obtained = _take(candidate, home, file, parse)
        if obtained is not None:
            return obtained
        looked.append((candidate.path, " (there, but of another data set)"))
    target, form = _fetched(home, file, places, looked, progress, policy)
    obtained = _take(_Candidate(path=target, form=form, cached=True), home, file, parse)
    assert obtained is not None  # only shared folders are passed over
    return obtained


def locate(
    home: Home,
    file: DataFile,
    places: Places,
    *,
    progress: ProgressCallback | None = None,
    policy: Policy | None = None,
) -> tuple[Path, Form]:
    """Return where `file`, or the folder it unpacks to, lies: for files too large to be read whole.
    Its sum is not checked.

    Raise `DataMissing` as `obtain` does.
    """
    looked = []
    for candidate in _candidates(home, file, places):
        if _mode(candidate.path):
            return candidate.path, candidate.form
        looked.append((candidate.path, ""))
    return _fetched(home, file, places, looked, progress, policy)


def present(home: Home, file: DataFile, places: Places) -> bool:
    """Return whether the file lies in one of the places; it may still be refused."""
    return any(candidate.there for candidate in _candidates(home, file, places))


def _fetched(
    home: Home,
    file: DataFile,
    places: Places,
    looked: list[tuple[Path, str]],
    progress: ProgressCallback | None,
    policy: Policy | None,
) -> tuple[Path, Form]:
    form = file.download
    if form is None:
        raise DataMissing(_missing(home, file, places, looked, {}))
    target = places.cache_dir / (file.folder or home.folder) / form.name
    try:
        fetch(form, target, progress=progress, policy=policy)
    except Unreachable as error:
        raise DataMissing(_missing(home, file, places, looked, error.causes)) from error
    except DataCorrupt as error:
        raise DataCorrupt(f"{error}\n{_by_hand(home, file, places)}") from error
    return target, form


def _candidates(home: Home, file: DataFile, places: Places) -> Iterator[_Candidate]:
    own = dict.fromkeys((file.folder or home.folder, home.name))
    if places.data_dir is not None:
        for folder in own:
            for form in file.forms:
                yield _Candidate(path=places.data_dir / folder / form.name, form=form)
        for folder in file.folders:
            for name, form in _named(file):
                yield _Candidate(path=places.data_dir / folder / name, form=form, shared=True)
        for name, form in _named(file):
            yield _Candidate(path=places.data_dir / name, form=form, shared=True)
    for form in file.forms:
        yield _Candidate(path=places.cache_dir / (file.folder or home.folder) / form.name, form=form, cached=True)


def _named(file: DataFile) -> Iterator[tuple[str, Form]]:
    """Yield the names of the forms; those in a folder also without it: VAESVC_DATA_DIR may be that folder."""
    for form in file.forms:
        yield form.name, form
    for form in file.forms:
        if "/" in form.name:
            yield form.name.rpartition("/")[2], form


def _take(candidate: _Candidate, home: Home, file: DataFile, parse: Callable[[bytes], T]) -> Obtained[T] | None:
    try:
        raw = sums.packed(candidate.path) if candidate.form.unpacked else candidate.path.read_bytes()
    except OSError as error:
        raise DataError(_unreadable(candidate.path, error)) from error
    sha256 = hashlib.sha256(raw).hexdigest()
    owners = _owners(sha256)
    if candidate.shared and owners and home.name not in owners:
        return None
    unpublished = (
        candidate.form.sha256 is None and candidate.form.urls
    )  # else somebody put it there, with whatever name
    record = candidate.path.with_name(candidate.path.name + ".sha256") if unpublished and candidate.cached else None
    recorded = None if record is None else _recorded(record)
    if recorded not in (None, sha256):
        raise _corrupt(candidate, f"SHA-256 {recorded}", sha256, "the sum was recorded when it was downloaded")
    try:
        value = _parsed(candidate, file, parse, raw, sha256)
    except DataCorrupt:
        if record is not None and recorded is None:
            with writing(candidate.path):
                candidate.path.unlink()  # downloaded just now and refused: it must not stay in the way
        raise
    if record is not None and recorded is None:
        with suppress(OSError):  # a cache that may only be read: its owner records it
            _write_whole(record, f"{sha256}  {candidate.path.name}\n")
    return Obtained(value=value, name=candidate.path.name, sha256=sha256)


def _recorded(record: Path) -> str | None:
    """Return the recorded sum; None when there is none: not written yet, or by a disk that was full."""
    try:
        return next(iter(record.read_text().split()), None)
    except (OSError, ValueError):
        return None


def _unreadable(path: Path, error: OSError) -> str:
    return f"cannot read {path}: {error.strerror or error}; let this user read it, or set VAESVC_DATA_DIR elsewhere"


def _parsed(candidate: _Candidate, file: DataFile, parse: Callable[[bytes], T], raw: bytes, sha256: str) -> T:
    content = _verified(candidate, file, raw, sha256)
    try:
        return parse(content)
    except ValueError as error:
        raise DataCorrupt(f"{candidate.path}: {error} (SHA-256 of the file: {sha256})") from error


def _write_whole(path: Path, text: str) -> None:
    """Write a text so that other processes see the whole of it or no file."""
    part = path.with_name(f"{path.name}.{os.getpid()}.part")
    part.write_text(text)
    os.replace(part, path)


def _verified(candidate: _Candidate, file: DataFile, raw: bytes, sha256: str) -> bytes:
    """Return the decompressed content, once the file's sum or its content's is a published one;
    or if none is published.

    Text is returned with the line ends that the sum was taken over: LF where none is published.
    """
    form, published = candidate.form, sorted(file.content)
    expected = f"SHA-256 {form.sha256}"
    if form.sha256 is None:
        expected = " or ".join(f"content of {sums.label(sum_)} {sum_}" for sum_ in published)
    name = f"{candidate.path.name}.zip" if form.unpacked else candidate.path.name
    try:
        content = sums.decompressed(name, raw)
        if sha256 == form.sha256:
            return content
        contents = _equivalent(form, file, content)
        if not expected:
            return list(contents)[-1]
        for same in contents:
            content_sums = {sum_: sums.content_sum(sum_, name, same) for sum_ in published}
            if any(sum_ == value for sum_, value in content_sums.items()):
                return same
    except ValueError as error:
        raise _corrupt(candidate, expected or "a whole file", sha256, str(error)) from error
    kinds = dict.fromkeys(f"content of {sums.label(sum_)} {value}" for sum_, value in content_sums.items())
    raise _corrupt(candidate, expected, sha256, "" if form.sha256 else ", ".join(kinds))


def _equivalent(form: Form, file: DataFile, content: bytes) -> Iterator[bytes]:
    """Yield the equivalents of `content`: itself first, and last the plainest."""
    if form.published is not None:
        content = form.published(content)
    yield content
    if file.text:
        lf, crlf = sums.text_forms(content)
        yield crlf
        yield lf


def _corrupt(candidate: _Candidate, expected: str, actual: str, note: str = "") -> DataCorrupt:
    mend = "delete it, and it is downloaded again" if candidate.cached else "replace it by the published file"
    notes = [note] if note else []
    notes += [f"these are the bytes of a file of {owner}" for owner in _owners(actual)[:1]]
    return DataCorrupt(
        f"{candidate.path} is truncated or altered: expected {expected}, found SHA-256 {actual} "
        f"({_size(candidate)}{''.join('; ' + text for text in notes)}); {mend}"
    )


def _size(candidate: _Candidate) -> str:
    if candidate.form.unpacked:
        return f"{sum(1 for _ in candidate.path.rglob('*')):,} files and folders"
    return f"{candidate.path.stat().st_size:,} bytes"


def _owners(sha256: str) -> list[str]:
    """Return the data sets that publish a file with this sum."""
    published = (source for source in SOURCES.all().values() if isinstance(source, Published))
    return [each.name for each in published if any(_is_of(file, sha256) for file in each.files.values())]


def _is_of(file: DataFile, sha256: str) -> bool:
    return sha256 in file.content or any(form.sha256 == sha256 for form in file.forms)


def _missing(home: Home, file: DataFile, places: Places, looked: list[tuple[Path, str]], causes: dict[str, str]) -> str:
    lines = [f"{home.name}: {(file.download or file.forms[0]).name} is missing.", "Looked for it at:"]
    folders: dict[Path, list[str]] = {}
    for path, note in looked:
        folders.setdefault(path.parent, []).append(f"{path.name}{note}")
    lines += [f"  {folder}/: {', '.join(names)}" for folder, names in folders.items()]
    lines += _near(file, [folder for folder in folders if places.cache_dir not in folder.parents], places)
    if causes:
        lines += ["Could not download it:"]
        lines += [f"  {url}: {cause}" for url, cause in causes.items()]
    else:
        lines += ["It is not downloaded: no address of this one file is published."]
    if places.data_dir is None:
        lines += ["VAESVC_DATA_DIR is not set."]
    elif not places.data_dir.is_dir():
        lines += [f"VAESVC_DATA_DIR={places.data_dir} is not a folder."]
    return "\n".join([*lines, _by_hand(home, file, places)])


def _near(file: DataFile, folders: list[Path], places: Places) -> list[str]:
    """Return a line for each file in one of the folders that is easily taken for the missing one."""
    wanted = {form.name.rpartition("/")[2].lower() for form in file.forms}
    near: dict[Path, str] = {}
    for folder in folders:
        for name, meaning in file.near.items():
            if _mode(folder / name):
                near[folder / name] = meaning
        for path in _listed(folder):
            if path.name.lower() in wanted:
                kind = "a folder" if path.is_dir() else "a file"
                named = path.name in {form.name.rpartition("/")[2] for form in file.forms}
                near.setdefault(path, f"{kind}, and no such is read" if named else f"{kind}: mind the capitals")
            elif path.stem.lower() in wanted and path.suffix in _UNFINISHED:
                near.setdefault(path, "a download that has not ended")
    lines = [f"There is {path}, which is {meaning}." for path, meaning in near.items()]
    if lines or places.data_dir is None or not places.data_dir.is_dir():
        return lines
    names = sorted(path.name for path in _listed(places.data_dir))
    shown = ", ".join(names[:_SHOWN]) + (f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else "")
    return [f"There is in {places.data_dir}: {shown or 'nothing'}."]


def _listed(folder: Path) -> list[Path]:
    """Return the content of a folder; of very large ones (unpacked pictures) at most a thousand;
    nothing if unreadable.
    """
    try:
        return sorted(islice(folder.iterdir(), 1000))
    except OSError:
        return []


def _by_hand(home: Home, file: DataFile, places: Places) -> str:
    folder = file.folder or home.folder
    online = f", or load it once while online: it is then kept in {places.cache_dir / folder}"
    return (
        f"It can be had from {file.home}. Put it into a folder DIR (or DIR/{folder}) and set "
        f"VAESVC_DATA_DIR=DIR{online if file.download else ''}."
    )
