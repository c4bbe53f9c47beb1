"""The dispatcher's decisions: the whole table, then what must hold everywhere in it."""

from __future__ import annotations

import itertools

import pytest

from service.attempt.assignment import FATAL_MARK
from service.dispatch.decisions import (
    SILENT,
    Action,
    EndCancelled,
    Limits,
    Lost,
    Silence,
    Stop,
    Submit,
    decide,
    explain,
)
from service.dispatch.ray_jobs import RayJob, RayState
from service.queue.jobs import Attempt, AttemptState, Job, JobState, Resources

NOW = 1_000_000.0
LIMITS = Limits(cancel_grace=8.0, claim=300.0, lease_margin=2.0)


def job(state: JobState) -> Job:
    return Job(
        id="job-1",
        name="n",
        kind="train",
        state=state,
        priority=0,
        owner="ann",
        spec={},
        resources=Resources(),
        attempt=1,
    )


def attempt(state: AttemptState, *, lease_left: float | None = None, submitted: float | None = 10.0) -> Attempt:
    """lease_left: seconds until the lease ends; submitted: seconds ago."""
    return Attempt(
        job_id="job-1",
        number=1,
        state=state,
        runner_id="r" if state is AttemptState.RUNNING else None,
        lease_until=None if lease_left is None else NOW + lease_left,
        submitted_at=None if submitted is None else NOW - submitted,
    )


def ray(state: RayState, message: str = "it broke", **more: object) -> RayJob:
    return RayJob(submission_id="job-1-1", state=state, message=message, **more)  # type: ignore[arg-type]


def act(
    a_job: Job, an_attempt: Attempt, seen: RayJob | Silence | None, cancelling_for: float = 0.0
) -> tuple[Action, ...]:
    return decide(a_job, an_attempt, seen, now=NOW, cancelling_for=cancelling_for, limits=LIMITS)


def kinds(actions: tuple[Action, ...]) -> tuple[type, ...]:
    return tuple(type(action) for action in actions)


STARTING, RUNNING = AttemptState.STARTING, AttemptState.RUNNING
ALIVE = (RayState.PENDING, RayState.RUNNING)
OVER = (RayState.STOPPED, RayState.SUCCEEDED, RayState.FAILED)


def test_an_attempt_is_submitted_the_first_time_and_after_ray_forgot_it() -> None:
    for submitted in (None, 10.0):
        assert act(job(JobState.STARTING), attempt(STARTING, submitted=submitted), None) == (Submit(),)


@pytest.mark.parametrize("state", ALIVE)
def test_a_submission_that_sql_did_not_hear_of_is_made_again(state: RayState) -> None:
    assert act(job(JobState.STARTING), attempt(STARTING, submitted=None), ray(state)) == (Submit(),)


@pytest.mark.parametrize("state", ALIVE)
def test_a_submitted_attempt_is_waited_for(state: RayState) -> None:
    assert act(job(JobState.STARTING), attempt(STARTING), ray(state)) == ()


def test_a_runner_that_never_claims_is_not_waited_for_for_ever() -> None:
    late = attempt(STARTING, submitted=LIMITS.claim + 1)
    assert kinds(act(job(JobState.STARTING), late, ray(RayState.RUNNING))) == (Lost, Stop)
    assert act(job(JobState.STARTING), late, ray(RayState.PENDING)) == ()  # Ray has its own limit for these


@pytest.mark.parametrize("state", OVER)
def test_what_ended_before_the_claim_is_lost_with_rays_reason(state: RayState) -> None:
    (lost,) = act(job(JobState.STARTING), attempt(STARTING), ray(state, exit_code=3))
    assert isinstance(lost, Lost)
    assert lost.retryable
    assert ("it broke" in lost.reason) == (state is RayState.FAILED)


@pytest.mark.parametrize("state", ALIVE)
@pytest.mark.parametrize("lease_left", [10.0, 0.0, -1.9])
def test_a_running_attempt_with_a_lease_is_left_alone(state: RayState, lease_left: float) -> None:
    assert act(job(JobState.RUNNING), attempt(RUNNING, lease_left=lease_left), ray(state)) == ()


@pytest.mark.parametrize("state", ALIVE)
def test_a_runner_that_let_its_lease_end_is_lost_and_stopped(state: RayState) -> None:
    assert kinds(act(job(JobState.RUNNING), attempt(RUNNING, lease_left=-3.0), ray(state))) == (Lost, Stop)


@pytest.mark.parametrize("state", OVER)
@pytest.mark.parametrize("lease_left", [10.0, -3.0])
def test_over_in_ray_and_running_in_sql_is_stopped_to_be_sure_and_lost(state: RayState, lease_left: float) -> None:
    """The store refuses the loss while the lease is held, so it is asked at every tick."""
    assert kinds(act(job(JobState.RUNNING), attempt(RUNNING, lease_left=lease_left), ray(state))) == (Stop, Lost)


def test_an_attempt_that_ray_forgot_is_lost() -> None:
    (lost,) = act(job(JobState.RUNNING), attempt(RUNNING, lease_left=10.0), None)
    assert isinstance(lost, Lost)
    assert "no longer knows" in lost.reason


@pytest.mark.parametrize("state", [*ALIVE, *OVER])
def test_an_unclaimed_attempt_of_a_cancelled_job_ends_at_once(state: RayState) -> None:
    expected = (EndCancelled, Stop) if state in ALIVE else (EndCancelled,)
    assert kinds(act(job(JobState.CANCELLING), attempt(STARTING), ray(state))) == expected
    assert kinds(act(job(JobState.CANCELLING), attempt(STARTING), None)) == (EndCancelled,)


@pytest.mark.parametrize("state", ALIVE)
def test_an_attempt_that_gives_way_is_stopped_when_its_runner_has_not_ended_it(state: RayState) -> None:
    """Its runner kills it at the end of the grace, and reports that."""
    running = attempt(RUNNING, lease_left=10.0)
    asked = [running.model_copy(update={"stop_until": NOW - late}) for late in (-5.0, LIMITS.giving_way - 1)]
    assert [act(job(JobState.RUNNING), each, ray(state)) for each in asked] == [(), ()]
    late = running.model_copy(update={"stop_until": NOW - LIMITS.giving_way - 1})
    assert act(job(JobState.RUNNING), late, ray(state)) == (Stop(),)
    assert act(job(JobState.RUNNING), late, SILENT) == ()


@pytest.mark.parametrize("state", ALIVE)
def test_a_cancelled_runner_gets_its_grace_and_is_then_stopped(state: RayState) -> None:
    running = attempt(RUNNING, lease_left=10.0)
    assert act(job(JobState.CANCELLING), running, ray(state), cancelling_for=7.9) == ()
    assert act(job(JobState.CANCELLING), running, ray(state), cancelling_for=8.0) == (Stop(),)
    ended = attempt(RUNNING, lease_left=-3.0)
    assert act(job(JobState.CANCELLING), ended, ray(state), cancelling_for=20.0) == (EndCancelled(), Stop())


@pytest.mark.parametrize("seen", [None, *(ray(state) for state in OVER)])
def test_a_cancelled_runner_that_ray_has_not_ends_with_its_lease(seen: RayJob | None) -> None:
    assert act(job(JobState.CANCELLING), attempt(RUNNING, lease_left=10.0), seen) == (EndCancelled(),)


def test_without_an_answer_from_ray_only_the_lease_decides() -> None:
    assert act(job(JobState.STARTING), attempt(STARTING, submitted=None), SILENT) == ()
    assert act(job(JobState.RUNNING), attempt(RUNNING, lease_left=1.0), SILENT) == ()
    assert kinds(act(job(JobState.RUNNING), attempt(RUNNING, lease_left=-3.0), SILENT)) == (Lost,)
    assert act(job(JobState.CANCELLING), attempt(STARTING), SILENT) == (EndCancelled(),)
    assert act(job(JobState.CANCELLING), attempt(RUNNING, lease_left=1.0), SILENT, cancelling_for=60.0) == ()
    assert act(job(JobState.CANCELLING), attempt(RUNNING, lease_left=-3.0), SILENT) == (EndCancelled(),)


def every_case() -> list[tuple[Job, Attempt, RayJob | Silence | None, float]]:
    cases = itertools.product(
        (JobState.STARTING, JobState.RUNNING, JobState.CANCELLING),
        (STARTING, RUNNING),
        (None, SILENT, *(ray(state) for state in RayState)),
        (-3.0, 10.0),
        (0.0, 20.0),
        (None, 10.0, 400.0),
    )
    return [
        (job(state), attempt(kind, lease_left=lease if kind is RUNNING else None, submitted=submitted), seen, waited)
        for state, kind, seen, lease, waited, submitted in cases
        if state is JobState.CANCELLING or state.value == kind.value
    ]


def test_everywhere() -> None:
    cases = every_case()
    assert len(cases) > 100
    for a_job, an_attempt, seen, waited in cases:
        actions = act(a_job, an_attempt, seen, waited)
        case = (a_job.state, an_attempt, seen, waited, actions)
        cancelling = a_job.state is JobState.CANCELLING
        done = kinds(actions)
        assert len(set(done)) == len(done), case
        assert not (cancelling and (Submit in done or Lost in done)), case  # cancel wins
        assert not (not cancelling and EndCancelled in done), case
        assert not (an_attempt.state is RUNNING and Submit in done), case  # never a second start of a claimed attempt
        assert not (seen is SILENT and (Stop in done or Submit in done)), case  # nothing is asked of a silent server
        assert not (seen is None and Stop in done), case
        healthy = isinstance(seen, RayJob) and not seen.state.over and (an_attempt.lease_until or 0) > NOW
        assert not (healthy and not cancelling and done), case  # a healthy attempt is left alone
        assert act(a_job, an_attempt, seen, waited) == actions  # and nothing is remembered


FAILED = RayState.FAILED


@pytest.mark.parametrize("module", ["service", "vae_models"])
def test_a_cluster_without_the_package_is_told_how_to_mend_it(module: str) -> None:
    message = f"Job entrypoint command failed...\nError while finding module spec: No module named '{module}'\n"
    reason, retryable = explain(ray(FAILED, message, exit_code=1))
    assert not retryable
    assert "install the same version of vaesvc on every node" in reason


@pytest.mark.parametrize("message", ["/bin/sh: 1: python: not found\n", "sh: python: command not found"])
def test_a_cluster_without_python_is_told_how_to_mend_it(message: str) -> None:
    reason, retryable = explain(ray(FAILED, message, exit_code=127))
    assert not retryable
    assert "PATH" in reason


def test_a_module_of_another_name_is_no_reason_to_give_up() -> None:
    reason, retryable = explain(ray(FAILED, "ModuleNotFoundError: No module named 'service_mesh'", exit_code=1))
    assert retryable
    assert "service_mesh" in reason


def test_the_runners_own_last_words_win_over_everything() -> None:
    said = FATAL_MARK + '{"error": "no room", "retryable": false}'
    assert explain(ray(FAILED, f"No module named 'service'\n{said}\nlater noise")) == ("no room", False)
    assert explain(ray(FAILED, f"{FATAL_MARK}not json\nthe end")) == ("Ray says FAILED: the end", True)


def test_other_ends_say_what_ray_says() -> None:
    assert explain(ray(FAILED, "", exit_code=-9)) == ("Ray says FAILED with exit code -9: no reason given", True)
    assert explain(ray(RayState.SUCCEEDED, exit_code=0))[1]
    assert "not by vaesvc" in explain(ray(RayState.STOPPED))[0]
    broken = ray(FAILED, "boom", error_type="RUNTIME_ENV_SETUP_FAILURE")
    assert explain(broken) == ("Ray could not prepare the attempt's environment: boom", True)


# --- machines that are lost, or were asleep -------------------------------------------------------------------------


def outages(actions: tuple[Action, ...]) -> list[bool]:
    return [action.outage for action in actions if isinstance(action, Lost)]


@pytest.mark.parametrize(
    ("seen", "lease_left"),
    [
        (None, 10.0),  # the head was restarted
        (SILENT, -3.0),  # the head is away
        (ray(FAILED, "Job supervisor actor died: The actor died because its node has died. Node Id: 4f"), -3.0),
        (ray(FAILED, "Failed to connect to GCS within 60 seconds", exit_code=1), -3.0),
    ],
)
def test_fault_13a_a_lost_head_or_node_is_no_failure_of_the_job(
    seen: RayJob | Silence | None, lease_left: float
) -> None:
    assert outages(act(job(JobState.RUNNING), attempt(RUNNING, lease_left=lease_left), seen)) == [True]


def test_fault_13a_what_the_job_did_itself_is_counted() -> None:
    for seen in (ray(FAILED, "", exit_code=-9), ray(FAILED, "it broke", exit_code=1), ray(RayState.RUNNING)):
        assert outages(act(job(JobState.RUNNING), attempt(RUNNING, lease_left=-3.0), seen)) == [False]
    assert outages(act(job(JobState.STARTING), attempt(STARTING), ray(FAILED))) == [False]


def woken(an_attempt: Attempt, seen: RayJob | Silence | None, *, ago: float) -> tuple[Action, ...]:
    return decide(
        job(JobState.RUNNING), an_attempt, seen, now=NOW, cancelling_for=0.0, limits=LIMITS, woke=NOW - ago
    )  # fmt: skip


@pytest.mark.parametrize("seen", [None, SILENT, ray(RayState.RUNNING)])
def test_fault_13a_after_a_suspension_leases_may_be_renewed_before_anybody_is_lost(
    seen: RayJob | Silence | None,
) -> None:
    slept = attempt(RUNNING, lease_left=-3600.0)
    assert woken(slept, seen, ago=1.0) == ()
    assert outages(woken(slept, seen, ago=LIMITS.waking + 1)) == [True]  # it did not wake up: not its fault either
    assert woken(attempt(RUNNING, lease_left=15.0), ray(RayState.RUNNING), ago=1.0) == ()
    assert outages(woken(attempt(RUNNING, lease_left=-3.0), ray(RayState.RUNNING), ago=3600.0)) == [False]


def test_fault_13a_a_runner_has_its_time_to_claim_again_after_a_suspension() -> None:
    late = attempt(STARTING, submitted=3600.0)
    assert woken(late, ray(RayState.RUNNING), ago=1.0) == ()
    assert kinds(woken(late, ray(RayState.RUNNING), ago=LIMITS.claim + 1)) == (Lost, Stop)
