"""Two runs, a study with trials and a model in a real MLflow server, as the service's own parts write them."""

from __future__ import annotations

import io
import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from service.queue.jobs import Job, JobState
from service.storage_errors import public
from service.tracking import RunWriter, SystemMonitor, end_run, end_trial, open_run, open_trial
from service.tracking.describe import TrialRun
from service.tracking.server import client
from tests.registered import Shelf

NAME = "digits-beta-vae-mlp"
STEPS = (1, 2, 3, 4, 5)


@dataclass(frozen=True, kw_only=True)
class Scene:
    mlflow: str
    experiment: str
    job: Job
    runs: tuple[str, str]  # of two jobs; the first one's model is registered
    model: str  # its logged model

    def page(self, path: str) -> str:
        return f"{self.mlflow}/#/{path}"

    def run_page(self, tab: str = "") -> str:
        return self.page(f"experiments/{self.experiment}/runs/{self.runs[0]}{tab}")


def make(here: Shelf, folder: Path) -> Scene:
    uri = str(here.mlflow_uri)
    jobs = [here.job(NAME), here.job(NAME, "optimizer.lr=0.003", "seed=1")]
    first, second = (_train(uri, job, folder / job.id, best) for job, best in zip(jobs, (-21.5, -24.0), strict=True))
    here.checkpoint(jobs[0], **{"val/elbo": -21.5, "val/rate": 9.0, "val/distortion": 12.5})
    here.register(jobs[0])
    for job in jobs:
        end_run(uri, job, JobState.SUCCEEDED)
    run = client(uri).get_run(first)
    (output,) = run.outputs.model_outputs
    return Scene(
        mlflow=public(uri), experiment=run.info.experiment_id, job=jobs[0], runs=(first, second), model=output.model_id
    )


def _train(uri: str, job: Job, folder: Path, best: float) -> str:
    run_id = open_run(uri, job, number=1)
    writer = RunWriter(uri, run_id, folder / "spool.jsonl")
    monitor = SystemMonitor(writer.log_metrics, since=job.created_at, every_seconds=1.0)
    for step in range(1, 101):
        loss = -best + 60 * math.exp(-step / 20)
        writer.log_metrics(
            step, {"train/loss": loss, "train/rate": 9.0, "train/distortion": loss - 9, "epoch": step / 20}
        )
    for step in STEPS:
        elbo = best - 8 * (STEPS[-1] - step)
        writer.log_metrics(step, {"val/elbo": elbo, "val/rate": 9.0, "val/distortion": -elbo - 9})
        writer.log_picture(step, "reconstructions", _picture(step))
        writer.log_picture(step, "samples", _picture(10 * step))
    monitor.close(60)
    assert writer.close(60) is None
    return run_id


def trials(here: Shelf, number_of_trials: int = 3) -> str:
    """A run with one run below it for each trial, as a study has them."""
    uri, job = str(here.mlflow_uri), here.job("study")
    parent = open_run(uri, job, number=1)
    for number in range(number_of_trials):
        rate = 10.0 ** -(number + 2)
        trial = TrialRun(
            stage="rates", number=number, key=f"k{number}", candidate=number, seed=0,
            assignment={"optimizer.lr": rate}, config=job.spec["train"],
        )  # fmt: skip
        end_trial(uri, open_trial(uri, job, trial, number=1), "done")
    end_run(uri, job, JobState.SUCCEEDED)
    return parent


def _picture(seed: int) -> bytes:
    digits = np.random.default_rng(seed).random((16, 32))
    buffer = io.BytesIO()
    Image.fromarray((255 * digits).astype(np.uint8)).resize((320, 160), Image.Resampling.NEAREST).save(buffer, "PNG")
    return buffer.getvalue()
