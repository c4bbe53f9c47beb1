"""Users' packages in the bucket: code/DIGEST/NAME.whl, each once, and verified whenever it is read."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from service.code.reference import CodeRef
from service.code.wheel import CodeError, Wheel, read
from service.errors import NotFoundError, UntrustedError

if TYPE_CHECKING:
    from service.artifacts import Artifacts, StoredObject

PLACE = "code"
_MOST = 1 << 30  # bytes, of what is here already
REFRESH_SECONDS = 86_400.0  # one that is older is written again when it is brought again: its age is what keeps it


def address(artifacts: Artifacts, ref: CodeRef) -> str:
    return artifacts.uri(PLACE, ref.digest, ref.filename)


def keep(artifacts: Artifacts, wheel: Wheel) -> None:
    """Write it where it is not stored yet, or has been for long. Idempotent."""
    uri = address(artifacts, wheel.ref)
    there = _there(artifacts, wheel.ref)
    if there is None or time.time() - there.modified_at > REFRESH_SECONDS:
        artifacts.put_bytes(uri, wheel.data, "application/octet-stream")


def is_there(artifacts: Artifacts, ref: CodeRef) -> bool:
    return _there(artifacts, ref) is not None


def fetch(artifacts: Artifacts, ref: CodeRef, most_bytes: int) -> Wheel:
    """Return the package, its bytes compared with its digest. Raises NotFoundError, or UntrustedError for other
    bytes."""
    uri = address(artifacts, ref)
    try:
        data = artifacts.get_bytes(uri)
    except NotFoundError:
        raise NotFoundError(
            f"the package {ref} is not in the bucket any more: submit the job again with --code, or bring the same "
            "package with any other job and retry this one"
        ) from None
    return verified(data, ref, most_bytes)


def verified(data: bytes, ref: CodeRef, most_bytes: int) -> Wheel:
    """Return the package in these bytes if it is `ref`; raise UntrustedError otherwise."""
    try:
        wheel = read(data, most_bytes=most_bytes, what=f"the package {ref.name}")
    except CodeError as error:
        raise UntrustedError(f"the package {ref} was altered in the bucket: {error}") from error
    if wheel.ref != ref:
        raise UntrustedError(f"the package {ref} was altered in the bucket: there is {wheel}")
    return wheel


def is_package(data: bytes, ref: CodeRef) -> bool:
    """Return whether these bytes are the package."""
    try:
        return verified(data, ref, _MOST) is not None
    except UntrustedError:
        return False


def _there(artifacts: Artifacts, ref: CodeRef) -> StoredObject | None:
    uri = address(artifacts, ref)
    return next((item for item in artifacts.list(uri) if item.uri == uri), None)
