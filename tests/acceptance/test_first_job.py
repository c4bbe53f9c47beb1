"""The first job, all the way: published MNIST, two Ray Train workers, and everything where a user looks for it."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from PIL import Image

from service.kinds.train import spec
from service.queue.jobs import Checkpoint
from service.tracking import pictures
from service.wire import JobDetail
from tests import real_jobs
from vae_models.training import checkpoint

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Run

    from tests.conftest import Stack

ROOT = Path(__file__).resolve().parents[2]
RECIPE = "binarized-mnist/beta-vae-mlp"
STEPS = 500
BATCH = 64
SMALLER = (  # the recipe's model and data; seconds instead of hours
    f"steps={STEPS}",
    f"batch_size={BATCH}",
    "beta.value=0.1",  # it soon reconstructs
    "optimizer.lr=0.002",
    f"log_every_steps={STEPS // 10}",
    f"evaluation.every_epochs={STEPS // 2 * BATCH / 50_000}",
    "evaluation.limit=100",
    "evaluation.batch_size=50",
    f"checkpoint.every_steps={STEPS // 2}",
)
MODEL = "first-job"


@dataclass(frozen=True, kw_only=True)
class First:
    """The job, once it is over, and what `vaesvc submit --wait` said."""

    detail: JobDetail
    stdout: str
    stderr: str


@pytest.fixture(scope="module")
def first(stack: Stack, data_dir: Path) -> First:
    arguments = ("submit", RECIPE, "--workers", "2", "--wait", "--name", MODEL)
    done = stack.vaesvc(*arguments, *real_jobs.options((*SMALLER, f"register_as={MODEL}")), seconds=550)
    job_id = done.stdout.strip()
    with real_jobs.client(stack) as client:
        detail = client.job(job_id)
    assert done.returncode == 0, f"{done.stderr}\n{real_jobs.told(stack, detail)}"
    return First(detail=detail, stdout=done.stdout, stderr=done.stderr)


@pytest.fixture(scope="module")
def mlflow_client(stack: Stack) -> MlflowClient:
    import mlflow

    uri = stack.mlflow_uri
    return mlflow.MlflowClient(tracking_uri=uri, registry_uri=uri)


@pytest.fixture(scope="module")
def run(first: First, mlflow_client: MlflowClient) -> Run:
    """Its run in MLflow, which the dispatcher closes when the job is over."""
    from tests.servers import wait_for

    run_id = first.detail.job.run_id
    assert run_id is not None
    wait_for(
        lambda: mlflow_client.get_run(run_id).info.status == "FINISHED",
        60,
        "the run is not closed",
        every=real_jobs.LOOK_SECONDS,
    )
    return mlflow_client.get_run(run_id)


def test_submit_waits_for_its_success_and_shows_the_way(first: First) -> None:
    job = first.detail.job
    assert job.state == "SUCCEEDED"
    assert first.stdout == f"{job.id}\n"
    assert "Traceback" not in first.stderr
    for word in ("QUEUED", "STARTING", "RUNNING", "SUCCEEDED", "images/s", "test", "val"):
        assert word in first.stderr
    assert (job.resources.workers, job.failures, len(first.detail.attempts)) == (2, 0, 1)


def test_show_tells_the_whole_story(stack: Stack, first: First) -> None:
    job_id = first.detail.job.id
    shown = json.loads(real_jobs.ran(stack.vaesvc("show", job_id, "--json", "--events")))
    assert shown["job"]["result"]["steps"] == STEPS
    assert shown["job"]["result"]["metrics"]["val/elbo"] < 0
    assert (shown["job"]["progress"]["step"], shown["job"]["progress"]["total_steps"]) == (STEPS, STEPS)
    assert shown["job"]["spec"] == spec.resolve(
        RECIPE, (*SMALLER, f"register_as={MODEL}"), resources={"workers": 2}, name=MODEL
    ).model_dump(mode="json")
    kinds = [event["kind"] for event in shown["events"]]
    story = ["submitted", "admitted", "submitted_to_ray", "claimed", "run_opened", "finished"]
    assert [kind for kind in kinds if kind in story] == story
    plain = real_jobs.ran(stack.vaesvc("show", job_id))
    assert "SUCCEEDED" in plain
    assert "2 x (1 CPU)" in plain


def test_the_log_is_kept_with_every_worker_in_it(stack: Stack, first: First) -> None:
    shown = stack.vaesvc("logs", first.detail.job.id)
    assert shown.returncode == 0, shown.stderr
    text = shown.stdout
    assert text == real_jobs.log(stack, first.detail.job.id)
    assert "attempt 1 of job" in text
    assert "world_rank=1" in text
    assert "the attempt succeeded" in text
    uri = first.detail.attempts[0].log_uri
    assert uri is not None
    assert real_jobs.artifacts(stack).get_bytes(uri).decode() == text


# --- MLflow ---------------------------------------------------------------------------------------------------------


def test_mlflow_says_what_ran(first: First, run: Run) -> None:
    job = first.detail.job
    params, tags = run.data.params, run.data.tags
    expected = {"seed": "0", "batch_size": str(BATCH), "steps": str(STEPS), "workers": "2", "recipe": RECIPE}
    assert {name: params.get(name) for name in expected} == expected
    assert params["optimizer.lr"] == str(job.spec["train"]["optimizer"]["lr"])
    assert tags["vaesvc.job_id"] == job.id
    assert (tags["vaesvc.seed"], tags["vaesvc.workers"], tags["mlflow.user"]) == ("0", "2", job.owner)
    assert json.loads(tags["vaesvc.spec"]) == job.spec
    commit = subprocess.run(["git", "rev-parse", "HEAD"], cwd=ROOT, capture_output=True, text=True, timeout=20).stdout
    if commit.strip():  # a release's archive has none
        assert len(tags["mlflow.source.git.commit"]) == 40
    import ray
    import torch

    assert (tags["version.torch"], tags["version.ray"]) == (torch.__version__, ray.__version__)
    assert run.info.run_name.startswith(MODEL)
    assert run.info.end_time >= run.info.start_time


def test_fault_13b_mlflow_knows_machine_data_and_model(run: Run, mlflow_client: MlflowClient) -> None:
    assert 0 <= run.data.metrics["system/cpu_utilization_percentage"] <= 100
    assert [each.dataset.name for each in run.inputs.dataset_inputs] == [run.data.tags["vaesvc.data"]]
    (output,) = run.outputs.model_outputs
    assert "test/elbo" in {metric.key for metric in mlflow_client.get_logged_model(output.model_id).metrics}
    assert "vaesvc logs" in run.data.tags["mlflow.note.content"]


def test_mlflow_has_every_curve(first: First, run: Run, mlflow_client: MlflowClient) -> None:
    def points(name: str) -> dict[int, float]:
        return {point.step: point.value for point in mlflow_client.get_metric_history(run.info.run_id, name)}

    logged = list(range(STEPS // 10, STEPS + 1, STEPS // 10))
    for name in ("loss", "elbo", "rate", "distortion", "beta", "lr", "grad_norm"):
        assert list(points(f"train/{name}")) == logged, name
    for name in ("epoch", "images_per_second"):
        assert list(points(name)) == logged, name
    for name in ("elbo", "rate", "distortion"):
        assert list(points(f"val/{name}")) == [STEPS // 2, STEPS], name
        assert list(points(f"test/{name}")) == [STEPS], name
    loss, elbo = points("train/loss"), points("val/elbo")
    assert loss[STEPS] < 0.6 * loss[STEPS // 10]  # it learns
    assert elbo[STEPS] > elbo[STEPS // 2]
    rate, distortion = points("test/rate")[STEPS], points("test/distortion")[STEPS]
    assert points("test/elbo")[STEPS] == pytest.approx(-rate - distortion, rel=1e-5)
    result = first.detail.job.result["metrics"]
    assert {name: run.data.metrics[name] for name in result} == pytest.approx(result)


def test_mlflow_has_the_pictures(run: Run, mlflow_client: MlflowClient, tmp_path: Path) -> None:
    for name in ("reconstructions", "samples"):
        files = [file.path for file in mlflow_client.list_artifacts(run.info.run_id, "images")]
        assert len([path for path in files if f"/{name}+step+" in path and path.endswith(".png")]) == 2  # evaluations
        newest = pictures.newest(files, name)
        assert newest is not None
        path = mlflow_client.download_artifacts(run.info.run_id, newest, str(tmp_path))
        with Image.open(io.BytesIO(Path(path).read_bytes())) as picture:
            pixels = np.asarray(picture.convert("L"))
        assert min(pixels.shape) > 28
        assert pixels.std() > 10  # something is on it


# --- S3 and the registry --------------------------------------------------------------------------------------------


def _best(first: First) -> Checkpoint:
    (best,) = [one for one in first.detail.checkpoints if one.best]
    return best


def test_the_bucket_has_the_checkpoints_and_nothing_half_done(stack: Stack, first: First, tmp_path: Path) -> None:
    door, job = real_jobs.artifacts(stack), first.detail.job
    kept = {one.uri.rstrip("/") for one in first.detail.checkpoints}
    there = door.list(door.uri("checkpoints", job.id))
    assert {item.uri.rpartition("/")[0] for item in there} == kept
    last = first.detail.checkpoints[0]
    assert last.step == STEPS
    folder = door.get_directory(last.uri, tmp_path / "last", last.manifest_sha256)
    files = {path.name for path in folder.iterdir()}
    assert files == {"model.safetensors", "training.safetensors", "state.json", "config.json", "manifest.json"}
    manifest = checkpoint.verify(folder)
    assert manifest.step == STEPS
    assert manifest.metrics["val/elbo"] == job.result["metrics"]["val/elbo"]
    assert sum(path.stat().st_size for path in folder.iterdir()) == last.bytes
    assert not door.list(door.uri("results", job.id))
    assert not door.list(door.uri("spool", job.id))


def test_the_best_checkpoint_is_a_registered_version(
    stack: Stack, first: First, run: Run, mlflow_client: MlflowClient
) -> None:
    job = first.detail.job
    version = mlflow_client.get_model_version_by_alias(MODEL, "best")
    assert version.run_id == run.info.run_id
    assert version.source == real_jobs.artifacts(stack).uri("models", MODEL, job.id)
    assert version.tags["vaesvc.job_id"] == job.id
    assert float(version.tags["vaesvc.value"]) == _best(first).metrics["val/elbo"]
    assert job.result["model"]["version"] == version.version
    listed = json.loads(real_jobs.ran(stack.vaesvc("models", "--json")))
    assert [one["job_id"] for one in listed if one["name"] == MODEL] == [job.id]


LOAD = """
import json, sys
import mlflow, numpy as np
model = mlflow.pyfunc.load_model(sys.argv[1])
np.save(sys.argv[3], model.predict(np.load(sys.argv[2])))
"""


def _user(stack: Stack) -> dict[str, str]:
    """A user of the model: MLflow's and S3's own variables and nothing of ours."""
    settings, storage = stack.settings(), stack.settings().storage()
    ours = {name: value for name, value in os.environ.items() if not name.startswith("VAESVC_")}
    return ours | {
        "MLFLOW_TRACKING_URI": settings.mlflow_uri or "",
        "MLFLOW_TRACKING_TOKEN": settings.user_token() or "",
        "MLFLOW_S3_ENDPOINT_URL": storage.endpoint_url or "",
        "AWS_ACCESS_KEY_ID": storage.access_key or "",
        "AWS_SECRET_ACCESS_KEY": storage.secret_key or "",
        "AWS_DEFAULT_REGION": storage.region,
        "MLFLOW_ALLOW_PICKLE_DESERIALIZATION": "false",
        "MLFLOW_ALLOW_MODEL_CODE_EXECUTION": "false",
    }


def test_mlflow_loads_it_and_pull_fetches_the_same(stack: Stack, first: First, data_dir: Path, tmp_path: Path) -> None:
    """In a fresh process, with pickle and code from artifacts switched off; against what `vaesvc pull` fetched."""
    from vae_models import data
    from vae_models.data.config import DataConfig

    digits = data.load(DataConfig(name="binarized-mnist"), data_dir=data_dir).test.x[:64].numpy() / np.float32(255)
    np.save(tmp_path / "in.npy", digits)
    command = [sys.executable, "-c", LOAD, f"models:/{MODEL}@best", tmp_path / "in.npy", tmp_path / "out.npy"]
    done = subprocess.run(command, env=_user(stack), cwd=tmp_path, capture_output=True, text=True, timeout=200)
    assert done.returncode == 0, done.stderr
    made = np.load(tmp_path / "out.npy")
    assert made.shape == digits.shape == (64, 1, 28, 28)
    blank = np.abs(digits - digits.mean(axis=0)).mean()
    assert np.abs(digits - made).mean() < 0.8 * blank  # better than the mean of all digits: it reconstructs

    folder = tmp_path / "pulled"
    pulled = stack.vaesvc("pull", MODEL, str(folder))
    assert real_jobs.ran(pulled) == f"{folder}\n"
    assert "verified" in pulled.stderr
    np.testing.assert_allclose(_reconstruct(folder, digits), made, atol=1e-5)
    files = json.loads((folder / "manifest.json").read_text())["files"]
    assert {path.name for path in folder.iterdir()} == {*files, "manifest.json", "signature.json"}
    assert not [name for name in files if name.endswith((".pkl", ".pickle", ".pt", ".pth", ".py"))]


def _reconstruct(folder: Path, images: Any) -> Any:
    """With PyTorch alone: the model, its weights, the posterior's mean."""
    import torch
    from safetensors.torch import load_file

    from vae_models.config.train import TrainConfig

    config = TrainConfig.model_validate_json((folder / "config.json").read_bytes())
    model = config.model.build((1, 28, 28))
    model.load_state_dict(load_file(folder / "model.safetensors"))
    noise = {name: torch.zeros(len(images), *one.shape) for name, one in model.noise().items()}
    with torch.no_grad():
        return model.eval()(torch.from_numpy(images), noise).mean.numpy()
