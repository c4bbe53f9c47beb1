"""A folder of photographs, as a new user has one: three commands to a picture of their reconstructions."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
from PIL import Image, ImageDraw

from service import auth
from service.client import Client
from service.queue.store import Store
from tests import real_jobs
from tests.servers import wait_for

if TYPE_CHECKING:
    from tests.conftest import Stack

PLUGINS = Path(__file__).resolve().parents[1] / "plugins"
RECIPE = "celeba/sigma-vae-optimal"
SIDE = 32
SHORTER = (
    "steps=30",
    "batch_size=16",
    "log_every_steps=10",
    "evaluation.every_epochs=100",
    "checkpoint.every_steps=30",
)


def photographs(folder: Path, count: int = 90) -> Path:
    """A sun over the sea in every weather: photographs of several sizes and forms, some with the camera upright."""
    rng = np.random.default_rng(0)
    (folder / "Größe & 日本").mkdir(parents=True)
    for number in range(count):
        width, height = (int(side) for side in rng.integers(60, 120, 2))
        sky, sea, sun = (
            tuple(int(part) for part in rng.integers(*levels, 3)) for levels in ((120, 255), (0, 120), (200, 256))
        )
        picture = Image.new("RGB", (width, height), sky)
        draw = ImageDraw.Draw(picture)
        draw.rectangle((0, height * 0.6, width, height), fill=sea)
        x, y = rng.uniform(0.2, 0.8) * width, rng.uniform(0.1, 0.5) * height
        draw.ellipse((x - 12, y - 12, x + 12, y + 12), fill=sun)
        name = f"{('', 'Größe & 日本/')[number % 2]}IMG {number:03d}"
        exif = Image.Exif()
        if number % 10 == 0:
            picture, exif[0x0112] = picture.transpose(Image.Transpose.ROTATE_90), 6
        suffix = ("jpg", "png", "webp")[number % 3]
        picture.save(folder / f"{name}.{suffix}", exif=exif)
    (folder / "notes.txt").write_text("not a picture\r\n")
    return folder


@dataclass(frozen=True, kw_only=True)
class Trained:
    """The set's digest, the job, and the pictures that were saved."""

    digest: str
    job_id: str
    pictures: dict[str, Path]


@pytest.fixture(scope="module")
def trained(stack: Stack, tmp_path_factory: pytest.TempPathFactory) -> Trained:
    """The README's three commands, with another home's cache for the workers' than the user's: they must fetch it."""
    folder = photographs(tmp_path_factory.mktemp("photos") / "Meine Bilder")
    away = {"VAESVC_CACHE_DIR": str(tmp_path_factory.mktemp("user's cache"))}
    added = stack.vaesvc("data", "add", "photos", str(folder), "--size", str(SIDE), "--json", **away)
    digest = json.loads(real_jobs.ran(added))["digest"]
    options = real_jobs.options(SHORTER)
    done = stack.vaesvc("submit", RECIPE, "--data", "photos", "--workers", "2", "--wait", *options, seconds=400)
    job_id = done.stdout.strip()
    with real_jobs.client(stack) as client:
        assert done.returncode == 0, f"{done.stderr}\n{real_jobs.told(stack, client.job(job_id))}"
    out = tmp_path_factory.mktemp("pictures")
    saved = json.loads(real_jobs.ran(stack.vaesvc("pictures", job_id, "--out", str(out), "--json")))
    return Trained(digest=digest, job_id=job_id, pictures={name: Path(path) for name, path in saved.items()})


def test_there_is_a_picture_of_reconstructions(trained: Trained) -> None:
    """A row of photographs over a row of what the model makes of them: the first has their colours, both have some."""
    with Image.open(trained.pictures["reconstructions"]) as picture:
        pixels = np.asarray(picture.convert("RGB")).astype(float)
    assert pixels.shape[0] > 2 * SIDE
    assert pixels.std() > 20
    assert np.abs(pixels[..., 0] - pixels[..., 2]).mean() > 5


def test_the_job_holds_the_digest_and_every_worker_fetched_it_from_the_bucket(stack: Stack, trained: Trained) -> None:
    with real_jobs.client(stack) as client:
        job = client.job(trained.job_id).job
        detail = client.data.detail("photos")
    data = job.spec["train"]["data"]
    assert (data["name"], data["digest"], data["facts"]["shape"]) == ("photos", trained.digest, [3, SIDE, SIDE])
    assert job.resources.workers == 2
    assert detail.data.digest == trained.digest
    assert sum(detail.data.facts.sizes) == 90
    cache = Path(stack.environment["VAESVC_CACHE_DIR"]) / "own"
    assert (cache / trained.digest / "data.json").is_file()
    assert (cache / ".fetched" / trained.digest).is_file()


def test_mlflow_says_which_data(stack: Stack, trained: Trained) -> None:
    import mlflow

    with real_jobs.client(stack) as client:
        run_id = client.job(trained.job_id).job.run_id
    assert run_id is not None
    found = mlflow.MlflowClient(tracking_uri=stack.mlflow_uri).get_run(run_id).inputs.dataset_inputs
    (dataset,) = [each.dataset for each in found]
    assert dataset.name == f"photos@{trained.digest[:8]}"
    assert trained.digest.startswith(dataset.digest)
    assert json.loads(dataset.source)["bucket"] == f"data/{trained.digest}"
    assert json.loads(dataset.profile)["shape"] == [3, SIDE, SIDE]


def test_a_study_trains_on_it_and_every_trial_is_evaluated_by_an_evaluator_of_ones_own(
    stack: Stack, trained: Trained, tmp_path: Path
) -> None:
    """Own data and own code in evaluations that follow a study which keeps all of its weights."""
    study = {
        "base": {"recipe": RECIPE, "batch_size": 16, "steps": 4, "evaluation.batch_size": 9},
        "stages": [{"name": "rates", "space": {"optimizer.lr": [0.001, 0.0001]}}],
        "keep": "all",
        "then": [{"kind": "evaluate", "trials": "all", "plan": {"evaluators": [{"kind": "norms"}], "limit": 5}}],
    }
    path = tmp_path / "rates.json"
    path.write_text(json.dumps(study))
    own = ("--data", "photos", "--code", str(PLUGINS))
    done = stack.vaesvc("submit", str(path), *own, "--wait", seconds=400)
    with real_jobs.client(stack) as client:
        assert done.returncode == 0, f"{done.stderr}\n{real_jobs.told(stack, client.job(done.stdout.strip()))}"
        job = client.job(done.stdout.strip()).job
        assert job.spec["study"]["base"]["data"]["digest"] == trained.digest

        def following() -> list[str]:
            return [str(event.detail["job"]) for event in client.events(job.id) if event.kind == "followed"]

        wait_for(lambda: len(following()) == 2, 60, "not every trial is evaluated", every=real_jobs.LOOK_SECONDS)
        evaluations = [real_jobs.until_over(stack, each).job for each in following()]
        assert {each.spec["model"]["trial"] for each in evaluations} == {"rates/0", "rates/1"}
        for each in evaluations:
            assert each.spec["code"] == job.spec["code"]
            assert each.spec["train"]["data"]["digest"] == trained.digest
            (value,) = each.result["values"]
            assert (value["name"], value["count"]) == ("reconstruction_norm", 5)
            assert value["value"] > 0


def test_a_name_that_is_removed_leaves_its_jobs_their_data(stack: Stack, trained: Trained) -> None:
    """And another user removes nothing."""
    settings = stack.settings()
    store, token = Store(settings.database_url), auth.new_token()
    store.add_token("eve", token)
    store.close()
    told = stack.vaesvc("data", "rm", "photos", VAESVC_TOKEN=token)
    assert told.returncode == 2
    assert "only" in told.stderr
    assert "you are eve" in told.stderr
    assert stack.vaesvc("data", "show", "photos", "--json", VAESVC_TOKEN=token).returncode == 0
    removed = stack.vaesvc("data", "rm", "photos", "--json")
    assert json.loads(real_jobs.ran(removed))["digest"] == trained.digest
    longer = stack.vaesvc("retry", trained.job_id, "--set", "steps=34")
    assert longer.returncode == 0, longer.stderr
    followed = stack.vaesvc("watch", trained.job_id, seconds=300)
    with Client(str(settings.api_url), settings.user_token()) as client:
        job = client.job(trained.job_id).job
    assert job.state == "SUCCEEDED", followed.stderr
    assert job.result["steps"] == 34
