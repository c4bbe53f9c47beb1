"""Errors of a run: which are worth another try, and one line that a person can use.

Three kinds. *Passing* ones (a worker was killed, a peer vanished, a server does not answer) are healed by starting the
group again. *Ending* ones end the attempt at once; of those, some may heal with time (a full disk) and the queue tries
again, and some are *hopeless* (a wrong value, corrupt data, a loss that is not finite) and the job fails.
"""

from __future__ import annotations

import errno
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import Enum

from service.errors import AuthError, FencedError, StorageError, UnavailableError, VaesvcError

_TEXT = 1000  # characters
# what Ray says when a machine, its raylet or the head is gone: not what the job did
_MACHINES = re.compile(
    r"node has died|node was terminated|node (?:is|was) dead|NodeDiedError|raylet (?:has )?died|was preempted|"
    r"[Ff]ailed to connect to (?:the )?GCS|WorkerGroupStartupTimeoutError|found no room"
)


class Kind(Enum):
    PASSING = "passing"
    ENDING = "ending"
    HOPELESS = "hopeless"


_BY_NAME = {  # classes of torch and of packages that the light parent does not import
    "PeerError": Kind.PASSING,
    "Fenced": Kind.PASSING,
    "NoRoom": Kind.ENDING,
    "TrainingError": Kind.HOPELESS,
    "DataError": Kind.HOPELESS,
    "OutOfMemoryError": Kind.HOPELESS,
}
_PASSING = (UnavailableError, AuthError, FencedError, ConnectionError, TimeoutError)
_HOPELESS = (
    VaesvcError,
    ValueError,
    TypeError,
    LookupError,
    AttributeError,
    ImportError,
    ArithmeticError,
    AssertionError,
    NotImplementedError,
    FileNotFoundError,
    PermissionError,
)
_WRAPPERS = ("cause", "_base_exc", "health_check_failure")  # RayTaskError, Ray Train's, a failed health check


@dataclass(frozen=True, kw_only=True)
class Failure:
    text: str
    kind: Kind

    @property
    def ends_attempt(self) -> bool:
        """Return whether starting the worker group again would fail again."""
        return self.kind is not Kind.PASSING

    @property
    def retryable(self) -> bool:
        """Return whether a new attempt may succeed."""
        return self.kind is not Kind.HOPELESS

    @property
    def outage(self) -> bool:
        """Return whether a machine was lost, not by the job's fault: then the attempt does not count against its
        budget."""
        return self.retryable and machines_lost(self.text)


def machines_lost(text: str) -> bool:
    """Return whether these words are Ray's for a node or a head that is gone."""
    return _MACHINES.search(text) is not None


def classify(error: BaseException) -> Failure:
    """Return what kind of failure an exception of a run is."""
    error = unwrap(error)
    return Failure(text=describe(error), kind=_kind(error))


def worst(errors: Mapping[int, BaseException]) -> tuple[int, Failure]:
    """Return (rank, failure) of the error to report when several workers fail: the cause of the others'."""
    failures = {rank: classify(error) for rank, error in errors.items()}
    rank = min(
        failures, key=lambda r: (not failures[r].ends_attempt, type(unwrap(errors[r])).__name__ == "PeerError", r)
    )
    return rank, failures[rank]


def of_gang(error: BaseException) -> Failure:
    """Return what ended a gang, ours or Ray Train's: the workers' errors are in its error, by rank."""
    errors = getattr(error, "worker_failures", None)
    if isinstance(errors, dict) and errors:
        return worst(errors)[1]
    return classify(getattr(error, "controller_failure", None) or error)


def unwrap(error: BaseException) -> BaseException:
    """Return the error itself, out of what Ray puts around it."""
    for _ in range(8):
        inner = [getattr(error, name, None) for name in _WRAPPERS]
        cause = next((each for each in inner if isinstance(each, Exception) and each is not error), None)
        if cause is None:
            return error
        error = cause
    return error


def describe(error: BaseException) -> str:
    """Describe an error in one short paragraph: our own as they are, others with their class."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    name = type(error).__name__
    if not lines:
        return name
    ours = isinstance(error, VaesvcError) or type(error).__module__.partition(".")[0] == "vae_models"
    return (" ".join(lines) if ours else f"{name}: {' '.join(lines[:3])}")[:_TEXT]


def _kind(error: BaseException) -> Kind:
    if _disk_full(error):
        return Kind.ENDING
    for cls in type(error).__mro__:
        if cls.__name__ in _BY_NAME:
            return _BY_NAME[cls.__name__]
    if isinstance(error, _PASSING):
        return Kind.PASSING
    return Kind.HOPELESS if isinstance(error, _HOPELESS) else Kind.PASSING


def _disk_full(error: BaseException) -> bool:
    """Return whether the disk is full, also behind a StorageError: between processes only its words remain."""
    if isinstance(error, StorageError) and "the disk that holds" in str(error):
        return True
    return any(isinstance(e, OSError) and e.errno in (errno.ENOSPC, errno.EDQUOT) for e in _causes(error))


def _causes(error: BaseException) -> Iterator[BaseException]:
    seen: BaseException | None = error
    while seen is not None:
        yield seen
        seen = seen.__cause__
