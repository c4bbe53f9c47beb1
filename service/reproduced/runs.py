"""Runs of reproductions as jobs: trained and evaluated through the queue, and collected from it.

Every job is submitted with a key made of its spec, so the same command submits nothing twice: it finds its jobs again.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from service import kinds
from service.errors import ConflictError, NotFoundError, UsageError, VaesvcError
from service.queue.jobs import JobState, spec_sha256
from service.report.job import evaluated
from service.tracking.reports import has_ended, histories
from tuning.local import StudyProgress
from tuning.reproductions.entry import Choice
from tuning.reproductions.readings import History, Trained
from tuning.reproductions.training import Interrupted, NotTrained, named
from tuning.space import Assignment
from vae_models.config.train import TrainConfig
from vae_models.evaluation.specs import EvaluationPlan
from vae_models.records import Progress

if TYPE_CHECKING:
    from service.client import Client
    from service.code.reference import CodeRef
    from service.queue.jobs import Job
    from service.wire import JobDetail
    from vae_models.evaluation.findings import Picture

POLL_SECONDS = 2.0
LOGGED_SECONDS = 300.0  # that MLflow is waited for, whose run follows the job's end
KEY = "reproduce"
REFUSED = (UsageError, ConflictError, NotFoundError)  # one spec; what is wrong with the service ends the whole


@dataclass(kw_only=True)
class JobRuns:
    """Trains and evaluates configurations as jobs (`tuning.reproductions.training.Runs`).

    All trainings are submitted at once, each evaluation, of the last checkpoint, when its training has ended. Whatever
    the caller does meanwhile, jobs go on: stopped, and called again, it takes them up.

    mlflow_uri: where metrics over training are read, with the user's login; workers: of every job, None: the kind's
    default; code: the user's own package, which the service has already; show: is told of the progress of the run that
    is waited for.
    """

    client: Client
    mlflow_uri: str | None
    stop: Callable[[], bool] = lambda: False
    say: Callable[[str], None] = lambda text: None
    show: Callable[[Progress], None] = lambda progress: None
    workers: int | None = None
    code: CodeRef | None = None
    _trainings: dict[str, str] = field(default_factory=dict)  # run -> job
    _refused: dict[str, str] = field(default_factory=dict)  # run, or training job whose evaluation is -> why
    _waiting: dict[str, EvaluationPlan] = field(default_factory=dict)  # training job -> how it is evaluated then
    _evaluations: dict[str, str] = field(default_factory=dict)  # training job -> job

    def choose(self, choice: Choice, show: Callable[[StudyProgress], None]) -> Assignment | None:
        """Run the study as a job, and return what won it. Raise Interrupted and NotTrained."""
        study = {"base": choice.base.model_dump(mode="json"), "stages": [choice.stage.model_dump(mode="json")]}
        name = f"reproduction-choice-{named(choice.base)}"
        try:
            job = self._submitted({"kind": "study", "name": name, "study": study})
        except REFUSED as error:
            raise NotTrained(f"the service refuses it: {error}") from error
        self.say(f"a study that chooses: job {job.id}")
        winner = self._until_over(job.id).job.result.get("winner")
        return None if winner is None else winner["assignment"]

    def prepare(self, wanted: Sequence[tuple[TrainConfig, EvaluationPlan | None]]) -> None:
        """Submit every training; what the service refuses is told when it is asked for."""
        for config, plan in wanted:
            name = named(config)
            if name in self._trainings or name in self._refused:
                continue
            spec = {"kind": "train", "name": f"reproduction-{name}", "train": config.model_dump(mode="json")}
            try:
                job = self._submitted(spec)
            except REFUSED as error:
                self._refused[name] = str(error)
                continue
            self._trainings[name] = job.id
            if plan is not None:
                self._waiting[job.id] = plan
        jobs = sorted(self._trainings.values())
        if jobs:
            self.say(f"{len(jobs)} trainings are in the queue or done: jobs {jobs[0]} to {jobs[-1]} (vaesvc jobs)")

    def is_done(self, config: TrainConfig) -> bool:
        """Return whether its job has ended."""
        job_id = self._trainings.get(named(config))
        return job_id is None or self.client.job(job_id).job.state.final

    def trained(self, config: TrainConfig, plan: EvaluationPlan | None, measures: Sequence[str] = ()) -> Trained:
        """Return what the job and its evaluation leave, once both have ended. Raise Interrupted and NotTrained.

        Of `measures`, which are functions of a model in this process, there is nothing.
        """
        name = named(config)
        if (why := self._refused.get(name)) is not None:
            raise NotTrained(f"the service refuses it: {why}")
        detail = self._until_over(self._trainings[name])
        values, pictures = ({}, {}) if plan is None else self._found(detail.job.id)
        return Trained(
            config=config,
            folder=Path(name),
            seconds=_seconds(detail),
            steps=int(detail.job.result.get("steps", 0)),
            history=self._history(detail.job),
            values=values,
            pictures=pictures,
        )

    def _submitted(self, spec: Mapping[str, Any]) -> Job:
        """Return the job of this spec, which may have been submitted before."""
        resources = None if self.workers is None else {"workers": self.workers}
        resolved = kinds.resolve(spec, resources=resources, code=self.code)
        return self.client.submit(resolved, key=f"{KEY}-{spec_sha256(resolved.model_dump(mode='json'))}")

    def _until_over(self, job_id: str) -> JobDetail:
        """Return the job when it has succeeded; submit meanwhile what has to follow others. Raise Interrupted where one
        is asked to stop, NotTrained where the job ended otherwise.
        """
        while True:
            self._follow()
            detail = self.client.job(job_id)
            if detail.job.state.final:
                break
            if self.stop():
                raise Interrupted(f"stopped while job {job_id} goes on (vaesvc watch {job_id})")
            self.show(_progress(detail.job))
            time.sleep(POLL_SECONDS)
        if detail.job.state is not JobState.SUCCEEDED:
            why = f": {detail.job.reason}" if detail.job.reason else ""
            raise NotTrained(
                f"job {job_id} is {detail.job.state.value}{why}; vaesvc retry {job_id}, and the same command again"
            )
        return detail

    def _follow(self) -> None:
        """Submit the evaluation of each training that has succeeded since the last call."""
        for job_id, plan in list(self._waiting.items()):
            detail = self.client.job(job_id)
            if not detail.job.state.final:
                continue
            del self._waiting[job_id]
            if detail.job.state is JobState.SUCCEEDED and detail.checkpoints:
                last = max(detail.checkpoints, key=lambda checkpoint: checkpoint.step)
                spec = {"kind": "evaluate", "of": last.uri, "plan": plan.model_dump(mode="json")}
                try:
                    self._evaluations[job_id] = self._submitted(spec).id
                except REFUSED as error:
                    self._refused[job_id] = str(error)

    def _found(self, job_id: str) -> tuple[dict[str, float], dict[str, Picture]]:
        """Return the values and the pictures of a training's evaluation."""
        self._follow()
        if job_id not in self._evaluations:
            why = self._refused.get(job_id, "it has left no checkpoint")
            raise NotTrained(f"job {job_id} is not evaluated: {why}")
        detail = self._until_over(self._evaluations[job_id])
        every = [each.findings for each in evaluated(self.client.view(detail.job.id))]
        values = {value.name: value.value for findings in every for value in findings.values}
        return values, {picture.name: picture for findings in every for picture in findings.pictures}

    def _history(self, job: Job) -> History:
        """Return every metric of the job's run, by step, once the run is closed; where no MLflow tells, the last values
        alone, which the queue keeps."""
        last = [(int(job.result.get("steps", 0)), dict(job.result.get("metrics", {})))]
        if self.mlflow_uri is None or job.run_id is None:
            return last
        deadline = time.monotonic() + LOGGED_SECONDS
        try:
            while not has_ended(self.mlflow_uri, job.run_id) and time.monotonic() < deadline:
                if self.stop():
                    raise Interrupted(f"stopped while the run of job {job.id} is logged")
                time.sleep(POLL_SECONDS)
            points = histories(self.mlflow_uri, job.run_id)
        except VaesvcError as error:
            self.say(f"job {job.id}: its last metrics alone, no history: {error}")
            return last
        by_step: dict[int, dict[str, float]] = {}
        for metric, history in points.items():
            for step, value in history:
                by_step.setdefault(step, {})[metric] = value
        for step, metrics in last:
            by_step[step] = by_step.get(step, {}) | metrics
        return sorted(by_step.items())


def _seconds(detail: JobDetail) -> float:
    """Return how long its attempts ran, their start included, in seconds."""
    spans = ((attempt.started_at, attempt.ended_at) for attempt in detail.attempts)
    return sum(end - start for start, end in spans if start is not None and end is not None)


def _progress(job: Job) -> Progress:
    said = job.progress
    return Progress(
        step=int(said.get("step") or 0),
        total_steps=int(said.get("total_steps") or 0),
        epoch=float(said.get("epoch") or 0),
    )
