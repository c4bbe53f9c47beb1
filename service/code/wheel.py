"""A package of a user's own as a wheel: what it may hold, its canonical form, and the digest that names it. Pure.

Nothing of it is imported here: it is bytes, read within limits. The canonical form has the members sorted, with one
date, a RECORD made anew and a WHEEL that names no build tool; its digest is the SHA-256 over every member's name and
bytes, so the same source gives the same digest, and no byte that could be imported is left out of it.
"""

from __future__ import annotations

import base64
import configparser
import email.parser
import hashlib
import io
import os
import re
import stat
import sys
import zipfile
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from email.message import Message
from pathlib import Path, PurePosixPath

from packaging.utils import InvalidName, canonicalize_name
from packaging.version import InvalidVersion, Version

from service.code.reference import CodeRef
from service.errors import UsageError
from service.quantities import size

GROUP = "vaesvc.parts"  # of the entry points: as `vae_models.parts` reads them
MOST_BYTES = 20 << 20  # of a wheel, where no setting says otherwise
MOST_MEMBERS = 10_000
UNPACKED = 8  # times the limit of the wheel: what its members may have together
OURS = frozenset({"_vaesvc", "service", "tuning", "vae_models", "vaesvc"})
NATIVE = (".so", ".pyd", ".dll", ".dylib")
_DATE = (1980, 1, 1, 0, 0, 0)  # the first that a zip knows
_WHEEL = b"Wheel-Version: 1.0\nGenerator: vaesvc\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
_TAG = re.compile(r"py3[0-9]*-none-any|py2\.py3-none-any", re.ASCII)
_NAME = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9._-]{0,98}[A-Za-z0-9])?", re.ASCII)
_CACHE = "__pycache__"


class CodeError(UsageError):
    """A package that cannot be taken: which one, what is wrong with it, what is allowed."""

    code = "own_code"


@dataclass(frozen=True, kw_only=True)
class Wheel:
    """A package in its canonical form.

    modules:  what it adds to the top level of imports
    entries:  its parts, entry name -> "module:name"
    requires: its dependencies, as its metadata have them
    """

    name: str
    version: str
    digest: str
    data: bytes
    modules: tuple[str, ...]
    entries: Mapping[str, str]
    requires: tuple[str, ...]
    requires_python: str | None

    @property
    def ref(self) -> CodeRef:
        """Return the reference that names it."""
        return CodeRef(digest=self.digest, name=self.name, version=self.version)

    def __str__(self) -> str:
        return str(self.ref)


def read(data: bytes, *, most_bytes: int = MOST_BYTES, what: str = "the wheel") -> Wheel:
    """Return the package in these bytes, in its canonical form. Raises CodeError, beginning with `what`.

    Refused: more than `most_bytes`, or UNPACKED times that unpacked; paths that leave the folder, links, what is
    encrypted or damaged; anything but pure Python; modules with names of the standard library's or of vaesvc's; a
    package that names no parts.
    """
    if len(data) > most_bytes:
        raise CodeError(f"{what} has {size(len(data))}; at most {size(most_bytes)} are taken")
    members = _canonical(_members(data, most_bytes * UNPACKED, what), what)
    folder = _dist_info(members, what)
    metadata = _headers(members[f"{folder}/METADATA"])
    name, version = _named(metadata, folder, what)
    return Wheel(
        name=name,
        version=version,
        digest=_digest(members),
        data=_written(members),
        modules=_modules(members, what),
        entries=_entries(members, folder, what),
        requires=tuple(str(line) for line in metadata.get_all("Requires-Dist", [])),
        requires_python=metadata.get("Requires-Python"),
    )


def unpack(wheel: Wheel, into: Path) -> None:
    """Write its members as files below `into`, a folder that exists: what `sys.path` needs."""
    with zipfile.ZipFile(io.BytesIO(wheel.data)) as archive:
        for member in archive.infolist():  # made by `read`: plain files with plain names
            path = into / member.filename
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(archive.read(member))


def folder_digest(folder: Path) -> str:
    """Return an unpacked wheel's digest, as `Wheel.digest`; what Python compiled there does not count. Raises
    OSError."""
    members = {}
    for place, folders, files in os.walk(folder):
        folders[:] = [name for name in folders if name != _CACHE]
        for file in files:
            path = Path(place) / file
            members[path.relative_to(folder).as_posix()] = path.read_bytes()
    return _digest(members)


# --- members --------------------------------------------------------------------------------------------------------


def _members(data: bytes, most_bytes: int, what: str) -> dict[str, bytes]:
    """Return every file in the zip: path -> bytes. Nothing is read that declares more than is taken."""
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            listed = [member for member in archive.infolist() if not member.is_dir()]
            _check_listed(listed, most_bytes, what)
            return {
                member.filename: archive.read(member)
                for member in listed
                if _CACHE not in PurePosixPath(member.filename).parts
            }
    except (zipfile.BadZipFile, zlib.error, NotImplementedError, EOFError, OSError, ValueError) as error:
        raise CodeError(f"{what} is no wheel, or a damaged one: {error}") from error


def _check_listed(listed: list[zipfile.ZipInfo], most_bytes: int, what: str) -> None:
    if len(listed) > MOST_MEMBERS:
        raise CodeError(f"{what} has {len(listed):,} files; at most {MOST_MEMBERS:,} are taken")
    total = sum(member.file_size for member in listed)
    if total > most_bytes:
        raise CodeError(f"{what} has {size(total)} unpacked; at most {size(most_bytes)} are taken")
    seen: set[str] = set()
    for member in listed:
        name, path = member.filename, PurePosixPath(member.filename)
        plain = name.isprintable() and "\\" not in name and ":" not in name and name == path.as_posix()
        if not plain or path.is_absolute() or ".." in path.parts or len(name) > 1000:
            raise CodeError(f"{what} names the file {name[:200]!r}, which is no path inside of a package")
        mode = member.external_attr >> 16
        if mode and not stat.S_ISREG(mode) and stat.S_IFMT(mode) != 0:
            raise CodeError(f"{what}: {name} is a link or another special file; only plain files are taken")
        if member.flag_bits & 0x1:
            raise CodeError(f"{what}: {name} is encrypted")
        if name in seen:
            raise CodeError(f"{what} has {name} twice")
        seen.add(name)
        if name.endswith(NATIVE):
            raise CodeError(
                f"{what}: {name} is compiled code; only pure Python (py3-none-any) is taken, since nothing is "
                "installed on the nodes. What needs compiling has to be in the environment of every node"
            )


def _canonical(members: Mapping[str, bytes], what: str) -> dict[str, bytes]:
    """Return the members sorted, with a WHEEL that names no tool and a RECORD of what is there."""
    folder = _dist_info(members, what)
    for name in ("METADATA", "WHEEL"):
        if f"{folder}/{name}" not in members:
            raise CodeError(f"{what} has no {folder}/{name}: it is no wheel")
    _check_pure(_headers(members[f"{folder}/WHEEL"]), what)
    record = f"{folder}/RECORD"
    contents = {**members, f"{folder}/WHEEL": _WHEEL}
    contents.pop(record, None)
    lines = [f"{name},sha256={_url_sha256(contents[name])},{len(contents[name])}\n" for name in sorted(contents)]
    contents[record] = "".join([*lines, f"{record},,\n"]).encode()
    return {name: contents[name] for name in sorted(contents)}


def _digest(members: Mapping[str, bytes]) -> str:
    whole = hashlib.sha256()
    for name in sorted(members):
        whole.update(f"{hashlib.sha256(members[name]).hexdigest()} {len(members[name])} {name}\n".encode())
    return whole.hexdigest()


def _written(members: Mapping[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in members.items():
            member = zipfile.ZipInfo(name, _DATE)
            member.external_attr = (stat.S_IFREG | 0o644) << 16
            member.compress_type = zipfile.ZIP_DEFLATED
            archive.writestr(member, data)
    return buffer.getvalue()


# --- metadata -------------------------------------------------------------------------------------------------------


def _dist_info(members: Mapping[str, bytes], what: str) -> str:
    tops = {name.partition("/")[0] for name in members if "/" in name}
    if installed := sorted(top for top in tops if top.endswith(".data")):
        raise CodeError(
            f"{what} has {installed[0]}/ (scripts, headers), which has to be installed; nothing is installed on the "
            "nodes: leave it out"
        )
    folders = sorted(top for top in tops if top.endswith(".dist-info"))
    if len(folders) != 1:
        raise CodeError(f"{what} has {len(folders)} folders NAME.dist-info; a wheel has one")
    return folders[0]


def _headers(data: bytes) -> Message:
    return email.parser.BytesParser().parsebytes(data, headersonly=True)


def _check_pure(wheel: Message, what: str) -> None:
    tags = [str(tag).strip() for tag in wheel.get_all("Tag", [])]
    pure = str(wheel.get("Root-Is-Purelib", "")).strip().lower() == "true"
    if not pure or not any(_TAG.fullmatch(tag) for tag in tags):
        raise CodeError(
            f"{what} is built for {', '.join(tags)[:200] or 'nothing'}; only pure Python (py3-none-any) is taken, "
            "since nothing is installed on the nodes"
        )


def _named(metadata: Message, folder: str, what: str) -> tuple[str, str]:
    """Return name and version, which METADATA and the folder's name both have."""
    name, version = str(metadata.get("Name", "")).strip(), str(metadata.get("Version", "")).strip()
    stem, _, said = folder.removesuffix(".dist-info").partition("-")
    try:
        same = canonicalize_name(stem, validate=True) == canonicalize_name(name, validate=True)
        if _NAME.fullmatch(name) and len(version) <= 100 and same and Version(said) == Version(version):
            return name, str(Version(version))
    except (InvalidName, InvalidVersion):
        pass
    raise CodeError(
        f"{what}: {folder} has the name {name[:100]!r} and the version {version[:100]!r}, which do not fit together, "
        "or are none"
    )


def _modules(members: Mapping[str, bytes], what: str) -> tuple[str, ...]:
    """Return the top-level names. Raises CodeError where they would shadow the standard library's or ours."""
    tops = {name.partition("/")[0] for name in members if not name.partition("/")[0].endswith(".dist-info")}
    modules = sorted({top.partition(".")[0] for top in tops if "/" in top or top.endswith(".py") or "." not in top})
    for name in modules:
        if name in OURS or name in sys.stdlib_module_names:
            whose = "vaesvc's" if name in OURS else "the standard library's"
            raise CodeError(f"{what} has a top-level module {name!r}, which is {whose}: give it another name")
    return tuple(modules)


def _entries(members: Mapping[str, bytes], folder: str, what: str) -> dict[str, str]:
    parser = configparser.ConfigParser(delimiters=("=",), interpolation=None, strict=True)
    parser.optionxform = str  # type: ignore[assignment, method-assign]  # names as they are written
    try:
        parser.read_string(members.get(f"{folder}/entry_points.txt", b"").decode())
    except (configparser.Error, UnicodeDecodeError) as error:
        raise CodeError(f"{what}: its entry_points.txt is not understood ({str(error).splitlines()[0]})") from error
    entries = dict(parser[GROUP]) if parser.has_section(GROUP) else {}
    if not entries:
        raise CodeError(
            f"{what} names no parts, so nothing of it would be found: add them to its pyproject.toml, as "
            f'[project.entry-points."{GROUP}"] with lines such as "likelihood.my-kind" = "my_package.specs:MyConfig"'
        )
    return entries


def _url_sha256(data: bytes) -> str:
    return base64.urlsafe_b64encode(hashlib.sha256(data).digest()).rstrip(b"=").decode()
