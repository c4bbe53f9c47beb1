"""Files in a folder or an archive: their names, and their bytes when a process asks for them.

Nothing is ever unpacked onto the disk, so no name of an archive can lead anywhere; names that try to are refused all
the same, because whoever made them wanted something else than a data set. What an archive says of its sizes is believed
only as a limit.
"""

from __future__ import annotations

import io
import os
import struct
import tarfile
import zipfile
import zlib
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from vae_models.data.errors import DataError, DataRefused
from vae_models.data.ingest.names import ignored, normalised, shown, walk

MOST_MEMBERS = 10_000_000
MOST_FILE_BYTES = 1 << 28  # of one picture, packed or not
MOST_BYTES = 1 << 42  # of an archive, unpacked
MOST_RATIO = 200  # of all members to the archive, unpacked to packed; pictures hardly shrink
_RATIO_FREE_BYTES = 1 << 30  # up to here the ratio does not matter
_ENCRYPTED = 0x1
_MOST_HEADER_BYTES = 1 << 20  # of a long name, and of what else is said of a tar's member
_HEADERS = (
    tarfile.XHDTYPE,
    tarfile.XGLTYPE,
    tarfile.SOLARIS_XHDTYPE,
    tarfile.GNUTYPE_LONGNAME,
    tarfile.GNUTYPE_LONGLINK,
)
_LOCAL = struct.Struct("<4s5H3L2H")  # the header in front of a zip's member
_MOST_ENDINGS = 10  # different ones that are counted apart
_MOST_ENDING = 8  # characters
_TARS = (".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tbz2", ".tbz", ".tar.xz", ".txz")


class InFile(NamedTuple):
    """A file of a folder."""

    path: str


class InZip(NamedTuple):
    """A member of a zip, by the place of its local header."""

    path: str
    offset: int
    packed: int
    size: int
    method: int
    crc: int


class InTar(NamedTuple):
    """A member of a tar that is not compressed."""

    path: str
    offset: int
    size: int


class Given(NamedTuple):
    """Bytes that were read already: from a compressed tar, from a column."""

    content: bytes


Locator = InFile | InZip | InTar | Given


class Unreadable(Exception):  # noqa: N818 - caught at once: the file is named with this
    """Why a file could not be read, in words."""


def content(locator: Locator) -> bytes:
    """Return the bytes of a file. Raise `Unreadable`."""
    try:
        if isinstance(locator, Given):
            return locator.content
        if isinstance(locator, InZip):
            return _unzipped(locator)
        if isinstance(locator, InTar):
            return _whole(_read(locator.path, locator.offset, locator.size), locator.size)
        return _read(locator.path)
    except OSError as error:
        raise Unreadable(error.strerror or str(error)) from error


def _read(path: str, offset: int = 0, size: int | None = None) -> bytes:
    """Return all bytes, or `size` from `offset` on; without Python's buffers: files are small and many."""
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        if size is None:
            size = os.fstat(descriptor).st_size
        if size > MOST_FILE_BYTES:
            raise Unreadable(f"it has {size:,} bytes, and at most {MOST_FILE_BYTES:,} are taken")
        read = os.pread(descriptor, size, offset)
        while len(read) < size and (more := os.pread(descriptor, size - len(read), offset + len(read))):
            read += more
        return read
    finally:
        os.close(descriptor)


def _whole(read: bytes, size: int) -> bytes:
    if len(read) != size:
        raise Unreadable(f"the archive ends in the middle of it: {len(read):,} of {size:,} bytes")
    return read


def _unzipped(member: InZip) -> bytes:
    if member.method not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        raise Unreadable("it is packed by a method that is not read here: pack it anew with deflate")
    with open(member.path, "rb") as file:
        file.seek(member.offset)
        head = file.read(_LOCAL.size)
        if len(head) != _LOCAL.size or head[:4] != b"PK\x03\x04":
            raise Unreadable("the archive is truncated or altered there")
        fields = _LOCAL.unpack(head)
        file.seek(fields[9] + fields[10], io.SEEK_CUR)  # its name and extra field
        packed = _whole(file.read(member.packed), member.packed)
    if member.method == zipfile.ZIP_DEFLATED:
        try:
            packed = zlib.decompressobj(-zlib.MAX_WBITS).decompress(packed, member.size + 1)
        except zlib.error as error:
            raise Unreadable(f"the archive is altered there: {error}") from error
    if len(packed) != member.size or zlib.crc32(packed) != member.crc:
        raise Unreadable("the archive is altered there: another size or checksum than it says")
    return packed


@dataclass(kw_only=True)
class Files:
    """What a folder or an archive holds, in the order of the names by code point.

    names:    with slashes, relative
    locators: where the bytes are; None for a compressed tar, which is read from its beginning by `stream`
    ignored:  how many were passed over, by why
    broken:   (name, why) of what can be seen to be unusable already
    """

    path: Path
    names: list[str]
    locators: list[Locator] | None
    ignored: Counter[str] = field(default_factory=Counter)
    broken: list[tuple[str, str]] = field(default_factory=list)
    order: dict[int, int] = field(default_factory=dict)  # of a compressed tar: number of a member -> its place here

    def wanted(self, want: Callable[[str], bool], why: str) -> Files:
        """Return the files whose name is wanted; the others are counted as passed over, by their ending."""
        kept = [at for at, name in enumerate(self.names) if want(name)]
        others = Counter(f"{why}{_ending(name)}" for name in self.names if not want(name))
        passed = self.ignored + (others if len(others) <= _MOST_ENDINGS else Counter({why: others.total()}))
        place = {old: new for new, old in enumerate(kept)}
        return Files(
            path=self.path,
            names=[self.names[at] for at in kept],
            locators=None if self.locators is None else [self.locators[at] for at in kept],
            ignored=+passed,
            broken=self.broken,
            order={member: place[at] for member, at in self.order.items() if at in place},
        )

    def stream(self) -> Iterator[tuple[int, Locator]]:
        """Yield (place, where its bytes are) of every file, in the order that is fastest to read."""
        if self.locators is not None:
            yield from enumerate(self.locators)
            return
        with _tar_errors(self.path), tarfile.open(self.path, "r|*", tarinfo=_Member) as archive:
            for number, member in enumerate(archive):
                archive.members.clear()  # type: ignore[attr-defined]  # which it keeps, and nobody asks for
                if (place := self.order.get(number)) is None:
                    continue
                file = archive.extractfile(member)
                assert file is not None  # a regular file, as when it was listed
                yield place, Given(file.read())


def _ending(name: str) -> str:
    """Return the ending of a name as it is counted: " (.heic)"."""
    dot = name.rfind(".")
    return f" ({shown(name[dot:].lower())})" if dot > name.rfind("/") and len(name) - dot <= _MOST_ENDING else ""


def of_folder(path: Path) -> Files:
    """Return the files below a folder."""
    tree = walk(path)
    locators: list[Locator] = [InFile(file) for _, file in tree.files]
    return Files(
        path=path,
        names=[name for name, _ in tree.files],
        locators=locators,
        ignored=tree.ignored,
        broken=tree.unreadable,
    )


def is_archive(path: Path) -> bool:
    """Return whether the name is a zip's or a tar's."""
    return path.name.lower().endswith((".zip", *_TARS))


def of_archive(path: Path) -> Files:
    """Return the members of a zip or tar. Raise `DataRefused` where it is damaged, or beyond the limits."""
    if path.name.lower().endswith(".zip"):
        return _of_zip(path)
    return _of_tar(path)


@dataclass
class _Limits:
    """Counts members and bytes while they are listed. `packed` is the archive's size."""

    path: Path
    packed: int
    members: int = 0
    bytes: int = 0

    def count(self, size: int) -> None:
        self.members += 1
        self.bytes += size
        if self.members > MOST_MEMBERS:
            raise DataRefused(f"{self.path} has more than {MOST_MEMBERS:,} members")
        most = min(MOST_BYTES, max(_RATIO_FREE_BYTES, MOST_RATIO * self.packed))
        if self.bytes > most:
            raise DataRefused(
                f"{self.path} unpacks to more than {most:,} bytes, over {MOST_RATIO} times its own "
                f"{self.packed:,}: no archive of pictures does. Unpack it yourself, and give the folder"
            )


def _refusal(name: str, size: int, *, link: bool = False, special: bool = False) -> str | None:
    """Return why a member is refused; None: it is accepted."""
    if name.startswith(("/", "\\")) or (len(name) > 1 and name[1] == ":"):
        return "its name is absolute: pack relative names"
    if ".." in name.replace("\\", "/").split("/"):
        return 'its name has "..": pack names below one folder'
    if link:
        return "it is a link: pack the files themselves (tar --dereference --hard-dereference)"
    if special:
        return "it is a device or a pipe"
    if size > MOST_FILE_BYTES:
        return f"it has {size:,} bytes, and at most {MOST_FILE_BYTES:,} are taken"
    return None


@dataclass
class _Listing:
    """Gathers members: (name, its number, where its bytes are)."""

    members: list[tuple[str, int, Locator | None]] = field(default_factory=list)
    ignored: Counter[str] = field(default_factory=Counter)
    broken: list[tuple[str, str]] = field(default_factory=list)

    def add(self, name: str, number: int, locator: Locator | None, refusal: str | None) -> None:
        name = name.replace("\\", "/").removeprefix("./")
        if refusal is not None:
            self.broken.append((name, refusal))
        elif (why := ignored(name)) is not None:
            self.ignored[why] += 1
        else:
            self.members.append((name, number, locator))

    def files(self, path: Path) -> Files:
        self.members.sort(key=lambda member: (normalised(member[0]), member[1]))
        locators = [locator for _, _, locator in self.members if locator is not None]
        return Files(
            path=path,
            names=[name for name, _, _ in self.members],
            locators=locators if len(locators) == len(self.members) else None,
            ignored=self.ignored,
            broken=self.broken,
            order={number: place for place, (_, number, _) in enumerate(self.members)},
        )


def _of_zip(path: Path) -> Files:
    try:
        packed = path.stat().st_size
        with zipfile.ZipFile(path) as archive:
            infos = archive.infolist()
    except Exception as error:  # zipfile raises of everything on altered bytes
        raise DataRefused(f"{path} is no readable zip archive: {error}") from error
    limits, listing = _Limits(path, packed), _Listing()
    if sum(info.compress_size for info in infos) > packed:
        raise DataRefused(f"{path} has members that overlap: it was made to explode, or is damaged")
    for number, info in enumerate(infos):
        limits.count(info.file_size)
        if info.is_dir():
            continue
        kind = info.external_attr >> 28  # of a file made on Unix: 0xA is a link, 8 a regular file, 0 not said
        refusal = _refusal(info.filename, info.file_size, link=kind == 0xA, special=kind not in (0, 8, 0xA))
        if refusal is None and info.flag_bits & _ENCRYPTED:
            refusal = "it is encrypted: pack it without a password"
        where = InZip(str(path), info.header_offset, info.compress_size, info.file_size, info.compress_type, info.CRC)
        listing.add(info.filename, number, where, refusal)
    return listing.files(path)


def _of_tar(path: Path) -> Files:
    plain = path.name.lower().endswith(".tar")
    listing = _Listing()
    with _tar_errors(path):
        limits = _Limits(path, path.stat().st_size)
        with tarfile.open(path, "r:" if plain else "r|*", tarinfo=_Member) as archive:
            for number, member in enumerate(archive):
                archive.members.clear()  # type: ignore[attr-defined]
                limits.count(tarfile.BLOCKSIZE + member.size)
                if member.isdir():
                    continue
                link = member.issym() or member.islnk()
                refusal = _refusal(member.name, member.size, link=link, special=not (link or member.isreg()))
                where = InTar(str(path), member.offset_data, member.size) if plain else None
                listing.add(member.name, number, where, refusal)
    return listing.files(path)


class _Member(tarfile.TarInfo):
    """Refuses what tarfile would take into memory without asking how much: long names, and maps of sparse files."""

    def _proc_member(self, archive: tarfile.TarFile) -> tarfile.TarInfo:
        if self.type == tarfile.GNUTYPE_SPARSE:
            raise tarfile.ReadError(f"{self.name} is sparse: pack it anew without --sparse")
        if self.type in _HEADERS and self.size > _MOST_HEADER_BYTES:
            raise tarfile.ReadError(f"a header of {self.size:,} bytes; at most {_MOST_HEADER_BYTES:,} are taken")
        return super()._proc_member(archive)  # type: ignore[misc, no-any-return]

    def _proc_gnusparse_10(self, *arguments: object) -> None:
        raise tarfile.ReadError(f"{self.name} is sparse: pack it anew without --sparse")


class _tar_errors:  # noqa: N801 - a context manager, used as a function
    """Turns what tarfile and the decompressors raise into `DataRefused`."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if isinstance(error, Exception) and not isinstance(error, DataError):
            raise DataRefused(f"{self.path} is no readable tar archive: {error}") from error
