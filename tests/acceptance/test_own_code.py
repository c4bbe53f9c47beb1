"""A package of a user's own on the embedded stack: everything in `tests/plugins` by --code, as its user would.

The package lies outside of the product, and nothing of the product knows it.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests import real_jobs
from tests.acceptance.test_kill import newest
from tests.job_processes import is_worker, kill
from tests.packages import package
from vae_models.open_union import foreign_allowed

if TYPE_CHECKING:
    from tests.conftest import Stack

PLUGINS = Path(__file__).resolve().parents[1] / "plugins"
RECIPE = "rings/lighthouse"
SLOWLY = ("steps=600", "checkpoint.every_steps=120", "evaluation.every_epochs=100", "evaluation.pictures=false")
TWO = ("--workers", "2", "--cpus-per-worker", "0.5")
READ = """
import sys, numpy as np, vaesvc
from service.errors import NeedsCodeError
from service.code.wheel import CodeError
x = np.linspace(-2, 2, 12, dtype="float32").reshape(2, 6)
try:
    vaesvc.load("rings-lighthouse")
except NeedsCodeError as error:
    print("refused:", error)
try:
    vaesvc.load("rings-lighthouse", code=sys.argv[1])
except CodeError as error:
    print("another:", error)
by_service = vaesvc.load("rings-lighthouse", code="trust").predict(x)
by_source = vaesvc.load("rings-lighthouse", code=sys.argv[2]).predict(x)
import mlflow.pyfunc
by_mlflow = mlflow.pyfunc.load_model(sys.argv[3]).predict(x)
print("equal:", by_service.shape, bool((by_service == by_source).all() and (by_service == by_mlflow).all()))
"""


def submit(stack: Stack, what: str, overrides: tuple[str, ...] = (), *more: str, code: Path = PLUGINS) -> str:
    return real_jobs.submit(stack, what, overrides, "--code", str(code), *more)


@pytest.fixture(scope="module")
def changed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same package in another state: its kind of job counts one less."""
    folder = tmp_path_factory.mktemp("changed") / "plugins"
    shutil.copytree(PLUGINS, folder)
    path = folder / "lighthouse" / "count.py"
    text = path.read_text()
    assert "model.parameters())}" in text
    path.write_text(text.replace("model.parameters())}", "model.parameters()) - 1}"))
    return folder


def test_a_run_of_two_workers_with_parts_of_its_own_is_killed_and_goes_on_to_the_bit(
    stack: Stack, changed: Path, tmp_path: Path
) -> None:
    killed = submit(stack, RECIPE, SLOWLY, *TWO)
    real_jobs.until_checkpoint(stack, killed, 1)
    kill(killed, "worker", is_worker)
    kept = newest(stack, killed, 1)
    again = submit(stack, RECIPE, SLOWLY, *TWO)
    detail = real_jobs.until_over(stack, killed)
    log = real_jobs.log(stack, killed)
    assert f"going on from step {kept} " in log
    assert "which is new" in log
    assert "which waited ready" not in log  # a process that was there before never gets code of a job's own
    uninterrupted = real_jobs.until_over(stack, again)
    with foreign_allowed():  # this process has not got the package
        outcomes = [real_jobs.final_outcome(stack, each, tmp_path / each.job.id) for each in (detail, uninterrupted)]
    assert outcomes[0] == outcomes[1]
    code = detail.job.spec["code"]
    assert (code["name"], code["version"]) == ("lighthouse", "1.0")
    assert set(detail.job.result["metrics"]) >= {"val/worst_error", "val/elbo"}
    check_model(stack, code, changed, tmp_path)


def check_model(stack: Stack, code: dict[str, str], changed: Path, folder: Path) -> None:
    """Registered, told what it needs, and loaded by who agrees, with exactly that."""
    listed = stack.vaesvc("models")
    assert f"needs the package lighthouse 1.0 (SHA-256 {code['digest'][:12]}" in listed.stderr
    pulled = folder / "pulled"
    said = stack.vaesvc("pull", "rings-lighthouse", str(pulled))
    assert "which is user's code: it lies in code/ and was not run" in said.stderr
    assert [path.name for path in (pulled / "code").iterdir()] == ["lighthouse-1.0-py3-none-any.whl"]
    arguments = [sys.executable, "-c", READ, str(changed), str(PLUGINS), str(pulled)]
    environment = {name: value for name, value in stack.environment.items() if not name.startswith("AWS_")}
    read = subprocess.run(arguments, env=environment, capture_output=True, text=True, timeout=120)
    assert read.returncode == 0, read.stderr
    refused, another, equal = read.stdout.splitlines()
    assert "which a user wrote" in refused
    assert "vaesvc.load(NAME, code='trust')" in refused
    assert "another package, or the same in another state" in another
    assert equal == "equal: (2, 6) True"


def test_a_search_of_its_own_runs_in_lanes(stack: Stack) -> None:
    job = submit(stack, "searches/rings/scales", ("steps=60",))
    detail = real_jobs.until_over(stack, job)
    widths = re.search(r"seconds for a lane's step, by width: (.*)", real_jobs.log(stack, job))
    assert widths is not None
    assert "2: " in widths[1], widths[0]  # its likelihood's number differs between the lanes
    assert "cannot be fused" not in real_jobs.log(stack, job)
    shown = stack.vaesvc("study", "show", job, "--json")
    assert "model.likelihood.scale" in shown.stdout, shown.stderr
    assert detail.job.result["winner"]["metric"] == "val/worst_error"


def test_two_jobs_with_different_code_at_once_do_not_mix(stack: Stack, changed: Path, tmp_path: Path) -> None:
    spec = tmp_path / "count.yaml"
    spec.write_text("kind: count-parameters\ntrain:\n  data: {name: digits}\n  epochs: 1\n")
    jobs = [submit(stack, str(spec), (), code=code) for code in (PLUGINS, changed)]
    results: list[Any] = [real_jobs.until_over(stack, job).job.result["parameters"] for job in jobs]
    assert results[0] - results[1] == 1
    shown = stack.vaesvc("show", jobs[0])
    assert str(results[0]) in shown.stdout.replace(",", ""), shown.stdout


def test_code_that_fails_on_the_cluster_alone_fails_the_job_once_and_says_what(stack: Stack, tmp_path: Path) -> None:
    broken = "import os\nif 'VAESVC_JOB_ID' in os.environ:\n    raise ImportError('not on a cluster')\n"
    source = package(tmp_path / "broken", name="only-here", files={"only_here/__init__.py": broken})
    job = submit(stack, real_jobs.DIGITS, (), code=source)
    detail = real_jobs.until_over(stack, job, "FAILED")
    assert len(detail.attempts) == 1
    assert "beta.half (only_here.specs:HalfConfig" in str(detail.attempts[0].error)
    assert "ImportError: not on a cluster" in str(detail.attempts[0].error)
