"""Directories with a manifest, on a local disk: complete or not there at all."""

from __future__ import annotations

import errno
import json
import os
import shutil
import tempfile
from io import FileIO
from pathlib import Path, PurePosixPath

from service.errors import StorageError

MANIFEST = "manifest.json"


class CorruptObjectError(StorageError):
    """A stored directory is not what its manifest says: an object is altered, cut short or missing."""

    code = "corrupt"


def read_manifest(data: bytes, where: str) -> dict[str, tuple[str, int]]:
    """Return the files a manifest names: relative path -> (SHA-256, bytes). Refuses paths that leave the directory."""
    try:
        files = {str(n): (str(f["sha256"]), int(f["bytes"])) for n, f in json.loads(data)["files"].items()}
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise CorruptObjectError(f"{where} is not a manifest ({type(error).__name__}: {error})") from error
    for name in files:
        path = PurePosixPath(name)
        if path.is_absolute() or ".." in path.parts or "\\" in name or not path.parts or name == MANIFEST:
            raise CorruptObjectError(f"{where} names the file {name!r}, which is not a path inside its directory")
    return files


def altered(uri: str, expected: str, actual: str) -> CorruptObjectError:
    return CorruptObjectError(f"{uri} is not what was stored: expected SHA-256 {expected}, found {actual}")


def disk_error(error: OSError, path: Path) -> StorageError:
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return StorageError(f"the disk that holds {path} is full ({os.strerror(error.errno)}): free some space there")
    return StorageError(f"could not use {path}: {error}")


def write_all(file: FileIO, data: bytes) -> None:
    """Write `data`, or raise an error that says that the disk is full."""
    view = memoryview(data)
    try:
        while view:
            view = view[file.write(view) :]
    except OSError as error:
        raise disk_error(error, Path(str(file.name))) from error


def need_space(directory: Path, need: int) -> None:
    free = shutil.disk_usage(directory).free
    if need > free:
        raise StorageError(
            f"the disk that holds {directory} has {free / 2**20:.0f} MiB free, {need / 2**20:.0f} MiB are needed: "
            "free some space there"
        )


def replace_directory(source: Path, target: Path) -> None:
    """Put the directory `source` at `target`, whatever was there; nobody ever sees a mixture."""
    if target.exists():
        with tempfile.TemporaryDirectory(prefix=f".{target.name}.old.", dir=target.parent) as old:
            target.rename(Path(old) / "old")
            source.rename(target)
    else:
        source.rename(target)
