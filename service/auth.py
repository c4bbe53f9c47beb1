"""Who may call: tokens of users and tokens of attempts.

User tokens are random; SQL keeps only their SHA-256 (`Store.add_token`). 256 random bits need no salt and no slow hash.

Attempt tokens are kept nowhere: HMAC-SHA256 over (job, number) with the service's secret. A dispatcher that was killed
makes the same token again, the API checks it without a look-up, and it opens the calls of that one attempt only.

MLflow's gate (`service.tracking.gate`) takes users' tokens, and HMACs of its own for attempts and for the service: what
opens MLflow does not open the API.
"""

from __future__ import annotations

import contextlib
import hashlib
import hmac
import os
import secrets
import tempfile
from collections.abc import Callable
from pathlib import Path

from service.errors import AuthError, StorageError

SECRET_BYTES = 32
_USER_PREFIX = "vaesvc_"  # recognisable to people and to secret scanners
_ATTEMPT_PREFIX = "vaesvc-attempt_"
_ATTEMPT_DOMAIN = b"vaesvc attempt token v1"
_TRACKING_PREFIX = "vaesvc-mlflow_"
_TRACKING_DOMAIN = b"vaesvc mlflow token v1"


def new_token() -> str:
    """Return a user token: 256 random bits, safe in a header and in a shell."""
    return _USER_PREFIX + secrets.token_urlsafe(32)


def attempt_token(secret: bytes, job_id: str, number: int) -> str:
    """Return the token of attempt `number` of a job: the same at every call with the same secret."""
    message = b"\0".join((_ATTEMPT_DOMAIN, job_id.encode(), str(number).encode()))
    return _ATTEMPT_PREFIX + hmac.new(secret, message, hashlib.sha256).hexdigest()


def verify_attempt_token(secret: bytes, token: str, job_id: str, number: int) -> bool:
    """Return whether `token` is that of this attempt; takes the same time whatever the answer."""
    return hmac.compare_digest(token.encode(), attempt_token(secret, job_id, number).encode())


def is_attempt_token(token: str) -> bool:
    """Return whether it has an attempt token's form: for a better message, never for a decision to let somebody in."""
    return token.startswith(_ATTEMPT_PREFIX)


def tracking_token(secret: bytes, job_id: str = "", number: int = 0) -> str:
    """Return the token for MLflow: of attempt `number` of a job, or, without one, of the service itself."""
    message = b"\0".join((_TRACKING_DOMAIN, job_id.encode(), str(number).encode()))
    return f"{_TRACKING_PREFIX}{job_id}.{number}.{hmac.new(secret, message, hashlib.sha256).hexdigest()}"


def read_tracking_token(secret: bytes, token: str) -> tuple[str, int] | None:
    """Return the (job, number) that `tracking_token` made it for, ("", 0) for the service's; None for anything else."""
    job_id, _, rest = token.removeprefix(_TRACKING_PREFIX).rpartition(".")[0].rpartition(".")
    if not token.startswith(_TRACKING_PREFIX) or not rest.isascii() or not rest.isdigit() or len(rest) > 18:
        return None
    right = tracking_token(secret, job_id, int(rest))
    return (job_id, int(rest)) if hmac.compare_digest(token.encode(), right.encode()) else None


def read_secret(path: Path) -> bytes:
    """Return the service's secret, `SECRET_BYTES` random bytes; made (mode 0600) by whoever asks first.

    Raises AuthError if it has a wrong size or others may read it, StorageError if it cannot be read or made.
    """
    secret = read_private(
        path, lambda: secrets.token_bytes(SECRET_BYTES), what="the service's secret", variable="VAESVC_SECRET_FILE"
    )
    if len(secret) < SECRET_BYTES:
        raise AuthError(
            f"the service's secret {path} has {len(secret)} bytes; it needs {SECRET_BYTES}. "
            "Delete it and restart API and dispatcher: attempts that run now will be started again."
        )
    return secret


def read_private(path: Path, make: Callable[[], bytes], *, what: str, variable: str) -> bytes:
    """Return the content of a file that only the service's user may read, made (mode 0600) by whoever asks first.

    API and dispatcher may start at the same moment: the file appears complete or not at all, and the first one wins.
    what, variable: for the messages. Raises AuthError if others may read it, StorageError if it cannot be read or made.
    """
    try:
        if not path.exists():
            _create_private(path, make)
        mode = path.stat().st_mode & 0o777
        content = path.read_bytes()
    except OSError as error:
        raise StorageError(
            f"{what} {path} cannot be read or made: {error.strerror}. "
            f"Give the service's user this file, or set {variable} to another path."
        ) from error
    if mode & 0o077:
        raise AuthError(f"{what} {path} can be read by others (mode {mode:04o}). Mend it with: chmod 600 {path}")
    return content


def write_private(path: Path, text: str) -> None:
    """Write a new file that only its owner may read. Raises FileExistsError rather than touch one that exists."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
        file.write(text)


def _create_private(path: Path, make: Callable[[], bytes]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")  # mode 0600 from the start
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(make())
            file.flush()
            os.fsync(file.fileno())
        with contextlib.suppress(FileExistsError):  # somebody was first: theirs counts
            os.link(name, path)
    finally:
        os.unlink(name)
