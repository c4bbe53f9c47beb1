"""The dispatcher: makes Ray do what SQL says. A level-triggered reconciler.

Every tick it looks at everything afresh: the cluster's nodes, the queue, the open attempts, Ray's jobs. It remembers
nothing that it needs (`service.dispatch.decisions` is a pure function of what it sees), so it may be killed at any
point and started again, and several may share one database. What waits on MLflow or S3 is done beside it
(`service.dispatch.housekeeping`) and never holds up a tick.
"""

from __future__ import annotations

import logging
import os
import signal
import threading
import time
from collections.abc import Callable, Mapping
from functools import partial
from typing import NoReturn

from pydantic import SecretStr

from service import auth
from service.attempt.assignment import HANDED_ON, AttemptAccess
from service.code import path
from service.code.reference import VARIABLE, CodeRef
from service.code.shelf import Shelf
from service.code.wheel import Wheel
from service.dispatch.decisions import SILENT, Action, EndCancelled, Limits, Lost, Silence, Stop, Submit, decide
from service.dispatch.drain_notices import DrainNotices
from service.dispatch.housekeeping import ATTEMPT_TAG, JOB_TAG, Housekeeper
from service.dispatch.machines import Machines, Notices
from service.dispatch.measured import Measured
from service.dispatch.ray_jobs import RayCluster, RayJob
from service.dispatch.waking import Waking
from service.errors import FencedError, NotFoundError, UntrustedError, UsageError, VaesvcError
from service.notify import deliver
from service.queue.expecting import LOOK_SECONDS
from service.queue.jobs import Attempt, Capacity, Job, JobState
from service.queue.store import Store
from service.retry import Patience
from service.settings import Settings

log = logging.getLogger("vaesvc.dispatcher")

ENTRY_POINT = "python -P -m service.attempt.runner"  # -P: whatever lies in the folder that Ray was started in
_LOOK_SECONDS = 3.0  # between two looks at the cluster's nodes
_OBSERVE_SECONDS = 10.0  # an unchanged cluster is written down this often
_EXIT_SECONDS = 1.5
_FETCH_SECONDS = 5.0


class Dispatcher:
    """One tick at a time. `access`: the way to the API, and the token, for an attempt's own processes. `notices`: of
    nodes that are being drained."""

    def __init__(
        self,
        store: Store,
        ray: RayCluster,
        access: Callable[[Attempt], AttemptAccess],
        *,
        limits: Limits,
        shelf: Shelf,
        notices: Notices,
        environment: Mapping[str, str] | None = None,
        entry_point: str = ENTRY_POINT,
        poll_seconds: float = 1.0,
    ) -> None:
        self._store = store
        self._ray = ray
        self._access = access
        self._shelf = shelf
        self._machines = Machines(ray, notices)
        self._limits = limits
        self._environment = dict(environment or {})
        self._entry_point = entry_point
        self._database_patience = Patience("the database", log)
        self._ray_patience = Patience("Ray", log)
        self._waking = Waking(poll_seconds)
        self._measured = Measured(store.figures.measure)
        self._observed: tuple[Capacity, bool] | None = None
        self._observed_at = 0.0
        self._next_look = 0.0
        self._next_drains = 0.0
        self._next_nodes = 0.0
        self._drained = False  # a node was, when the nodes were last written down
        self._next_expected = 0.0
        self._cancelling: dict[tuple[str, int], float] = {}  # when it was first seen; losing it only prolongs a grace

    def tick(self) -> None:
        """Look at everything once and act. Raises nothing that a later tick could mend."""
        if lost := self._waking.tick():
            log.warning("this machine was suspended for %.0f s: leases that ended meanwhile may still be renewed", lost)
        self._look()
        self._waking.rest()

    def _look(self) -> None:
        if not self._database_patience.due:
            return
        with self._database_patience.attempt():
            self._observe()
            self._limit()
            if self._ray_patience.ok:
                with self._measured.plan():
                    admitted = self._store.admit()
                for attempt in admitted:
                    log.info("admitted %s", attempt.submission_id)
                for said in self._store.room.look():
                    log.info(said)
                self._leave_draining()
            self._reconcile()
            if self._ray_patience.ok:
                self._expect()

    def _expect(self) -> None:
        """Write down, now and then, when what waits is expected to start."""
        if time.monotonic() >= self._next_expected:
            self._next_expected = time.monotonic() + LOOK_SECONDS
            if measured := self._store.expected.look():
                self._store.figures.measure(measured)

    def _limit(self) -> None:
        """End what has taken as long as it may, or hangs. Not while processes of a machine that was suspended come
        back."""
        woke = self._waking.woke
        if woke is not None and time.time() < woke + self._limits.waking:
            return
        nodes_of = self._machines.of if self._ray_patience.ok else (lambda name: frozenset[str]())
        for said in self._store.limits.look(nodes_of):
            log.warning(said)

    def _leave_draining(self) -> None:
        """Ask attempts on nodes that are being drained to give way, and admit nothing to these (`_observe`)."""
        if not self._machines.draining or time.monotonic() < self._next_drains:
            return
        self._next_drains = time.monotonic() + _LOOK_SECONDS
        staying = {
            attempt.submission_id: attempt
            for _, attempt in self._store.open_attempts()
            if attempt.stop_until is None  # else it gives way already
        }
        with self._ray_patience.attempt():
            for name, nodes in self._machines.drained(staying).items():
                attempt = staying[name]
                grace = self._limits.preempt_grace
                if said := self._store.drains.ask(attempt.job_id, attempt.number, nodes, grace=grace):
                    log.info(said)

    def _observe(self) -> None:
        """Note in SQL what the cluster has. While Ray is silent, only that."""
        if not self._ray_patience.due or (self._ray_patience.ok and time.monotonic() < self._next_look):
            return
        self._next_look = time.monotonic() + _LOOK_SECONDS
        capacity = Capacity()
        orders = self._store.nodes.drained()
        with self._ray_patience.attempt():
            capacity = self._machines.look(orders)
        seen = (capacity, self._ray_patience.ok)
        if seen != self._observed or time.monotonic() - self._observed_at >= _OBSERVE_SECONDS:
            self._store.observe_cluster(capacity, address=self._ray.address, ok=self._ray_patience.ok)
            self._observed, self._observed_at = seen, time.monotonic()
        if self._ray_patience.ok:
            self._observe_nodes()

    def _observe_nodes(self) -> None:
        """Note in SQL which nodes there are and what runs where: often where one is drained, which somebody may wait
        for."""
        if time.monotonic() < self._next_nodes and not self._machines.draining and not self._drained:
            return
        self._next_nodes = time.monotonic() + _OBSERVE_SECONDS
        self._drained = self._machines.draining
        try:
            nodes = self._machines.seen()
        except VaesvcError as error:
            log.warning("what runs on which node is not known: %s", error)
            return
        self._store.nodes.observe(nodes)

    def _reconcile(self) -> None:
        """Compare SQL first, Ray second: what is submitted in the first and missing in the second was forgotten by
        Ray."""
        attempts = self._store.open_attempts()
        self._note_cancelling(attempts)
        if not attempts:
            return
        jobs: dict[str, RayJob] | None = None
        if self._ray_patience.ok:
            with self._ray_patience.attempt():
                jobs = self._ray.jobs()
        for job, attempt in attempts:
            ray: RayJob | Silence | None = SILENT if jobs is None else jobs.get(attempt.submission_id)
            since = self._cancelling.get((job.id, attempt.number))
            waited = 0.0 if since is None else time.monotonic() - since
            actions = decide(
                job, attempt, ray, now=time.time(), cancelling_for=waited, limits=self._limits, woke=self._waking.woke
            )
            for action in actions:
                self._act(action, job, attempt)

    def _note_cancelling(self, attempts: list[tuple[Job, Attempt]]) -> None:
        now = time.monotonic()
        open_now = {(job.id, attempt.number) for job, attempt in attempts if job.state is JobState.CANCELLING}
        self._cancelling = {key: self._cancelling.get(key, now) for key in open_now}

    def _act(self, action: Action, job: Job, attempt: Attempt) -> None:
        """Act on one attempt: its trouble must not hold up the others."""
        name = attempt.submission_id
        try:
            match action:
                case Submit():
                    self._submit(job, attempt)
                case Stop():
                    self._ray.stop(name)
                case Lost(reason, retryable, outage):
                    after = self._store.attempt_lost(job.id, attempt.number, reason, retryable=retryable, outage=outage)
                    if after is not None:
                        log.warning("%s is lost: %s; the job is %s", name, reason, after.state)
                case EndCancelled():
                    if self._store.cancel_finished(job.id, attempt.number) is not None:
                        log.info("%s is cancelled", name)
        except FencedError as error:
            log.info("%s: %s", name, error)
        except VaesvcError as error:
            log.warning("%s: %s not done: %s", name, type(action).__name__, error)

    def _submit(self, job: Job, attempt: Attempt) -> None:
        name = attempt.submission_id
        env = self._environment | self._access(attempt).environment()
        packages: dict[str, bytes] = {}
        if (code := job.spec.get("code")) is not None:
            try:
                package = self._shelf.take(CodeRef.model_validate(code))
            except (NotFoundError, UntrustedError) as error:
                self._store.attempt_lost(job.id, attempt.number, str(error), retryable=False)
                return
            if package is None:  # on its way: at the next tick
                return
            packages = {path.folder_name(package.digest): package.data}
            env |= {VARIABLE: package.digest}
        tags = {JOB_TAG: attempt.job_id, ATTEMPT_TAG: str(attempt.number)}
        self._ray.submit(name, self._entry_point, env=env, metadata=tags, packages=packages)
        self._store.mark_submitted(attempt.job_id, attempt.number)
        log.info("submitted %s", name)


def attempt_access(settings: Settings, secret: bytes) -> Callable[[Attempt], AttemptAccess]:
    """Return a function that gives an attempt its access, with the same token at every call: a dispatcher that was
    killed submits as it would have."""
    api_url = settings.cluster_api_url or settings.api_url
    if api_url is None:
        raise UsageError("attempts need the API's address: set VAESVC_API_URL, or VAESVC_CLUSTER_API_URL where the Ray "
                         "cluster reaches it under another one")  # fmt: skip

    def access(attempt: Attempt) -> AttemptAccess:
        token = auth.attempt_token(secret, attempt.job_id, attempt.number)
        return AttemptAccess(api_url=api_url, job_id=attempt.job_id, number=attempt.number, token=SecretStr(token))

    return access


def main(settings: Settings) -> NoReturn:
    """Run the dispatcher until SIGTERM or SIGINT."""
    if settings.ray_address is None:
        raise UsageError(
            "the dispatcher needs a Ray cluster: set VAESVC_RAY_ADDRESS to its dashboard, http://HOST:8265"
        )
    signal.signal(signal.SIGTERM, _leave)
    signal.signal(signal.SIGINT, _leave)
    secret = auth.read_secret(settings.secret_file)
    access = attempt_access(settings, secret)
    ray = RayCluster(settings.ray_address, settings.ray_token())
    store = _open_store(settings)
    limits = Limits(cancel_grace=settings.cancel_grace_seconds, preempt_grace=settings.preempt_grace_seconds)
    environment = {name: os.environ[name] for name in HANDED_ON if os.environ.get(name)}
    dispatcher = Dispatcher(
        store,
        ray,
        access,
        limits=limits,
        shelf=Shelf(partial(_fetch, settings)),
        notices=DrainNotices(settings.gcs_address(), settings.ray_token_file),
        environment=environment,
        poll_seconds=settings.poll_seconds,
    )
    housekeeper = Housekeeper(store, ray, settings)
    threading.Thread(target=housekeeper.run, name="housekeeping", daemon=True).start()
    deliver.start(store, settings, secret)
    log.info(
        "dispatching to Ray at %s, attempts report to %s", ray.address, settings.cluster_api_url or settings.api_url
    )
    while True:
        try:
            dispatcher.tick()
        except Exception:
            log.exception("dispatching goes on after an error of its own")
        time.sleep(settings.poll_seconds)


def _fetch(settings: Settings, code: CodeRef) -> Wheel:
    """Fetch a job's own package from the bucket."""
    from service.artifacts import Artifacts
    from service.code import storage

    return storage.fetch(Artifacts(settings.storage(), patience_seconds=_FETCH_SECONDS), code, settings.code_bytes)


def _open_store(settings: Settings) -> Store:
    grace = settings.preempt_grace_seconds if settings.preemption else None
    store = Store(
        settings.database_url,
        lease_seconds=settings.lease_seconds,
        preempt_grace_seconds=grace,
        grow_seconds=settings.grow_seconds,
    )
    patience = Patience("the database", log)
    while True:
        with patience.attempt():
            store.migrate()
        if patience.ok:
            return store
        time.sleep(settings.poll_seconds)


def _leave(*_: object) -> NoReturn:
    """Exit at any point: the next dispatcher repeats whatever was half done. Ends even if a call hangs."""
    timer = threading.Timer(_EXIT_SECONDS, os._exit, (0,))
    timer.daemon = True
    timer.start()
    raise SystemExit(0)
