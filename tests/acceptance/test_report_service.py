"""`vaesvc report JOB...` of real jobs: what service, bucket and MLflow have of them, and the page kept there."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests import real_jobs
from tests.command import vaesvc
from tests.real_jobs import DIGITS

if TYPE_CHECKING:
    from tests.conftest import Stack

QUICK = ("epochs=3", "log_every_steps=5", "model.backbone.hidden=[16]", "evaluation.every_epochs=1")
BETA = "beta.value=4"


@pytest.fixture(scope="module")
def jobs(stack: Stack) -> tuple[str, str, str]:
    """Two trained models, and an evaluation of the first."""
    second = real_jobs.submit(stack, DIGITS, (*QUICK, BETA))
    first = real_jobs.submit(stack, DIGITS, QUICK)
    for job in (first, second):
        real_jobs.until_over(stack, job)
    asked = ("--evaluator", "likelihood", "--evaluator", "samplers", "--json")
    real_jobs.ran(stack.vaesvc("evaluate", first, *asked, seconds=400))
    with real_jobs.client(stack) as client:
        evaluation = next(job.id for job in client.jobs() if job.kind == "evaluate")
    return first, second, evaluation


def test_a_page_has_what_the_service_has_and_lies_with_every_run(
    stack: Stack, jobs: tuple[str, str, str], tmp_path: Path
) -> None:
    from service.tracking.server import client

    out = tmp_path / "of-jobs.html"
    first, second, evaluation = jobs
    done = stack.vaesvc("report", first, second, "--out", str(out), "--title", "Two betas", seconds=300)
    assert real_jobs.ran(done) == f"{out}\n"
    html = out.read_text().replace("<wbr>", "")
    for text in (first, second, "Two betas", "beta.value", "val/elbo, digits (density)", "latent_log_density/prior"):
        assert text in html
    assert html.count("data:image/png;base64,") >= 4  # both runs' pictures, and the evaluation's samples
    with real_jobs.client(stack) as door:
        runs = [door.job(job).job.run_id for job in (first, second)]
        elbo = next(
            value["value"]
            for each in door.view(evaluation).detail["findings"].values()
            for value in each["values"]
            if value["name"] == "elbo"
        )
    assert re.search(rf"{elbo:,.1f}", html)  # as the evaluation found it
    for run_id in runs:
        (kept,) = client(stack.mlflow_uri).list_artifacts(run_id, "reports")
        assert (kept.path, kept.file_size) == (f"reports/{out.name}", out.stat().st_size)


def test_an_evaluation_is_reported_by_itself_beside_a_folder(
    stack: Stack, jobs: tuple[str, str, str], tmp_path: Path
) -> None:
    run, out = tmp_path / "here", tmp_path / "both.html"
    real_jobs.ran(stack.vaesvc("run", DIGITS, *real_jobs.options(QUICK), "--out", str(run), seconds=300))
    done = stack.vaesvc("report", jobs[2], str(run), "--out", str(out), "--no-log", seconds=300)
    real_jobs.ran(done)
    assert "MLflow" not in done.stderr
    html = out.read_text()
    assert f"evaluates</dt><dd>{jobs[0]}" in html
    assert "val/elbo, digits (density)" in html
    assert "</span> here</h3>" in html


def test_a_job_that_has_not_begun_has_its_specification_alone(online: dict[str, str], tmp_path: Path) -> None:
    out = tmp_path / "queued.html"
    job = vaesvc(online, "submit", DIGITS).stdout.strip()
    done = vaesvc(online, "report", job, "--out", str(out), seconds=120)
    html = out.read_text()
    assert "Nothing has been evaluated" in html
    assert "no curves: it has no run of its own in MLflow" in html
    assert "MLflow" not in done.stderr


def test_what_is_no_model_is_refused_before_anything_is_written(online: dict[str, str], tmp_path: Path) -> None:
    out = tmp_path / "none.html"
    study = vaesvc(online, "submit", "searches/binarized-mnist/beta-vae-cnn").stdout.strip()
    for what, said in (
        ("nosuch", "nosuch"),
        ("no/such/folder", "no/such/folder is no folder"),
        (study, "evaluate a study's winner or trial first"),
    ):
        refused = vaesvc(online, "report", what, "--out", str(out), code=2, seconds=120)
        assert said in refused.stderr
    assert not out.exists()
