"""Which errors are worth another try, and what a person gets to read."""

from __future__ import annotations

import errno
import os
import pickle
from pathlib import Path

import pytest

from service.attempt.failures import Kind, classify, describe, worst
from service.errors import FencedError, ImpossibleError, StorageError, UnavailableError, UsageError
from vae_models.collectives import PeerError
from vae_models.data.errors import DataCorrupt, DataMissing
from vae_models.parts import PartError
from vae_models.training.errors import Fenced, IncompatibleCheckpoint, NonFiniteLoss, NoRoom

FULL = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "/scratch/x")


def full_storage() -> StorageError:
    error = StorageError("could not write")
    error.__cause__ = FULL
    return error


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (UnavailableError("S3 is away"), Kind.PASSING),
        (FencedError("superseded"), Kind.PASSING),
        (Fenced("superseded"), Kind.PASSING),
        (PeerError("worker 0 failed"), Kind.PASSING),
        (ConnectionResetError("peer"), Kind.PASSING),
        (RuntimeError("[gloo/transport/tcp/pair.cc] Connection closed by peer"), Kind.PASSING),
        (FULL, Kind.ENDING),
        (full_storage(), Kind.ENDING),
        (NoRoom("no room for x"), Kind.ENDING),
        (StorageError("the bucket does not exist"), Kind.HOPELESS),
        (UsageError("no such field"), Kind.HOPELESS),
        (ImpossibleError("too large"), Kind.HOPELESS),
        (NonFiniteLoss(3, "loss", float("nan")), Kind.HOPELESS),
        (IncompatibleCheckpoint("other config"), Kind.HOPELESS),
        (DataMissing("no file"), Kind.HOPELESS),
        (DataCorrupt("two sums"), Kind.HOPELESS),
        (KeyError("bucket"), Kind.HOPELESS),
        (PartError("likelihood laplace: log_prob returned NaN"), Kind.HOPELESS),
        (ZeroDivisionError("x"), Kind.HOPELESS),
    ],
)
def test_kinds(error: Exception, kind: Kind) -> None:
    failure = classify(error)
    assert failure.kind is kind
    assert failure.ends_attempt == (kind is not Kind.PASSING)
    assert failure.retryable == (kind is not Kind.HOPELESS)


def test_a_full_disk_is_known_after_the_way_between_processes() -> None:
    """Causes are not pickled."""
    from service.directories import disk_error

    error = disk_error(FULL, Path("/scratch"))
    assert classify(pickle.loads(pickle.dumps(error))).kind is Kind.ENDING


class WrappedError(Exception):
    """As Ray wraps a worker's exception."""

    def __init__(self, cause: Exception) -> None:
        super().__init__("Traceback (most recent call last):\n" + "  File x\n" * 200)
        self.cause = cause


def test_wrappers_are_taken_off() -> None:
    failure = classify(WrappedError(WrappedError(UsageError("steps must be positive"))))
    assert failure.kind is Kind.HOPELESS
    assert failure.text == "steps must be positive"


def test_the_error_that_others_follow_from_is_told() -> None:
    rank, failure = worst({0: PeerError("see worker 2"), 1: ConnectionResetError("x"), 2: DataCorrupt("two sums")})
    assert (rank, failure.text) == (2, "two sums")
    assert worst({0: PeerError("see the others"), 1: RuntimeError("killed")})[0] == 1
    assert worst({1: UsageError("b"), 0: UsageError("a")})[0] == 0


def test_texts_are_short_and_name_the_class_where_it_helps() -> None:
    assert describe(ValueError("bad")) == "ValueError: bad"
    assert describe(RuntimeError()) == "RuntimeError"
    assert describe(StorageError("wrong keys")) == "wrong keys"
    assert len(describe(ValueError("x" * 5000))) == 1000
    assert describe(ValueError("\n".join(f"line {i}" for i in range(200)))) == "ValueError: line 0 line 1 line 2"


@pytest.mark.parametrize(
    ("text", "lost"),
    [
        ("The actor died because its node has died. Node Id: 4f", True),
        ("The task's local raylet died. Check raylet.out for more information.", True),
        ("Failed to connect to GCS within 60 seconds", True),
        ("The actor's node was terminated unexpectedly: health check failed", True),
        ("The actor died unexpectedly: out of memory", False),
        ("loss is not finite at step 3", False),
    ],
)
def test_fault_13a_rays_words_for_lost_machines_are_known(text: str, lost: bool) -> None:
    assert classify(RuntimeError(text)).outage is lost
    assert not classify(ValueError(text)).outage  # hopeless is hopeless
