"""A user's package on this process's path: put there, from bytes that are checked, or found there and checked.

A process has one such package, or none. The variable VAESVC_CODE has its digest, and PYTHONPATH its folder: processes
that this one starts import the same. A folder is named by the digest of what is in it.
"""

from __future__ import annotations

import importlib
import importlib.util
import os
import shutil
import sys
import tempfile
from importlib.metadata import packages_distributions
from pathlib import Path

from packaging.utils import canonicalize_name

from service.code import requirements
from service.code.reference import VARIABLE, present
from service.code.wheel import CodeError, Wheel, folder_digest, unpack

_FOLDER = "vaesvc_code_"


def folder_name(digest: str) -> str:
    """Return the folder name of an unpacked package, wherever it lies."""
    return f"{_FOLDER}{digest}"


def put(wheel: Wheel, cache_dir: Path) -> Path:
    """Unpack it under `cache_dir`, where it may be already, and put it in front of the path. Return the folder.

    From here on its parts are registered. Raises CodeError where this process has another package already, or where a
    module of it is somebody else's here, or is imported already from another place.
    """
    before = present()
    folder = cache_dir / "code" / folder_name(wheel.digest)
    if before is not None and before != wheel.digest:
        raise CodeError(
            f"this process has another package already (SHA-256 {before[:12]}...), and {wheel} cannot be imported "
            "beside it: start a new process"
        )
    if (here := _on_path(wheel.digest)) is not None:
        return here
    _check_modules(wheel)
    _unpack(wheel, folder)
    sys.path.insert(0, str(folder))
    rest = os.environ.get("PYTHONPATH")
    os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, (str(folder), rest)))
    os.environ[VARIABLE] = wheel.digest
    importlib.invalidate_caches()
    if (registry := sys.modules.get("vae_models.parts")) is not None:
        registry.forget()
    return folder


def use(wheel: Wheel, cache_dir: Path) -> Path:
    """Do as `put`, once its dependencies are met here, and with all of its parts loaded, or not at all. Return the
    folder."""
    from service.code.parts import check_parts  # which imports every spec: after the folder is on the path

    requirements.check(wheel)
    folder = put(wheel, cache_dir)
    check_parts(wheel.name, wheel.version)
    return folder


def brings(part: type) -> bool:
    """Return whether a class is of this process's own package, which no other process of the service has."""
    digest, module = present(), sys.modules.get(part.__module__)
    file = getattr(module, "__file__", None)
    return digest is not None and file is not None and folder_name(digest) in Path(file).parts


def check_path() -> None:
    """Compare the package on this process's path with its digest, before anything of it is imported.

    Raises CodeError. Does nothing where VAESVC_CODE is not set.
    """
    wanted = present()
    if wanted is None:
        return
    folder = _on_path(wanted)
    if folder is None:
        raise CodeError(f"the job's package (SHA-256 {wanted[:12]}...) is not on the path of this process")
    try:
        digest = folder_digest(folder)
    except OSError as error:
        raise CodeError(f"the job's package in {folder} cannot be read: {error}") from error
    if digest != wanted:
        raise CodeError(f"the job's package in {folder} is not what was submitted: it has SHA-256 {digest}")


def _on_path(digest: str) -> Path | None:
    return next((Path(place) for place in sys.path if Path(place).name == folder_name(digest)), None)


def _unpack(wheel: Wheel, folder: Path) -> None:
    """Unpack it: the folder is complete and right, or does not exist."""
    try:
        if folder.is_dir():
            if folder_digest(folder) == wheel.digest:
                return
            shutil.rmtree(folder)  # somebody wrote into it
        folder.parent.mkdir(parents=True, exist_ok=True)
        partial = Path(tempfile.mkdtemp(prefix=".partial-", dir=folder.parent))
        try:
            unpack(wheel, partial)
            partial.rename(folder)
        except OSError:
            if not folder.is_dir():  # else another process was faster
                raise
        finally:
            shutil.rmtree(partial, ignore_errors=True)
    except OSError as error:
        raise CodeError(f"{folder} cannot be written: {error.strerror}") from error


def _check_modules(wheel: Wheel) -> None:
    """Raise CodeError where its modules would stand in front of others of their names."""
    for name in wheel.modules:
        if (imported := sys.modules.get(name)) is not None:
            where = getattr(imported, "__file__", None) or "another place"
            raise CodeError(
                f"the module {name} of {wheel} is imported in this process already, from {where}: start a new process"
            )
        if importlib.util.find_spec(name) is None:
            continue
        owners = {canonicalize_name(owner) for owner in packages_distributions().get(name, ())}
        if owners - {canonicalize_name(wheel.name)}:
            raise CodeError(
                f"{wheel} has a top-level module {name!r}, which is {', '.join(sorted(owners))}'s here: give it "
                "another name"
            )
