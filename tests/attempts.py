"""A claimed attempt without its runner, and contexts for it as Ray Train's workers would make them: for tests."""

from __future__ import annotations

from pathlib import Path

import torch

from service import __version__, auth
from service.attempt.assignment import Assignment
from service.attempt.run_context import RunProcess
from service.dispatch.dispatcher import attempt_access
from service.kinds.train import spec
from service.kinds.train.spec import TrainSpec
from service.wire import ClaimRequest, FinishRequest
from tests.api_server import Api

CPU = torch.device("cpu")
SMALL = ["steps=40", "checkpoint.every_steps=10", "evaluation.every_epochs=1.5", "log_every_steps=5"]


class Worker:
    """One claimed attempt, and contexts for it as Ray Train's workers would make them."""

    def __init__(self, api: Api, folder: Path, *, job_id: str | None = None, mlflow_uri: str | None = None) -> None:
        self.api = api
        self.folder = folder
        if job_id is None:
            job_id = api.store.submit(spec.resolve("digits/beta-vae-mlp", SMALL), owner="ann").id
        (self.attempt,) = (one for one in api.admit() if one.job_id == job_id)
        settings = api.settings.model_copy(update={"api_url": api.url})
        self.access = attempt_access(settings, auth.read_secret(settings.secret_file))(self.attempt)
        with self.access.client(retry_seconds=5) as client:
            context = client.claim(ClaimRequest(runner_id="r", version=__version__))
        self.context = context.model_copy(update={"mlflow_uri": mlflow_uri})
        self.spec = TrainSpec.model_validate(context.job.spec)
        self.opened: list[RunProcess] = []

    def open(self, rank: int = 0, url: str | None = None) -> RunProcess:
        access = self.access.model_copy(update={"api_url": url}) if url else self.access
        order = Assignment(access=access, context=self.context, runner_id="r", scratch=self.folder / "driver")
        found = RunProcess(
            order,
            rank=rank,
            world_size=1,
            device=CPU,
            scratch=self.folder / "worker",
            goal=self.spec.train.checkpoint.goal,
        )
        self.opened.append(found)
        return found

    def lose(self) -> None:
        """The attempt ends as one whose runner was killed; the job may be admitted again at once."""
        request = FinishRequest(runner_id="r", outcome="failed", error="killed", retryable=True)
        self.api.store.finish(self.attempt.job_id, self.attempt.number, request)

    def close(self) -> None:
        for one in self.opened:
            one.abandon()
        if not self.api.store.job(self.attempt.job_id).state.final:
            self.lose()
            self.api.store.cancel(self.attempt.job_id, by="test")
