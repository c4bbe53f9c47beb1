"""MLflow as its users see it: its own pages, of a real server, in a real Chromium."""

from __future__ import annotations

import base64
import json
import time
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest

from service.artifacts import Artifacts
from tests import browser, mlflow_scene
from tests.browser import Browser
from tests.mlflow_scene import NAME, Scene
from tests.registered import Shelf, shelf
from tests.servers import Mlflow, Swift

PROGRAM = browser.find()
pytestmark = pytest.mark.skipif(
    PROGRAM is None, reason="no Chromium here: as root on Debian, deploy/debian-packages.sh installs it"
)
SLIDER = "document.querySelector('[role=slider]')"
TRACK = f"{SLIDER}.parentElement.parentElement.getBoundingClientRect()"
CARD = "[data-testid=experiment-view-compare-runs-card]"
PICTURES = f"""[...document.querySelectorAll('{CARD} img')].filter(picture => {{
    const {{left, top, right, bottom}} = picture.getBoundingClientRect()
    const seen = (x, y) => document.elementsFromPoint(x, y).includes(picture)
    return picture.naturalWidth > 100 && seen(left + 2, top + 2) && seen(right - 2, bottom - 2)
}}).length"""


@pytest.fixture(scope="module")
def here(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shelf]:
    root = tmp_path_factory.mktemp("pages")
    swift = Swift(root / "s3")
    mlflow = Mlflow(root / "mlflow", swift)
    try:
        swift.start()
        mlflow.start()
        yield shelf(tmp_path_factory.mktemp("service"), Artifacts(swift.storage), mlflow.uri, settle_seconds=0.0)
    finally:
        mlflow.stop()
        swift.stop()


@pytest.fixture(scope="module")
def scene(here: Shelf, tmp_path_factory: pytest.TempPathFactory) -> Scene:
    return mlflow_scene.make(here, tmp_path_factory.mktemp("runs"))


@pytest.fixture(scope="module")
def page(here: Shelf, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    """Signed in, and never before on these pages."""
    assert PROGRAM is not None
    parts = urlsplit(str(here.mlflow_uri))
    login = f"{unquote(parts.username or '')}:{unquote(parts.password or '')}".encode()
    headers = {"Authorization": f"Basic {base64.b64encode(login).decode()}"}
    folder = tmp_path_factory.mktemp("browser") / "profile"
    with Browser(PROGRAM, folder, height=2600, headers=headers) as opened:
        yield opened


def until(page: Browser, script: str, what: str, seconds: float = 60.0) -> None:
    deadline = time.monotonic() + seconds
    while not page.run(script):
        assert time.monotonic() < deadline, f"{what}: {page.text()}"
        time.sleep(0.25)


def test_fault_13b_an_experiment_opens_as_model_training(page: Browser, scene: Scene) -> None:
    page.open(scene.page("experiments"), "digits (density)")
    shown = page.open(scene.page(f"experiments/{scene.experiment}"), "Run Name", "matching runs", scene.job.id)
    assert "workflowType=machine_learning" in page.run("location.href")
    assert "/runs" in page.run("location.href")
    assert "Evaluation runs" not in shown
    assert "Comparable with each other" in shown
    assert NAME in shown  # the run's model, in the list


def test_fault_13b_a_run_says_what_it_is(page: Browser, scene: Scene) -> None:
    shown = page.open(scene.run_page(), "Description", "About this run", "Registered models", "val/elbo", NAME)
    for text in (
        "A training run of digits/beta-vae-mlp, by vaesvc.",
        f"vaesvc logs {scene.job.id}",
        "nats per datum of a density",
        "Finished",
        "System metrics (8)",
        "digits (",  # the data set, with its digest
    ):
        assert text in shown
    assert "mlflow.vaesvc." not in shown  # what a run is found by is nobody's business


def test_fault_13b_pictures_are_in_the_grid_with_its_slider(page: Browser, scene: Scene) -> None:
    page.open(scene.run_page("/model-metrics"), "reconstructions", "samples", "elbo")
    until(page, f"{SLIDER} !== null", "no slider of steps")
    steps = page.run(f"[{SLIDER}.ariaValueMin, {SLIDER}.ariaValueMax]")
    assert steps == [str(mlflow_scene.STEPS[0]), str(mlflow_scene.STEPS[-1])]
    page.run(f"{SLIDER}.scrollIntoView({{block: 'center'}})")
    page.click(*page.run(f"(({{right, top, height}}) => [right - 4, top + height / 2])({TRACK})"))
    until(page, f"{SLIDER}.ariaValueNow === '{mlflow_scene.STEPS[-1]}'", "the slider does not move")
    until(page, f"{PICTURES} > 0", "the picture of the last step is not whole in its card")


def test_fault_13b_system_metrics_have_their_tab(page: Browser, scene: Scene) -> None:
    charts = ("cpu_utilization_percentage", "system_memory_usage_megabytes")
    page.open(scene.run_page("/system-metrics"), "System metrics", *charts)


def test_fault_13b_two_runs_compare(page: Browser, scene: Scene) -> None:
    runs, experiments = json.dumps(scene.runs), json.dumps([scene.experiment])
    address = scene.page(f"compare-runs?runs={runs}&experiments={experiments}")
    shown = page.open(address, "Comparing 2 Runs from 1 Experiment", "optimizer.lr", "train/loss")
    for text in ("0.002", "0.003", "seed", "-21.5", "-24"):
        assert text in shown


def test_fault_13b_models_and_versions_are_described(page: Browser, scene: Scene) -> None:
    logged = page.open(scene.page(f"experiments/{scene.experiment}/models/{scene.model}"), "Model versions", "val/elbo")
    for text in ("Ready", "-21.5", "Source run", "digits (#", f"of job {scene.job.id}"):
        assert text in logged
    assert f'vaesvc.load("{NAME}@best")' in page.open(scene.page(f"models/{NAME}"), "Version 1", "E[x|z]", "best")
    version = page.open(scene.page(f"models/{NAME}/versions/1"), "Source Run", "Schema", "Inputs (1)", "Outputs (1)")
    assert f"val/elbo = -21.5 at step 5 of job {scene.job.id}" in version
    links = page.run(
        "[...document.querySelectorAll('td a')].map(one => one.href).filter(one => one.includes('/runs/'))"
    )
    page.open(links[0], "About this run", scene.job.id)


def test_fault_13b_trials_are_below_their_study(here: Shelf, page: Browser, scene: Scene, tmp_path: Path) -> None:
    parent = mlflow_scene.trials(here)
    shown = page.open(scene.page(f"experiments/{scene.experiment}/runs/{parent}"), "Child runs", "optimizer.lr=0.01")
    assert "optimizer.lr=0.0001 (seed 0, rates 2)" in shown
