"""What to do about an open attempt, as a pure function of what SQL and Ray say of it.

SQL is the truth and Ray's status a hint. Every action is harmless when it is done twice, or by two dispatchers, or on
a picture that is a moment old: submission ids are unique, the store checks the lease again by its own clock, and a
stop for something that ended does nothing. So a dispatcher may be killed between any two of them.

    SQL        Ray               does
    STARTING   unknown           submit (the first time, or Ray's head restarted)
    STARTING   PENDING, RUNNING  wait for the claim, not for ever
    STARTING   over              lost: nothing claimed it, so its log says why
    RUNNING    PENDING, RUNNING  trust the lease; when it ended: lost, then stop what is left
    RUNNING    PENDING, RUNNING  asked to give way, and its grace is long over: stop
    RUNNING    over, unknown     stop to be sure, lost as soon as the lease ended
    any        no answer         only what the lease alone decides
    and CANCELLING: unclaimed ends at once; claimed gets its grace, is stopped, ends with its lease
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from enum import Enum

from service.attempt.assignment import FATAL_MARK
from service.attempt.failures import machines_lost
from service.dispatch.ray_jobs import RayJob, RayState
from service.queue.jobs import Attempt, AttemptState, Job, JobState

_MISSING = re.compile(r"No module named '?(service|vae_models)\b")
_NO_PYTHON = re.compile(r"python[\w.]*: (?:command )?not found|No such file or directory: '?\S*python")


@dataclass(frozen=True, kw_only=True)
class Limits:
    """Time limits, in seconds."""

    cancel_grace: float = 8.0  # a cancelled attempt may checkpoint this long
    preempt_grace: float = 60.0  # the same, of one on a node that is being drained
    claim: float = 300.0  # from Ray's hands to the runner's claim, once Ray says RUNNING
    lease_margin: float = 2.0  # the clocks of dispatcher and database may differ
    renewal: float = 5.0  # a runner that lives renews its lease within this
    giving_way: float = 10.0  # after the end of its grace a runner has killed its attempt and reported it
    waking: float = 20.0  # after a suspension: for runners to renew their leases in, and for servers to answer again


class Silence(Enum):
    SILENT = "Ray does not answer"


SILENT = Silence.SILENT


@dataclass(frozen=True)
class Submit:
    """Hand the attempt to Ray and note it in SQL."""


@dataclass(frozen=True)
class Stop:
    """End what Ray still runs of the attempt."""


@dataclass(frozen=True)
class Lost:
    """The attempt is over without its runner's report. The store refuses while the lease is held."""

    reason: str
    retryable: bool = True
    outage: bool = False  # machines were lost, and not by the job's fault


@dataclass(frozen=True)
class EndCancelled:
    """The cancelled job is over. The store refuses while the lease is held."""


Action = Submit | Stop | Lost | EndCancelled


def decide(
    job: Job,
    attempt: Attempt,
    ray: RayJob | Silence | None,
    *,
    now: float,
    cancelling_for: float,
    limits: Limits,
    woke: float | None = None,
) -> tuple[Action, ...]:
    """Return what to do, in this order; nothing when all is well.

    job, attempt: read from SQL before Ray was asked, so that a job which SQL calls submitted and Ray does not know
    is one that Ray forgot. ray: None when Ray does not know the job, SILENT when Ray does not answer. now: seconds
    since 1970. cancelling_for: seconds since this dispatcher first saw the job CANCELLING. woke: when this machine was
    last found to have been suspended, seconds since 1970: leases that ended meanwhile may still be renewed.
    """
    slept = _slept(attempt, limits, woke)
    if slept and woke is not None and now < woke + limits.waking and not _over(ray):
        return ()
    if isinstance(ray, Silence):
        return _without_ray(job, attempt, now, limits)
    alive = ray is not None and not ray.state.over
    stop: tuple[Action, ...] = (Stop(),) if alive else ()
    if attempt.state is not AttemptState.RUNNING:
        if job.state is JobState.CANCELLING:
            return (EndCancelled(), *stop)  # ended first: a runner that starts now is refused its claim
        return _starting(attempt, ray, now, limits, woke)
    ended = _lease_ended(attempt, now, limits)
    if job.state is JobState.CANCELLING:
        if ended or not alive:
            return (EndCancelled(), *stop)
        return stop if cancelling_for >= limits.cancel_grace else ()
    if ray is None:
        reason = "Ray no longer knows the attempt: its head was restarted, or the cluster replaced"
        return (Lost(reason, outage=True),)
    if ray.state.over:
        reason = explain(ray)[0]
        return (Stop(), Lost(reason, outage=slept or machines_lost(reason)))
    if ended:
        why = "the machine was suspended" if slept else "it hangs, or cannot reach the API"
        return (Lost(f"the runner stopped renewing its lease: {why}", outage=slept), *stop)
    late = attempt.stop_until is not None and now > attempt.stop_until + limits.giving_way
    return stop if late else ()


def _over(ray: RayJob | Silence | None) -> bool:
    return isinstance(ray, RayJob) and ray.state.over


def _slept(attempt: Attempt, limits: Limits, woke: float | None) -> bool:
    """Return whether the attempt's lease could not be renewed because this machine was suspended."""
    return woke is not None and attempt.lease_until is not None and attempt.lease_until < woke + limits.renewal


def _without_ray(job: Job, attempt: Attempt, now: float, limits: Limits) -> tuple[Action, ...]:
    """Return what follows from SQL alone: the end of a cancelled attempt that nobody runs, or of a lease."""
    claimed = attempt.state is AttemptState.RUNNING
    ended = claimed and _lease_ended(attempt, now, limits)
    if job.state is JobState.CANCELLING:
        return (EndCancelled(),) if ended or not claimed else ()
    reason = "the runner stopped renewing its lease, and Ray does not answer"
    return (Lost(reason, outage=True),) if ended else ()


def _lease_ended(attempt: Attempt, now: float, limits: Limits) -> bool:
    return attempt.lease_until is not None and now > attempt.lease_until + limits.lease_margin


def _starting(
    attempt: Attempt, ray: RayJob | None, now: float, limits: Limits, woke: float | None
) -> tuple[Action, ...]:
    if ray is None:
        return (Submit(),)
    if ray.state.over:
        reason, retryable = explain(ray)
        return (Lost(reason, retryable, outage=machines_lost(reason)),)
    if attempt.submitted_at is None:  # killed after Ray took it and before SQL heard of it
        return (Submit(),)
    if ray.state is RayState.RUNNING and now > max(attempt.submitted_at, woke or 0.0) + limits.claim:
        return (
            Lost(f"no runner claimed the attempt within {limits.claim:.0f} s: can it reach the API?"),
            Stop(),
        )
    return ()


def explain(ray: RayJob) -> tuple[str, bool]:
    """Return why a Ray job ended without the runner's report, and whether trying again may help."""
    text = ray.message
    marked = _marked(text)
    if marked is not None:
        return marked
    missing = _MISSING.search(text)
    if missing:
        return (
            "the Ray cluster's Python has no vaesvc package (no module named "
            f"{missing.group(1)!r}): install the same version of vaesvc on every node, or use an image that has it "
            "(or a package of that name stands in front of it there, on PYTHONPATH)",
            False,
        )
    if ray.exit_code == 127 or _NO_PYTHON.search(text):
        return (
            "Ray's head has no `python` on its PATH: start Ray inside the environment that has vaesvc",
            False,
        )
    if ray.error_type == "RUNTIME_ENV_SETUP_FAILURE":
        return (f"Ray could not prepare the attempt's environment: {_tail(text)}", True)
    if ray.state is RayState.STOPPED:
        return ("the attempt was stopped in Ray, not by vaesvc", True)
    code = "" if ray.exit_code is None else f" with exit code {ray.exit_code}"
    if ray.state is RayState.SUCCEEDED:
        return (f"the runner ended{code} and did not report how", True)
    return (f"Ray says FAILED{code}: {_tail(text)}", True)


def _marked(text: str) -> tuple[str, bool] | None:
    """Return the error that the runner printed, if it could not report it to the API, and whether it is retryable."""
    for line in reversed(text.splitlines()):
        _, mark, said = line.partition(FATAL_MARK)
        if not mark:
            continue
        try:
            record = json.loads(said)
            return str(record["error"]), bool(record["retryable"])
        except (ValueError, KeyError, TypeError):
            continue
    return None


def _tail(text: str) -> str:
    lines = [line for line in text.strip().splitlines() if line.strip()]
    return lines[-1].strip()[:500] if lines else "no reason given"
