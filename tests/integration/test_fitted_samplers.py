"""Samplers that an evaluation fitted to a registered model are used with it: through the API, out of a real bucket."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch

import vaesvc as vaesvc_module
from service import kinds
from service.areas import Area
from service.artifacts import Artifacts
from service.fitted import FittedFiles
from service.kinds.evaluate.kept import StoredKept
from service.kinds.evaluate.storage import PLACE
from service.pyfunc import load_directory
from service.queue.jobs import Job
from service.settings import S3Settings
from service.wire import FinishRequest
from tests.api_server import Api, running_api, settings_in
from tests.command import vaesvc
from tests.registered import Shelf
from vae_models import data
from vae_models.evaluation.fitting.fitted import unpacked
from vae_models.evaluation.run import evaluate
from vae_models.evaluation.specs import EvaluationPlan
from vae_models.evaluation.subject import Subject
from vae_models.samplers.specs import FOLDER

PLAN = {"evaluators": [{"kind": "samplers", "shown": 2}], "samplers": [{"kind": "gmm", "components": 2}], "limit": 300}


@dataclass(frozen=True, kw_only=True)
class Service:
    """An API with two registered models, of which one was evaluated. folder: that one's files, with its samplers."""

    api: Api
    artifacts: Artifacts
    evaluation: Job
    folder: Path

    def env(self, home: Path) -> dict[str, str]:
        """The environment of a user of the service."""
        kept = {name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ}
        return kept | {
            "VAESVC_CONFIG": "", "VAESVC_HOME": str(home), "VAESVC_API_URL": self.api.url,
            "VAESVC_TOKEN": self.api.token, "OMP_NUM_THREADS": "1",
        }  # fmt: skip

    def sampled(self, folder: Path, model: str, *, code: int = 0) -> tuple[str, Path]:
        """What the command says, and where its samples are."""
        out = folder / "samples.npz"
        arguments = ("sample", model, "--sampler", "gmm-2", "--count", "3", "--out", str(out))
        return vaesvc(self.env(folder / "home"), *arguments, code=code).stderr, out


@pytest.fixture(scope="module")
def service(artifacts: Artifacts, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    home = tmp_path_factory.mktemp("service")
    settings = settings_in(home, s3=S3Settings.model_validate(artifacts.settings.model_dump() | {"prefix": "fitted"}))
    with running_api(settings) as api:
        bucket = Artifacts(settings.storage())
        shelf = Shelf(store=api.store, artifacts=bucket, mlflow_uri=None, folder=home)
        version, _ = shelf.registered("drawn", -90.0), shelf.registered("plain", -90.0)
        with api.client() as client:
            job = client.submit(kinds.resolve({"kind": "evaluate", "of": "drawn/1", "plan": PLAN}))
        folder = bucket.get_directory(version.source, home / "drawn")
        evaluated(folder, bucket, job)
        api.admit()
        api.store.claim(job.id, 1, "r")
        api.store.finish(job.id, 1, FinishRequest(runner_id="r", outcome="succeeded"))
        yield Service(api=api, artifacts=bucket, evaluation=job, folder=folder)


def evaluated(folder: Path, bucket: Artifacts, job: Job) -> None:
    """As the job's only worker does; what it fitted is also kept beside the files."""
    model = load_directory(folder)
    subject = Subject(model.model, model.config, data.load(model.config.data), EvaluationPlan.model_validate(PLAN))
    kept = StoredKept(bucket, job.id, device=torch.device("cpu"))
    for findings in evaluate(subject, kept=kept).values():
        for sampler in unpacked(findings.tensors).values():
            sampler.save(folder / FOLDER)


def test_samples_are_of_the_sampler_that_the_job_fitted(service: Service, tmp_path: Path) -> None:
    said, out = service.sampled(tmp_path, "drawn/1")
    assert "fitted by evaluations, signed and verified: gmm-2" in said
    expected = load_directory(service.folder).sample(3, sampler="gmm-2")
    np.testing.assert_array_equal(np.load(out)["x"], expected)
    assert np.abs(expected - load_directory(service.folder).sample(3)).max() > 0  # the prior's are others


def test_a_model_that_no_job_fitted_one_to_says_how(service: Service, tmp_path: Path) -> None:
    said, out = service.sampled(tmp_path, "plain/1", code=2)
    assert "sampler 'gmm-2' given: it is one of prior, " in said
    assert "Others are fitted first to a model, in a folder or registered" in said
    assert not out.exists()


def test_a_sampler_that_was_altered_in_the_bucket_is_refused(service: Service, tmp_path: Path) -> None:
    (stored,) = (
        each.uri
        for each in service.artifacts.list(service.artifacts.uri(PLACE, service.evaluation.id))
        if each.uri.endswith("tensors.safetensors")
    )
    before = service.artifacts.get_bytes(stored)
    service.artifacts.put_bytes(stored, before[:-1] + bytes([before[-1] ^ 1]), "application/octet-stream")
    try:
        said, out = service.sampled(tmp_path, "drawn/1", code=1)
    finally:
        service.artifacts.put_bytes(stored, before, "application/octet-stream")
    assert "tensors.safetensors is not what was stored: expected SHA-256" in said
    assert not out.exists()


def test_a_pulled_model_has_the_samplers_beside_it(service: Service, tmp_path: Path) -> None:
    env = service.env(tmp_path / "home")
    said = vaesvc(env, "pull", "drawn/1", str(tmp_path / "model")).stderr
    assert "fitted by evaluations, signed and verified: gmm-2" in said
    expected = load_directory(service.folder).sample(3, sampler="gmm-2")
    np.testing.assert_array_equal(load_directory(tmp_path / "model").sample(3, sampler="gmm-2"), expected)
    again = vaesvc(env, "pull", "drawn/1", str(tmp_path / "model")).stderr
    assert "fitted by evaluations" not in again  # they are there already


def test_a_loaded_model_fetches_samplers_when_one_is_asked_for(
    service: Service, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in service.env(tmp_path / "home").items():
        monkeypatch.setenv(name, value)
    model, local = vaesvc_module.load("drawn/1"), load_directory(service.folder)
    np.testing.assert_array_equal(model.sample(3), local.sample(3))
    assert "gmm-2" in model.samplers
    np.testing.assert_array_equal(model.sample(3, sampler="gmm-2"), local.sample(3, sampler="gmm-2"))
    with pytest.raises(ValueError, match=r"sampler 'gmm-3' given: it is one of prior, .*gmm-2"):
        model.sample(3, sampler="gmm-3")


def test_what_is_signed_is_not_read_again(service: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    """A call costs the service a manifest of some hundred bytes, however large samplers are."""
    asked: list[str] = []
    get_bytes = Area.get_bytes
    monkeypatch.setattr(Area, "get_bytes", lambda area, uri: asked.append(uri) or get_bytes(area, uri))
    with service.api.client() as client:
        answer = client.job_call(service.evaluation.id, "fitted", FittedFiles)
    assert [uri.rsplit("/", 1)[1] for uri in asked] == ["manifest.json"]
    assert [name.rsplit("/", 1)[1] for name in answer.files] == ["tensors.safetensors"]
