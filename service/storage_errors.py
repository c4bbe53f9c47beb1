"""What an S3 server's refusal means, and how to mend it. Knows codes, not the library that fetched them."""

from __future__ import annotations

from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from service.directories import disk_error
from service.errors import NotFoundError, StorageError, UnavailableError, VaesvcError

NO_KEY = frozenset({"NoSuchKey", "404", "NotFound"})
BAD_KEYS = frozenset(
    {"InvalidAccessKeyId", "SignatureDoesNotMatch", "403", "Forbidden", "InvalidToken", "ExpiredToken"}
)
FULL = frozenset({"InsufficientStorage", "QuotaExceeded", "XMinioStorageFull", "507", "EntityTooLarge"})
BUSY = frozenset({"SlowDown", "RequestTimeout", "Throttling", "ThrottlingException", "TooManyRequests"})
BUSY_STATUS = frozenset({408, 429, 500, 502, 503, 504})
SET_KEYS = "set VAESVC_S3_ACCESS_KEY and VAESVC_S3_SECRET_KEY"


class NoS3Error(Exception):
    """An answer that no S3 server gives, though the library took it."""


def error_code(error: BaseException) -> str:
    """Return S3's own code of what went wrong, such as NoSuchKey; empty when the server did not answer."""
    return str(_response(error).get("Error", {}).get("Code", ""))


def overloaded(error: BaseException) -> bool:
    """Return whether the server asks to come again later."""
    return error_code(error) in BUSY or _status(error) in BUSY_STATUS


def explain(error: Exception, *, what: str, bucket: str | None, keyless: bool, unreachable: bool) -> VaesvcError:
    """Return the error to raise for `error`.

    what: "could not read s3://... at http://..."; bucket: its name where the whole bucket was meant, not an object.
    """
    code, status = error_code(error), _status(error)
    if code == "NoSuchBucket" or (code in NO_KEY and bucket):
        mend = "create it, or name another with VAESVC_S3_BUCKET"
        return StorageError(f"{what}: the bucket does not exist; {mend}")
    if code in NO_KEY:
        return NotFoundError(f"{what}: there is no such object")
    if code in BAD_KEYS:
        return StorageError(f"{what}: the server refused the keys ({code}); {SET_KEYS}")
    if code == "AccessDenied":
        return StorageError(f"{what}: the keys do not allow it ({code}); they need list, read, write and delete there")
    if keyless:
        return StorageError(f"{what}: no keys were given; {SET_KEYS}")
    if code == "RequestTimeTooSkewed":
        return StorageError(f"{what}: this machine's clock and the server's differ too much ({code}); set them right")
    if code in FULL or status == 507:
        return StorageError(f"{what}: the server has no room left ({code or status}); free some or raise its quota")
    if unreachable or overloaded(error):
        why = f"{status} {code}".strip() if status else type(error).__name__
        return UnavailableError(f"{what}: no good answer ({why}); is the address right, and the server running?")
    if isinstance(error, NoS3Error | RecursionError) or (status and not code):
        why = "redirects without an end" if isinstance(error, RecursionError) else f"HTTP {status} and no S3 error"
        why = str(error) if isinstance(error, NoS3Error) else why
        return UnavailableError(f"{what}: what answers there is no S3 server ({why}); check VAESVC_S3_ENDPOINT_URL")
    if isinstance(error, OSError):
        return disk_error(error, Path(str(error.filename or ".")))
    return StorageError(f"{what}: {code or type(error).__name__}: {_message(error)}")


def public(address: str) -> str:
    """Return the address without the user and password that it may carry."""
    parts = urlsplit(address)
    return parts._replace(netloc=parts.netloc.rpartition("@")[2]).geturl() if "@" in parts.netloc else address


def local(address: str | None) -> bool:
    """Return whether the address is this machine's: no proxy knows the way there."""
    return urlsplit(address or "").hostname in ("127.0.0.1", "localhost", "::1")


def _response(error: BaseException) -> dict[str, Any]:
    return getattr(error, "response", None) or {}  # a timeout has the attribute too, with None


def _status(error: BaseException) -> int:
    return int(_response(error).get("ResponseMetadata", {}).get("HTTPStatusCode", 0))


def _message(error: BaseException) -> str:
    """Return the message on one line: whoever shows the first line of an error shows all of it."""
    return " ".join(str(_response(error).get("Error", {}).get("Message") or error).split())[:300]
