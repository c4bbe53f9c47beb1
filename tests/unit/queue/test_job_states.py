"""The table of transitions, and ids."""

from __future__ import annotations

import re
import time

import pytest

from service.errors import ConflictError
from service.queue.ids import ID_PATTERN, new_job_id
from service.queue.jobs import TRANSITIONS, JobState, Trigger, next_state


def test_only_a_retry_or_an_extension_leaves_a_final_state() -> None:
    for (source, trigger), target in TRANSITIONS.items():
        if source.final and target is not source:
            assert trigger is Trigger.EXTEND or (trigger is Trigger.RETRY and source is not JobState.SUCCEEDED)


def test_cancel_wins_from_every_state_that_is_not_over() -> None:
    for state in JobState:
        if state.final:
            continue
        asked = next_state(state, Trigger.CANCEL)
        ways_on = {target for (source, _), target in TRANSITIONS.items() if source is asked}
        assert asked is JobState.CANCELLED or ways_on <= {JobState.CANCELLING, JobState.CANCELLED}


def test_every_state_can_be_reached_and_ended() -> None:
    def reach(start: JobState, edges: set[tuple[JobState, JobState]]) -> set[JobState]:
        seen, todo = {start}, [start]
        while todo:
            here = todo.pop()
            new = {b for a, b in edges if a is here} - seen
            seen |= new
            todo += new
        return seen

    edges = {(source, target) for (source, _), target in TRANSITIONS.items()}
    assert reach(JobState.QUEUED, edges) == set(JobState)
    assert all(any(s.final for s in reach(state, edges)) for state in JobState)


def test_what_is_not_in_the_table_is_refused_and_says_what_is() -> None:
    with pytest.raises(ConflictError, match="cannot retry a job that is RUNNING; allowed when it is CANCELLED, FAILED"):
        next_state(JobState.RUNNING, Trigger.RETRY)


def test_ids_sort_by_time_and_are_fit_for_names() -> None:
    start = time.time()
    ids = [new_job_id(start + 0.0001 * i) for i in range(0, 100_000, 37)]
    assert ids == sorted(ids)
    assert len(set(ids)) == len(ids)
    assert all(re.fullmatch(ID_PATTERN, found) for found in ids)
    assert new_job_id(2**45 / 10_000 - 1) > ids[-1]  # until 2081
    assert len({new_job_id(start) for _ in range(50)}) > 40
