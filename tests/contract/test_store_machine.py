"""The store against a model of it: random walks through everything users, dispatchers and runners may do."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, ClassVar

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from service.errors import ConflictError, FencedError
from service.queue.jobs import JobState
from service.queue.store import Store
from tests.contract.queue_checks import (
    check_database,
    checkpoint,
    cluster,
    end_backoff,
    expire_lease,
    finish,
    spec,
    sql,
)

CPUS = 2
BUDGET = 3


@dataclass
class Model:
    """What we believe of one job. `runner` is who holds the newest attempt; `open`: that attempt is not over."""

    place: int
    state: str = "QUEUED"
    number: int = 0
    failures: int = 0
    open: bool = False
    runner: str | None = None
    leased: bool = False
    last_words: dict[int, tuple[str, str]] = field(default_factory=dict)  # number -> runner, outcome
    steps: list[tuple[int, int]] = field(default_factory=list)

    def over(self, state: str) -> None:
        self.open, self.leased, self.state = False, False, state

    def fail(self, retryable: bool) -> None:
        if self.state == "CANCELLING":
            self.over("CANCELLED")
            return
        self.failures += 1
        self.over("QUEUED" if retryable and self.failures < BUDGET else "FAILED")


class Walk(RuleBasedStateMachine):
    url: ClassVar[str]

    store: ClassVar[Store]

    @initialize()
    def begin(self) -> None:
        """An empty queue: the walks share a database, and so the guard of the event log has to let go for a moment."""
        if self.url.startswith("sqlite"):
            sql(self.url, "DROP TRIGGER IF EXISTS vaesvc_events_no_delete")
        else:
            sql(self.url, "ALTER TABLE vaesvc_events DISABLE TRIGGER USER")
        for table in ("vaesvc_events", "vaesvc_checkpoints", "vaesvc_attempts", "vaesvc_jobs"):
            sql(self.url, f"DELETE FROM {table}")
        self.store.observe_cluster(cluster(CPUS), address="ray", ok=True)
        self.models: dict[str, Model] = {}

    def teardown(self) -> None:
        check_database(self.url, cpus=CPUS)

    def pick(self, data: Any, wanted: Callable[[Model], bool] = lambda model: True) -> tuple[str, Model]:
        """A job; three times out of four one for which `wanted` holds: most walks should get somewhere."""
        choosy = data.draw(st.integers(0, 3)) > 0
        fit = [job_id for job_id, model in self.models.items() if wanted(model) and choosy]
        job_id = data.draw(st.sampled_from(sorted(fit or self.models)))
        return job_id, self.models[job_id]

    def number(self, data: Any, model: Model) -> int:
        found = data.draw(st.sampled_from([model.number] * 4 + [max(1, model.number - 1), model.number + 1]))
        return int(found)

    def alive(self, model: Model, number: int, runner: str | None) -> bool:
        claimed = model.open and number == model.number and model.runner is not None
        return claimed and runner in (None, model.runner)

    @rule()
    def submit(self) -> None:
        if len(self.models) < 4:
            job = self.store.submit(spec(), owner="me")
            self.models[job.id] = Model(place=len(self.models))

    @rule()
    def admit(self) -> None:
        room = CPUS - sum(model.open for model in self.models.values())
        line = [job_id for job_id, model in sorted(self.models.items()) if model.state == "QUEUED"][:room]
        for job_id in line:
            end_backoff(self.url, job_id)
        admitted = self.store.admit()
        assert [a.job_id for a in admitted] == line
        for attempt in admitted:
            model = self.models[attempt.job_id]
            model.number += 1
            assert attempt.number == model.number
            model.state, model.open, model.runner, model.leased = "STARTING", True, None, False

    @precondition(lambda self: self.models)
    @rule(data=st.data(), runner=st.sampled_from(["a", "a", "b"]))
    def claim(self, data: Any, runner: str) -> None:
        job_id, model = self.pick(data, lambda model: model.open and model.runner is None)
        number = self.number(data, model)
        may = model.open and number == model.number
        may = may and (model.runner == runner or (model.runner is None and model.state == "STARTING"))
        if not may:
            with pytest.raises(FencedError):
                self.store.claim(job_id, number, runner)
            return
        _, resume = self.store.claim(job_id, number, runner)
        newest = sorted(model.steps)[-1:]
        assert [(c.attempt, c.step) for c in resume[:1]] == newest
        model.runner, model.leased = runner, True
        if model.state == "STARTING":
            model.state = "RUNNING"

    @precondition(lambda self: self.models)
    @rule(data=st.data(), runner=st.sampled_from(["a", "a", "b"]))
    def heartbeat(self, data: Any, runner: str) -> None:
        job_id, model = self.pick(data, lambda model: model.open and model.runner is not None)
        number = self.number(data, model)
        if not self.alive(model, number, runner):
            with pytest.raises(FencedError):
                self.store.heartbeat(job_id, number, runner)
            return
        assert self.store.heartbeat(job_id, number, runner).cancel == (model.state == "CANCELLING")
        model.leased = True

    @precondition(lambda self: self.models)
    @rule(data=st.data(), step=st.integers(1, 9))
    def commit(self, data: Any, step: int) -> None:
        job_id, model = self.pick(data, lambda model: model.open and model.runner is not None)
        number = self.number(data, model)
        if not self.alive(model, number, None):
            with pytest.raises(FencedError):
                self.store.commit_checkpoint(job_id, number, checkpoint(number, step))
            return
        reply = self.store.commit_checkpoint(job_id, number, checkpoint(number, step))
        if (number, step) not in model.steps:
            model.steps.append((number, step))
        assert (reply.kept[0].attempt, reply.kept[0].step) == max(model.steps)
        assert len(reply.kept) == min(len(model.steps), 2)

    @precondition(lambda self: self.models)
    @rule(
        data=st.data(),
        runner=st.sampled_from(["a", "a", "b"]),
        outcome=st.sampled_from(["succeeded", "failed", "cancelled"]),
        retryable=st.booleans(),
    )
    def finish(self, data: Any, runner: str, outcome: str, retryable: bool) -> None:
        job_id, model = self.pick(data, lambda model: model.open and model.runner is not None)
        number = self.number(data, model)
        request = finish(outcome, runner=runner, retryable=retryable)
        said = model.last_words.get(number)
        if said is not None and said[0] == runner and not (model.open and number == model.number):
            if said[1] == outcome:
                assert self.store.finish(job_id, number, request).state == model.state
            else:
                with pytest.raises(ConflictError):
                    self.store.finish(job_id, number, request)
            return
        if not self.alive(model, number, runner):
            with pytest.raises(FencedError):
                self.store.finish(job_id, number, request)
            return
        model.last_words[number] = (runner, outcome)
        if model.state == "CANCELLING":
            model.over("CANCELLED")
        elif outcome == "succeeded":
            model.over("SUCCEEDED")
        else:
            model.fail(retryable)
        assert self.store.finish(job_id, number, request).state == model.state

    @precondition(lambda self: self.models)
    @rule(data=st.data())
    def lease_ends(self, data: Any) -> None:
        job_id, model = self.pick(data, lambda model: model.leased)
        expire_lease(self.url, job_id)
        model.leased = False

    @precondition(lambda self: self.models)
    @rule(data=st.data(), retryable=st.booleans())
    def lost(self, data: Any, retryable: bool) -> None:
        job_id, model = self.pick(data, lambda model: model.open and not model.leased)
        number = self.number(data, model)
        if not 1 <= number <= model.number:
            with pytest.raises(FencedError):
                self.store.attempt_lost(job_id, number, "gone", retryable=retryable)
            return
        found = self.store.attempt_lost(job_id, number, "gone", retryable=retryable)
        if model.open and number == model.number:
            if model.leased:
                assert found is None
                return
            model.fail(retryable)
        assert found is not None
        assert found.state == model.state

    @precondition(lambda self: self.models)
    @rule(data=st.data())
    def cancel(self, data: Any) -> None:
        job_id, model = self.pick(data, lambda model: not JobState(model.state).final)
        if model.state in ("SUCCEEDED", "FAILED"):
            with pytest.raises(ConflictError):
                self.store.cancel(job_id, by="me")
            return
        model.state = "CANCELLING" if model.open else "CANCELLED"
        assert self.store.cancel(job_id, by="me").state == model.state

    @precondition(lambda self: self.models)
    @rule(data=st.data())
    def cancel_finished(self, data: Any) -> None:
        job_id, model = self.pick(data, lambda model: model.state == "CANCELLING" and not model.leased)
        if model.number == 0:
            return
        found = self.store.cancel_finished(job_id, model.number)
        if model.open and (model.leased or model.state != "CANCELLING"):
            assert found is None
            return
        if model.open:
            model.over("CANCELLED")
        assert found is not None

    @precondition(lambda self: self.models)
    @rule(data=st.data())
    def retry(self, data: Any) -> None:
        job_id, model = self.pick(data, lambda model: model.state in ("FAILED", "CANCELLED"))
        if model.state not in ("FAILED", "CANCELLED"):
            with pytest.raises(ConflictError):
                self.store.retry(job_id, by="me")
            return
        model.state, model.failures = "QUEUED", 0
        assert self.store.retry(job_id, by="me").state is JobState.QUEUED

    @invariant()
    def same_story(self) -> None:
        if not hasattr(self, "models"):
            return
        line = sorted(job_id for job_id, model in self.models.items() if model.state == "QUEUED")
        found = {job.id: job for job in self.store.jobs()}
        assert set(found) == set(self.models)
        for job_id, model in self.models.items():
            job = found[job_id]
            assert (job.state.value, job.attempt, job.failures) == (model.state, model.number, model.failures)
            assert job.position == (line.index(job_id) + 1 if job_id in line else None)
            assert (job.ended_at is not None) == job.state.final


def test_the_store_does_what_the_model_says(database: str, store: Store) -> None:
    machine = type("WalkHere", (Walk,), {"url": database, "store": store})
    few = settings(max_examples=16, stateful_step_count=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])
    run_state_machine_as_test(machine, settings=few)
