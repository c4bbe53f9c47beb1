"""Registered models without training: jobs of a real queue, checkpoints as training writes them, the real registry."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from service.artifacts import Artifacts
from service.attempt.best import Choice, choose
from service.kinds.train.spec import TrainSpec, resolve
from service.models import Models
from service.queue.jobs import Capacity, Checkpoint, Job
from service.queue.store import Store
from service.signing import read_key
from service.wire import ModelVersion
from vae_models.training import checkpoint as checkpoints

RECIPE = "digits/beta-vae-mlp"
SHAPE = (1, 8, 8)


def checkpoint_folder(folder: Path, job: Job, **state: Any) -> Path:
    """A checkpoint of step 5, of a model that was not trained. state: more of it."""
    config = TrainSpec.model_validate(job.spec).train
    torch.manual_seed(0)
    checkpoints.write(
        folder,
        step=5,
        config=config,
        model=config.model.build(SHAPE).state_dict(),
        training={"some": torch.zeros(3)},
        state={"data_shape": SHAPE, **state},
        metrics={},
    )
    return folder


@dataclass(frozen=True, kw_only=True)
class Shelf:
    """A service's queue, key and bucket, and the MLflow that shows its models."""

    store: Store
    artifacts: Artifacts
    mlflow_uri: str | None
    folder: Path  # for files, and the key

    @property
    def models(self) -> Models:
        return Models(store=self.store, artifacts=self.artifacts, key=read_key(self.folder / "signing-key"))

    def job(self, name: str, *overrides: str, recipe: str = RECIPE) -> Job:
        """One whose first attempt has been claimed."""
        job = self.store.submit(resolve(recipe, overrides, register_as=name), owner="ann")
        self.store.observe_cluster(Capacity(nodes=({"CPU": 1000.0, "memory": 1e12},)), address="ray", ok=True)
        self.store.admit()  # this one, unless another thread did
        self.store.claim(job.id, 1, "r")
        return self.store.job(job.id)

    def checkpoint(self, job: Job, folder: Path | None = None, *, step: int = 5, **metrics: float) -> Checkpoint:
        """Stored and committed. folder: as training wrote it; None: of a model that was not trained."""
        folder = folder or checkpoint_folder(self.folder / job.id, job)
        put = self.artifacts.put_directory(folder, self.artifacts.uri("checkpoints", job.id, str(step)))
        made = Checkpoint(
            attempt=1, step=step, uri=put.uri, manifest_sha256=put.manifest_sha256, bytes=put.bytes, metrics=metrics
        )
        self.store.commit_checkpoint(job.id, 1, made)
        return self.store.checkpoints(job.id)[0]

    def choice(self, job: Job) -> Choice:
        found = choose(job, {}, lambda: self.store.checkpoints(job.id))
        assert found is not None
        return found

    def register(self, job: Job) -> ModelVersion:
        """As the driver does, with the service at hand."""
        models = self.models
        return self.choice(job).register(
            self.mlflow_uri, self.artifacts, lambda number: models.sign(job, {}, number, number=1)
        )

    def registered(
        self, name: str, value: float, *, metric: str = "val/elbo", mode: str = "max", overrides: tuple[str, ...] = ()
    ) -> ModelVersion:
        """A new job's version of this value."""
        job = self.job(name, f"checkpoint.metric={metric}", f"checkpoint.mode={mode}", *overrides)
        self.checkpoint(job, **{metric: value})
        return self.register(job)


def shelf(folder: Path, artifacts: Artifacts, mlflow_uri: str | None, **store: Any) -> Shelf:
    """With a queue of its own below `folder`."""
    queue = Store(f"sqlite:///{folder}/queue.db", **store)
    queue.migrate()
    return Shelf(store=queue, artifacts=artifacts, mlflow_uri=mlflow_uri, folder=folder)
