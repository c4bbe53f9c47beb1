"""--from: a run begins with a trained model's weights, verified, of the same architecture. A real queue and bucket."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from service import kinds
from service.artifacts import Artifacts
from service.attempt.context import Copies, WorkerContext
from service.directories import CorruptObjectError
from service.errors import NotFoundError, UntrustedError, UsageError
from service.kinds.house import House
from service.kinds.train.spec import TrainSpec
from service.queue.jobs import Checkpoint, Job
from service.wire import FinishRequest
from tests.registered import RECIPE, Shelf, checkpoint_folder, shelf
from vae_models.training.context import HasWeights, LocalContext
from vae_models.training.errors import IncompatibleCheckpoint
from vae_models.training.loop import train

STILL = [
    "steps=1",
    "optimizer.lr=1e-30",
    "schedule.kind=constant",
    "evaluation.test=false",
    "evaluation.pictures=false",
]
CPU = torch.device("cpu")


@pytest.fixture
def store(tmp_path: Path, artifacts: Artifacts) -> Shelf:
    return shelf(tmp_path, artifacts, None)


def settled(store: Shelf, of: str, *changes: str, hidden: str = "") -> TrainSpec:
    house = House(
        store=store.store, artifacts=store.artifacts, models=store.models, sees=lambda job_id: job_id != hidden
    )
    spec = kinds.settled(kinds.resolve(RECIPE, [*STILL, *changes], start_from={"of": of}), house)
    assert isinstance(spec, TrainSpec)
    return spec


def trained(store: Shelf) -> tuple[Job, Checkpoint]:
    """A job that is over, with a checkpoint of random weights."""
    job = store.job("m")
    kept = store.checkpoint(job, checkpoint_folder(store.folder / job.id, job), step=5, **{"val/elbo": -90.0})
    store.store.finish(job.id, 1, FinishRequest(runner_id="r", outcome="succeeded"))
    return job, kept


class Beginning(LocalContext):
    """A run in a folder that begins with what a worker of the service would."""

    def __init__(self, folder: Path, worker: WorkerContext) -> None:
        super().__init__(folder)
        self._worker = worker

    def weights(self) -> Path | None:
        return self._worker.weights()


def begun(store: Shelf, spec: TrainSpec, folder: Path) -> dict[str, torch.Tensor]:
    """The weights after a step that moves nothing."""
    assert spec.start_from is not None
    worker = WorkerContext(
        rank=1, world_size=2, device=CPU, scratch=folder, copies=Copies(store.artifacts, folder / "copies"),
        reports=None, weights=spec.start_from.model,
    )  # fmt: skip
    assert isinstance(worker, HasWeights)
    context = Beginning(folder / "run", worker)
    train(spec.train, context)
    newest = context.latest_checkpoint()
    assert newest is not None
    return load_file(newest / "model.safetensors")


def same(one: dict[str, Any], other: dict[str, Any]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


def test_a_run_begins_with_the_weights_of_a_job_or_a_signed_version(store: Shelf, tmp_path: Path) -> None:
    job, kept = trained(store)
    version = store.registered("n", -80.0)
    for of, uri in ((job.id, kept.uri), ("n@best", version.source)):
        spec = settled(store, of, "batch_size=50", "seed=7")
        assert spec.start_from is not None
        assert spec.start_from.model is not None
        assert spec.start_from.model.uri == uri
        folder = tmp_path / of.replace("@", "-")
        there = store.artifacts.get_directory(uri, folder / "there", spec.start_from.model.manifest_sha256)
        assert same(begun(store, spec, folder), load_file(there / "model.safetensors"))
        store.artifacts.put_bytes(f"{uri.rstrip('/')}/model.safetensors", b"other bytes")
        with pytest.raises(CorruptObjectError, match=r"model\.safetensors"):
            begun(store, spec, tmp_path / f"altered-{of[:1]}")


def test_another_architecture_and_what_is_not_there_are_refused(store: Shelf) -> None:
    job, _ = trained(store)
    latent = job.spec["train"]["model"]["latent"]
    with pytest.raises(UsageError, match=rf"(?s)another architecture.*model.latent: {latent} there, 3 here"):
        settled(store, job.id, "model.latent=3")
    with pytest.raises(NotFoundError, match=f"no job '{job.id}'"):
        settled(store, job.id, hidden=job.id)
    with pytest.raises(NotFoundError, match="no registered model 'nosuch'"):
        settled(store, "nosuch@best")
    running = store.job("runs")
    with pytest.raises(UsageError, match="is RUNNING: its model is chosen when it is over"):
        settled(store, running.id)


def test_a_manifest_that_was_altered_is_not_trusted(store: Shelf) -> None:
    job, kept = trained(store)
    store.artifacts.put_bytes(f"{kept.uri.rstrip('/')}/manifest.json", b"{}")
    with pytest.raises(UntrustedError, match=r"manifest.json has the SHA-256"):
        settled(store, job.id)


def test_weights_that_do_not_fit_are_no_traceback(tmp_path: Path) -> None:
    """Where a folder is not what its configuration says."""
    small, large = (
        kinds.resolve(RECIPE, [*STILL, f"model.latent={size}"]) for size in (2, 3)
    )  # fmt: skip
    assert isinstance(small, TrainSpec)
    assert isinstance(large, TrainSpec)
    context = LocalContext(tmp_path / "small")
    train(small.train, context)
    made = context.latest_checkpoint()

    class Wrong(LocalContext):
        def weights(self) -> Path | None:
            return made

    with pytest.raises(IncompatibleCheckpoint, match="another model's"):
        train(large.train, Wrong(tmp_path / "large"))
