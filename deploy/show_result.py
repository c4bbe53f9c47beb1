"""What came out of a job: metrics, MLflow's page, the registered version, and a picture. `show_result.py JOB FOLDER`"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import httpx

from service import settings
from service.client import Client
from service.errors import NotFoundError, VaesvcError
from service.queue.jobs import Job
from service.settings import Settings
from service.tracking import login, pictures
from service.tracking.page import run_page

SHOWN = ("test/elbo", "test/rate", "test/distortion", "val/elbo", "images_per_second")
PICTURE = "reconstructions"


def main(job_id: str, folder: Path) -> None:
    loaded = settings.load()
    if loaded.api_url is None or loaded.mlflow_uri is None:
        raise NotFoundError("no service is set up: `vaesvc up` starts the local one")
    with Client(loaded.api_url, loaded.user_token()) as client:
        job = client.job(job_id).job
    run = str(job.result.get("run_id") or job.run_id)
    lines = [
        ("job", f"{job.id}  {job.name}  {job.state}"),
        *_metrics(job),
        ("MLflow", _page(loaded, run)),
        *_login(loaded),
        ("model", _version(job)),
        ("picture", f"{_picture(loaded, run, folder)}  (originals over reconstructions)"),
    ]
    sys.stdout.write("\n" + "".join(f"{name:<18} {value}\n" for name, value in lines))


def _login(loaded: Settings) -> list[tuple[str, str]]:
    if loaded.mlflow_login == "own":
        return []
    return [("sign in to MLflow", f"any user name; the password is the token in {loaded.token_file}")]


def _metrics(job: Job) -> list[tuple[str, str]]:
    metrics = job.result.get("metrics", {})
    unit = {"images_per_second": ""}
    return [(name, f"{metrics[name]:,.2f} {unit.get(name, 'nats per datum')}") for name in SHOWN if name in metrics]


def _version(job: Job) -> str:
    model = job.result.get("model")
    if not model:
        return "none was registered"
    aliases = "".join(f", alias {alias}" for alias in model["aliases"])
    return f"{model['name']} version {model['version']}{aliases}  {model['source']}"


def _page(mlflow: Settings, run: str) -> str:
    info = _get(mlflow, "/api/2.0/mlflow/runs/get", run_id=run).json()["run"]["info"]
    return f"{mlflow.mlflow_uri}/{run_page(info['experiment_id'], run)}"


def _picture(mlflow: Settings, run: str, folder: Path) -> Path:
    files = _get(mlflow, "/api/2.0/mlflow/artifacts/list", run_id=run, path=pictures.FOLDER).json().get("files", [])
    newest = pictures.newest((file["path"] for file in files), PICTURE)
    if newest is None:
        raise NotFoundError(f"MLflow's run {run} has no picture {PICTURE}")
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "reconstructions.png"
    path.write_bytes(_get(mlflow, "/get-artifact", run_uuid=run, path=newest).content)
    return path.absolute()


def _get(mlflow: Settings, route: str, /, **parameters: Any) -> httpx.Response:
    address = f"{login.for_user(mlflow)}{route}"
    answer = httpx.get(address, params=parameters, timeout=30, trust_env=False)
    return answer.raise_for_status()


if __name__ == "__main__":
    try:
        main(sys.argv[1], Path(sys.argv[2]))
    except (VaesvcError, httpx.HTTPError) as error:
        sys.exit(f"show_result: {error}")
