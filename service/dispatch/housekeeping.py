"""What follows an attempt: its log is kept, Ray forgets it, its MLflow run is closed. Beside the dispatcher's ticks.

All of it is level-triggered and idempotent too: it looks for what is not as it should be, and mends that.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from service import areas, auth, gc
from service.attempt.assignment import log_uri_parts, spool_uri_parts
from service.attempt.processes import scratch
from service.dispatch.ray_jobs import RayCluster, RayJob
from service.errors import ConflictError, NotFoundError, UnavailableError, UsageError, VaesvcError
from service.kinds import named, resolve, settled
from service.kinds.house import House
from service.kinds.kind import loaded
from service.model_files import BEST
from service.queue.jobs import Attempt, Job, JobState
from service.queue.store import Store
from service.retry import Patience
from service.settings import Settings
from service.signing import read_key

if TYPE_CHECKING:
    from service.artifacts import Artifacts
    from service.models import Models

log = logging.getLogger("vaesvc.housekeeping")

JOB_TAG = "vaesvc_job"
ATTEMPT_TAG = "vaesvc_attempt"
_TURN_SECONDS = 2.0
_RAY_TURN_SECONDS = 10.0
_MODELS_TURN_SECONDS = 10.0
_DATA_TURN_SECONDS = 600.0
_LEFT_OVER_SECONDS = 20.0  # an attempt's Ray job may take this long to end after the attempt
_FORGET_SECONDS = 300.0  # after its end, Ray's own view of an attempt is kept this long
_SPOOL_SECONDS = 30.0  # to deliver one; what is left is tried again
_LOG_BYTES = 8 * 2**20


class Housekeeper:
    def __init__(self, store: Store, ray: RayCluster, settings: Settings) -> None:
        self._store = store
        self._ray = ray
        self._settings = settings
        self._ray_patience = Patience("Ray (housekeeping)", log)
        self._queue_patience = Patience("storage (what follows jobs)", log)
        self._mlflow_patience = Patience("MLflow or storage", log)
        self._storage_patience = Patience("storage (data sets, packages)", log)
        self._next_ray = 0.0
        self._next_data = 0.0
        self._next_models = 0.0
        self._followed: set[tuple[str, int]] = set()  # jobs, with their last attempt, whose `then` is submitted
        self._broken: set[str] = set()  # jobs that ran into a bug of ours: the next dispatcher tries them again
        self._kept: dict[str, float] = {}  # submission ids whose log needs no more looks: when Ray may forget them

    @cached_property
    def _spools(self) -> Path:
        """Return a folder for this process: a delivery that was given up may still look into its file for a moment."""
        return scratch("spools")

    @cached_property
    def _mlflow_uri(self) -> str | None:
        from service.tracking import login

        return login.for_service(self._settings, auth.read_secret(self._settings.secret_file))

    @property
    def _artifacts(self) -> Artifacts:
        from service.artifacts import Artifacts

        return Artifacts(self._settings.storage(), patience_seconds=5.0)

    @property
    def _house(self) -> House:
        """Return what the service has: the dispatcher acts for it and sees everything."""
        return House(store=self._store, artifacts=self._artifacts, models=self._models, sees=lambda job_id: True)

    def run(self) -> None:
        """Keep house until the process ends."""
        while True:
            try:
                self.turn()
            except Exception:
                log.exception("housekeeping goes on after an error of its own")
            time.sleep(_TURN_SECONDS)

    def turn(self) -> None:
        if self._queue_patience.due:
            with self._queue_patience.attempt():
                for job in self._store.untracked():
                    if not self._is_followed(job):
                        self._follow_on(job)
        if self._mlflow_patience.due:
            with self._mlflow_patience.attempt():
                for job in self._store.untracked():
                    if job.id not in self._broken and self._is_followed(job):
                        self._close(job)
            if self._mlflow_patience.ok and time.monotonic() >= self._next_models:
                self._next_models = time.monotonic() + _MODELS_TURN_SECONDS
                with self._mlflow_patience.attempt():
                    self._keep_models()
        if self._storage_patience.due and time.monotonic() >= self._next_data:
            self._next_data = time.monotonic() + _DATA_TURN_SECONDS
            with self._storage_patience.attempt():
                gc.turn(self._store, self._artifacts, self._settings)
        if self._ray_patience.due and time.monotonic() >= self._next_ray:
            self._next_ray = time.monotonic() + _RAY_TURN_SECONDS
            with self._ray_patience.attempt():
                for ray_job in self._ray.jobs().values():
                    self._tidy(ray_job)

    # --- Ray --------------------------------------------------------------------------------------------------------

    def _tidy(self, ray_job: RayJob) -> None:
        """Stop one of our jobs in Ray whose attempt is over, keep its log, forget it in the end."""
        name = ray_job.submission_id
        if name in self._kept:
            if time.monotonic() > self._kept[name]:
                self._ray.delete(name)
                del self._kept[name]
            return
        attempt = self._attempt_of(ray_job)
        if attempt is None or attempt.state.open or attempt.ended_at is None:
            return
        if not ray_job.state.over:
            if time.time() - attempt.ended_at > _LEFT_OVER_SECONDS:
                self._ray.stop(name)
            return
        self._keep_log(attempt)
        self._kept[name] = time.monotonic() + _FORGET_SECONDS

    def _attempt_of(self, ray_job: RayJob) -> Attempt | None:
        """Return the attempt; None for a job that is not ours: a cluster may have other users, other services among
        them."""
        job_id, number = ray_job.metadata.get(JOB_TAG), ray_job.metadata.get(ATTEMPT_TAG)
        if job_id is None or number is None:
            return None
        try:
            detail = self._store.detail(job_id)
        except NotFoundError:
            return None
        return next((attempt for attempt in detail.attempts if str(attempt.number) == number), None)

    def _keep_log(self, attempt: Attempt) -> None:
        """Keep Ray's log where it has more: the runner ships its own, unless it was killed."""
        if attempt.log_uri is not None:
            return
        artifacts = self._artifacts
        uri = artifacts.uri(*log_uri_parts(attempt.job_id, attempt.number))
        text = self._ray.log(attempt.submission_id).encode()[-_LOG_BYTES:]
        stored = next((entry.bytes for entry in artifacts.list(uri) if entry.uri == uri), None)
        if text and (stored is None or len(text) > stored):
            artifacts.put_bytes(uri, text, "text/plain; charset=utf-8")
            stored = len(text)
        if stored is not None:
            self._store.set_log(attempt.job_id, attempt.number, uri)

    # --- what follows a job -----------------------------------------------------------------------------------------

    def _is_followed(self, job: Job) -> bool:
        wanted = job.state is JobState.SUCCEEDED and job.spec.get("then")
        return not wanted or (job.id, job.attempt) in self._followed

    def _follow_on(self, job: Job) -> None:
        """Submit what a job that has succeeded names in `then`, once: until it is done the job counts as untracked, and
        done again it gives the same jobs, by their keys."""
        for place, given in enumerate(job.spec["then"]):
            try:
                self._submit_next(job, place, given)
            except UnavailableError:
                raise  # again later
            except VaesvcError as error:
                log.warning("job %s is not followed by %s: %s", job.id, given["kind"], error)
                self._store.not_followed(job.id, str(given["kind"]), str(error))
            except Exception as error:
                log.exception("job %s could not be followed by %s", job.id, given["kind"])
                self._store.not_followed(job.id, str(given["kind"]), f"an error of the service: {type(error).__name__}")
        self._followed.add((job.id, job.attempt))

    def _submit_next(self, job: Job, place: int, given: Mapping[str, Any]) -> None:
        follows = named(str(given["kind"])).follows
        if follows is None:
            raise UsageError(f"no job of kind {given['kind']} can follow another")
        for number, each in enumerate(loaded(follows.specs)(job, given, self._house)):
            key = f"{job.id}/{job.attempt}/then/{place}/{number}"
            try:
                following = self._store.submit(
                    settled(resolve(each), self._house), owner=job.owner, key=key, after=job.id
                )
                log.info("job %s is followed by %s, %s", job.id, following.id, following.name)
            except ConflictError:  # submitted before, by a version that wrote its spec in other words
                log.info("job %s is followed already: %s", job.id, key)

    # --- MLflow -----------------------------------------------------------------------------------------------------

    def _close(self, job: Job) -> None:
        """Register the model of a job that is over, and bring MLflow to its state. What cannot be done is left."""
        uri = self._mlflow_uri
        try:
            self._register(uri, job)
            if uri is not None:
                self._deliver(uri, job)
                if (follow := named(job.kind).follow) is not None:
                    loaded(follow)(uri, job, self._house, self._spools)
                self._end_run(uri, job)
        except UnavailableError:
            raise  # again later, and the other jobs too
        except VaesvcError as error:
            log.warning("what follows job %s is not complete: %s", job.id, error)
        except Exception:
            log.exception("what follows job %s could not be done", job.id)
            self._broken.add(job.id)
            return
        self._store.tracked(job.id)

    def _end_run(self, uri: str, job: Job) -> None:
        from service import tracking

        tracking.end_run(uri, job, job.state)

    def _deliver(self, uri: str, job: Job) -> None:
        """Deliver points that MLflow did not take while their attempt lived."""
        from service import tracking
        from service.tracking.runs import find_run

        artifacts = self._artifacts
        spools = artifacts.list(artifacts.uri(*spool_uri_parts(job.id)))
        run_id = find_run(uri, job) if spools else None  # the job's own, whichever the attempt named
        if run_id is None:
            return
        for spool in spools:
            path = self._spools / f"{job.id}-{spool.uri.rpartition('/')[2]}"
            path.write_bytes(artifacts.get_bytes(spool.uri))
            tracking.send_spool(uri, run_id, path, _SPOOL_SECONDS)
            artifacts.delete_prefix(spool.uri)

    # --- models -----------------------------------------------------------------------------------------------------

    @property
    def _models(self) -> Models:
        from service.models import Models

        return Models(store=self._store, artifacts=self._artifacts, key=read_key(self._settings.signing_key_file))

    def _register(self, uri: str | None, job: Job) -> None:
        """Register the model of a job whose driver did not finish: stored, signed and shown, as far as it is not."""
        from service.attempt.best import choose

        if job.state is not JobState.SUCCEEDED or self._is_registered(uri, job):
            return
        try:
            choice = choose(job, job.result, lambda: self._store.checkpoints(job.id))
            if choice is not None:
                models = self._models
                areas.check_checkpoint(models.artifacts, job.id, choice.checkpoint)
                choice.register(uri, models.artifacts, lambda number: models.sign(job, job.result, number))
        except UnavailableError:
            raise
        except (VaesvcError, KeyError, TypeError, ValueError) as error:
            log.warning("the model of job %s is not registered: %s", job.id, error)

    def _is_registered(self, uri: str | None, job: Job) -> bool:
        known = self._store.model_version(job.id)
        return "model" in job.result and known is not None and (uri is None or known.mlflow_version is not None)

    def _keep_models(self) -> None:
        """Sign models with the current key, and put MLflow's alias `best` where the service's best is."""
        from service import registry

        models, uri = self._models, self._mlflow_uri
        for row in models.unsigned():
            try:
                envelope = models.sign_again(row).envelope
                log.info("signed %s version %d again, with the key of now", row.name, row.version)
                if uri is not None and row.mlflow_version is not None:
                    registry.show(uri, row.name, str(row.mlflow_version), str(row.version), envelope)
            except UnavailableError:
                raise
            except (VaesvcError, ValueError) as error:
                log.warning("%s version %d is not signed again: %s", row.name, row.version, error)
        if uri is not None:
            for best in registry.put_back(uri, models.versions()):
                log.warning("MLflow's alias %s@%s was not on the service's best: put back", best.name, BEST)
