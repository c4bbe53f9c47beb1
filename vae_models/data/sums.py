"""Checksums as they are published: of a file, of what it decompresses to, or of what an archive holds."""

from __future__ import annotations

import gzip
import hashlib
import io
import lzma
import zipfile
import zlib
from pathlib import Path

_PICTURES = (".png", ".jpg")
_KINDS = {32: "md5", 64: "sha256"}  # by the number of hexadecimal digits


def decompressed(name: str, raw: bytes) -> bytes:
    """Return `raw`, decompressed when `name` ends in .gz or .xz. Raise ValueError when it cannot be."""
    try:
        if name.endswith(".gz"):
            return gzip.decompress(raw)
        if name.endswith(".xz"):
            return lzma.decompress(raw)
    except (OSError, EOFError, zlib.error, lzma.LZMAError) as error:
        raise ValueError(f"{name.rpartition('.')[2]}: {error}") from error
    return raw


def label(published: str) -> str:
    return {"md5": "MD5", "sha256": "SHA-256"}[_KINDS[len(published)]]


def content_sum(published: str, name: str, content: bytes) -> str:
    """Return the sum of `content`, of the same kind as `published`; of a zip, `archive_sum`."""
    if name.endswith(".zip"):
        return archive_sum(content)
    return hashlib.new(_KINDS[len(published)], content, usedforsecurity=False).hexdigest()


_MARK = b"\xef\xbb\xbf"  # UTF-8's byte order mark


def text_forms(content: bytes) -> tuple[bytes, bytes]:
    """Return the same lines with LF, and with CRLF at their ends: no byte order mark, and one end after the last.

    Systems and editors change these alone.
    """
    lines = content.removeprefix(_MARK).replace(b"\r\n", b"\n").replace(b"\r", b"\n").rstrip(b"\n") + b"\n"
    return lines, lines.replace(b"\n", b"\r\n")


def packed(folder: Path) -> bytes:
    """Return the pictures below `folder` as a zip in memory, under the names that they have in its own archive."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_STORED) as archive:
        for path in sorted(folder.rglob("*")):
            if path.suffix.lower() in _PICTURES and path.is_file():
                archive.writestr(
                    zipfile.ZipInfo(f"{folder.name}/{path.relative_to(folder).as_posix()}"), path.read_bytes()
                )
    return file.getvalue()


def archive_sum(content: bytes) -> str:
    """Return SHA-256 over the files of a zip, however it was packed:
    of each in the order of names, name, NUL, length, bytes.

    The length is 8 bytes, big-endian. Folders, and what is not a PNG or JPEG picture, do not count. Raise ValueError
    when it is no readable zip.
    """
    digest = hashlib.sha256()
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            for name in sorted(archive.namelist()):
                if name.lower().endswith(_PICTURES):
                    data = archive.read(name)
                    digest.update(name.encode() + b"\0" + len(data).to_bytes(8, "big") + data)
    except (zipfile.BadZipFile, zlib.error, EOFError, OSError, NotImplementedError) as error:
        raise ValueError(f"zip: {error}") from error
    return digest.hexdigest()
