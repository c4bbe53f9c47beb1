"""One tree of errors. A message says what was wrong, where, what is allowed and how to mend it.

VaesvcError
├── UsageError             exit 2, HTTP 422   the request is wrong: a field, a value, a recipe
│   ├── ImpossibleError    exit 2, HTTP 422   no machine of the cluster could ever run it
│   └── NeedsCodeError     exit 2, HTTP 422   a model takes a user's own code to load, and nobody has agreed to it
├── NotFoundError          exit 2, HTTP 404   no such job, recipe, model
├── ConflictError          exit 2, HTTP 409   the key was used for another spec; the job is in a state that forbids it
├── FencedError            exit 1, HTTP 410   a newer attempt exists, or the job is over: stop at once
├── ForbiddenError         exit 2, HTTP 403   the token is known, but this is another's, or an administrator's
│   └── QuotaError         exit 2, HTTP 403   more than a quota of the user or the group allows
├── AuthError              exit 3, HTTP 401   no token or a wrong one
├── UnavailableError       exit 3, HTTP 503   a server does not answer (API, Ray, MLflow, S3, SQL)
└── StorageError           exit 1, HTTP 507   disk full, bucket missing, wrong keys, corrupt object
    └── UntrustedError     exit 1, HTTP 422   not what the service signed, or where it reads nothing
"""

from __future__ import annotations


class VaesvcError(Exception):
    """The root of our errors. `exit_code` is the command line's, `http_status` the API's, `code` the stable name on the
    wire."""

    exit_code = 1
    http_status = 500
    code = "error"


class UsageError(VaesvcError):
    exit_code = 2
    http_status = 422
    code = "usage"


class ImpossibleError(UsageError):
    code = "impossible"


class NeedsCodeError(UsageError):
    code = "needs_code"


class NotFoundError(VaesvcError):
    exit_code = 2
    http_status = 404
    code = "not_found"


class ConflictError(VaesvcError):
    exit_code = 2
    http_status = 409
    code = "conflict"


class FencedError(VaesvcError):
    exit_code = 1
    http_status = 410
    code = "fenced"


class AuthError(VaesvcError):
    exit_code = 3
    http_status = 401
    code = "auth"


class ForbiddenError(VaesvcError):
    exit_code = 2
    http_status = 403
    code = "forbidden"


class QuotaError(ForbiddenError):
    code = "quota"


class UnavailableError(VaesvcError):
    exit_code = 3
    http_status = 503
    code = "unavailable"


class StorageError(VaesvcError):
    exit_code = 1
    http_status = 507
    code = "storage"


class UntrustedError(StorageError):
    http_status = 422  # no storage is amiss: what was named is not taken
    code = "untrusted"


def _tree(root: type[VaesvcError]) -> dict[str, type[VaesvcError]]:
    by_code = {root.code: root}
    for child in root.__subclasses__():
        by_code.update(_tree(child))
    return by_code


def from_code(code: str, message: str) -> VaesvcError:
    """Return the error that the API named `code`, for the client to raise again."""
    return _tree(VaesvcError).get(code, VaesvcError)(message)
