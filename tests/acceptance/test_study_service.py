"""Studies through the queue, on the embedded stack: what a user sees in the table, in MLflow, in the registry."""

from __future__ import annotations

import json
import os
import re
import signal
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psutil
import pytest
import yaml

from service.kinds.study.messages import StudyDetail, StudyStage, StudyTrial, fetched
from service.kinds.study.spec import StudySpec
from service.kinds.study.storage import StageStorage
from service.wire import JobDetail
from tests import real_jobs
from tests.servers import wait_for
from tuning.study import trials

if TYPE_CHECKING:
    from tests.conftest import Stack

RATES = [1e30, 0.003, 0.01]  # the first diverges
BASE = {
    "recipe": real_jobs.DIGITS,
    "epochs": 4,
    "schedule": {"kind": "constant"},
    "evaluation.pictures": False,
    "checkpoint.every_steps": 20,
}
TWO_STAGES: dict[str, Any] = {
    "base": BASE,
    "stages": [
        {"name": "rates", "space": {"optimizer.lr": RATES}, "repeats": [0, 1]},
        {
            "name": "betas",
            "space": {"beta.value": {"kind": "log-uniform", "low": 0.1, "high": 10}},
            "search": {"kind": "population", "size": 2, "generations": 2, "epochs": 2},
        },
    ],
}
SLOW = BASE | {"epochs": None, "steps": 1000, "evaluation.every_epochs": 20, "checkpoint.every_steps": 200}


def submit(stack: Stack, folder: Path, study: dict[str, Any], *more: str) -> str:
    path = folder / "study.yaml"
    path.write_text(yaml.safe_dump(study))
    return real_jobs.ran(stack.vaesvc("submit", str(path), *more)).strip()


def table(stack: Stack, job_id: str) -> StudyDetail:
    with real_jobs.client(stack) as client:
        return fetched(client, job_id)


def values(found: StudyDetail) -> dict[tuple[str, int], tuple[str, float | None, int]]:
    """(stage, trial) -> state, metric, steps."""
    return {
        (stage.name, trial.number): (trial.state, trial.value, trial.steps)
        for stage in found.stages
        for trial in stage.trials
    }


def runs_of(stack: Stack, job_id: str, tag: str) -> list[Any]:
    from mlflow import MlflowClient

    door = MlflowClient(stack.mlflow_uri)
    ids = [experiment.experiment_id for experiment in door.search_experiments()]
    return list(door.search_runs(ids, f"tags.`{tag}` = '{job_id}'", max_results=1000))


def children(stack: Stack, job_id: str) -> list[Any]:
    return runs_of(stack, job_id, "vaesvc.study_id")


def closed(stack: Stack, job_id: str, tag: str = "vaesvc.study_id") -> list[str]:
    """How the runs ended, once they have: that follows the job's end."""

    def open_ones() -> bool:
        return any(run.info.status == "RUNNING" for run in runs_of(stack, job_id, tag))

    wait_for(lambda: not open_ones(), 60, "runs of the study stay open", every=real_jobs.LOOK_SECONDS)
    return sorted(run.info.status for run in runs_of(stack, job_id, tag))


def versions(stack: Stack, job_id: str) -> list[Any]:
    from mlflow import MlflowClient

    door = MlflowClient(stack.mlflow_uri)
    return [one for one in door.search_model_versions() if one.tags.get("vaesvc.job_id") == job_id]


def until_steps(stack: Stack, job_id: str, steps: int) -> JobDetail:
    """Once its trials have taken so many steps together, and checkpoints of all are in storage."""
    artifacts = real_jobs.artifacts(stack)

    def reached(detail: JobDetail) -> bool:
        if int(detail.job.progress.get("step", 0)) < steps:
            return False
        spec = StudySpec.model_validate(detail.job.spec)
        every = list(trials(spec.study.stages[0], spec.study.base))
        kept = StageStorage(artifacts, job_id, spec.study.stages[0].name).checkpoints()
        return kept.keys() == {trial.key for trial in every}

    return real_jobs.until(stack, job_id, reached, 300, f"its trials do not take {steps} steps")


def test_two_stages_end_to_end(stack: Stack, tmp_path: Path) -> None:
    """Every trial is a child run, one that diverges is marked and the others go on, the second stage starts from what
    won the first, the winner is registered."""
    job_id = submit(stack, tmp_path, TWO_STAGES, "--workers", "2", "--name", "two-stages")
    detail = real_jobs.until_over(stack, job_id)
    found = table(stack, job_id)
    rates, betas = found.stages
    assert [len(stage.trials) for stage in found.stages] == [6, 4]
    failed = {trial.number for trial in rates.trials if trial.state == "failed"}
    assert failed == {0, 1}
    assert all("A smaller optimizer.lr" in (trial.error or "") for trial in rates.trials if trial.number in failed)
    assert {trial.state for stage in found.stages for trial in stage.trials} == {"done", "failed"}
    grown = {trial.number: trial for trial in betas.trials}
    assert [grown[number].origin for number in (0, 1)] == [None, None]
    assert {grown[number].origin for number in (2, 3)} <= {0, 1}
    assert [grown[number].steps / grown[0].steps for number in range(4)] == pytest.approx([1, 1, 2, 2], rel=0.05)
    best = rates.candidates[0]
    assert best.assignment == {"optimizer.lr": 0.003}
    assert best.number == rates.winner
    assert best.mean == pytest.approx(sum(best.values) / 2)

    assert closed(stack, job_id, "vaesvc.job_id") == ["FINISHED"]
    parent, (job_run,) = detail.job.run_id, runs_of(stack, job_id, "vaesvc.job_id")
    assert job_run.info.run_id == parent
    below = children(stack, job_id)
    assert len(below) == 10
    assert {run.data.tags["mlflow.parentRunId"] for run in below} == {parent}
    assert closed(stack, job_id) == ["FAILED"] * 2 + ["FINISHED"] * 8
    assert {run.info.experiment_id for run in below} == {job_run.info.experiment_id}
    by_trial = {(run.data.tags["vaesvc.stage"], int(run.data.tags["vaesvc.trial"])): run for run in below}
    for (stage, number), (state, value, _) in values(found).items():
        if state == "done":
            assert by_trial[stage, number].data.metrics["val/elbo"] == value
    assert by_trial["betas", 0].data.params["optimizer.lr"] == "0.003"
    assert by_trial["rates", 0].data.params["optimizer.lr"] == "1e+30"

    (version,) = versions(stack, job_id)
    assert version.name == "two-stages"
    assert version.tags["vaesvc.assignment"] == "beta.value=" + str(betas.candidates[0].assignment["beta.value"])
    assert "best mean val/elbo (max) of 4 assignments" in version.tags["vaesvc.reason"]
    assert float(version.tags["vaesvc.value"]) == betas.candidates[0].values[0]
    _pulled_model_has_the_winners_value(stack, betas.candidates[0].values[0], tmp_path / "model")

    handed = re.findall(r"rates: pack \d takes trials ([\d, ]+)", real_jobs.log(stack, job_id))
    assert sorted(int(number) for group in handed for number in group.split(",")) == list(range(6))  # each to one pack

    shown = real_jobs.ran(stack.vaesvc("study", "show", job_id))
    assert "winner: optimizer.lr=0.003" in shown
    assert "registered: two-stages version 1" in shown
    assert job_id in real_jobs.ran(stack.vaesvc("studies"))
    out = str(tmp_path / "curves")
    saved = real_jobs.ran(stack.vaesvc("study", "curve", job_id, "--with", job_id, "--out", out)).split()
    assert len(saved) == 3  # one for each stage, one of both studies
    assert all(Path(path).read_bytes().startswith(b"\x89PNG") for path in saved)
    left = real_jobs.artifacts(stack).list(real_jobs.artifacts(stack).uri("studies", job_id))
    kept = [one.uri for one in left if one.uri.endswith("/manifest.json")]
    assert len(kept) == 3, kept  # the two seeds of the rate that won, and the beta


def _pulled_model_has_the_winners_value(stack: Stack, value: float, folder: Path) -> None:
    from vae_models.config.train import TrainConfig

    real_jobs.ran(stack.vaesvc("pull", "two-stages", str(folder)))
    manifest = json.loads((folder / "manifest.json").read_text())
    assert manifest["metrics"]["val/elbo"] == value
    config = TrainConfig.model_validate_json((folder / "config.json").read_text())
    assert config.optimizer.lr == 0.003


def test_a_study_whose_every_trial_fails_says_so_and_registers_nothing(stack: Stack, tmp_path: Path) -> None:
    study = {"base": BASE, "stages": [{"name": "rates", "space": {"optimizer.lr": [1e30, 1e29]}}]}
    job_id = submit(stack, tmp_path, study, "--name", "hopeless")
    detail = real_jobs.until_over(stack, job_id, "FAILED")
    assert "none of 2 assignments was trained to its end with every seed" in (detail.job.reason or "")
    assert "A smaller optimizer.lr" in (detail.job.reason or "")
    assert len(detail.attempts) == 1  # another one would not help
    assert not versions(stack, job_id)
    assert set(closed(stack, job_id)) == {"FAILED"}


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"space": {"optimizer.speed": [1]}}, ("optimizer.speed", "there are: kind, lr")),
        ({"space": {"optimizer.lr": [-1.0]}}, ("optimizer.lr", "greater than 0")),
        ({"metric": "val/accuracy"}, ("val/accuracy is not measured",)),
    ],
)
def test_a_space_that_cannot_be_is_refused_at_submit(
    stack: Stack, tmp_path: Path, change: dict[str, Any], words: tuple[str, ...]
) -> None:
    stage = {"name": "rates", "space": {"optimizer.lr": [0.1]}} | change
    path = tmp_path / "wrong.yaml"
    path.write_text(yaml.safe_dump({"base": BASE, "stages": [stage]}))
    done = stack.vaesvc("submit", str(path))
    real_jobs.ran(done, 2)
    for word in words:
        assert word in done.stderr


SLOWLY: dict[str, Any] = {
    "base": SLOW,
    # in turn: which lanes are fused is measured, and fused lanes agree with others but for rounding
    "lanes": 1,
    "stages": [
        {
            "name": "rates",
            "space": {"optimizer.lr": [0.001, 0.003]},
            "repeats": [0, 1],
            # later than the end: nobody is stopped, and all begin together, so that each has something to go on from
            "pruning": {"kind": "halving", "epochs": 10_000},
        }
    ],
}
Table = dict[tuple[str, int], tuple[str, float | None, int]]


def until_it_goes_on(stack: Stack, job_id: str, attempt: int) -> None:
    """Once a trial of this attempt has started from a checkpoint."""

    with real_jobs.client(stack) as door:

        def goes_on(detail: JobDetail) -> bool:
            return detail.job.attempt == attempt and "goes on from step" in door.logs(job_id, attempt=attempt).text

        real_jobs.until(stack, job_id, goes_on, 200, f"attempt {attempt} does not go on from a checkpoint")


def undisturbed(stack: Stack, folder: Path) -> Table:
    """Of the same study in one process, without any service."""
    folder.mkdir()
    (folder / "study.yaml").write_text(yaml.safe_dump(SLOWLY))
    done = stack.vaesvc(
        "study", "run", str(folder / "study.yaml"), "--out", str(folder / "out"), "--device", "cpu", "--json",
        seconds=300,
    )  # fmt: skip
    stages = [StudyStage.model_validate(stage) for stage in json.loads(real_jobs.ran(done))]
    return {(s.name, t.number): (t.state, t.value, t.steps) for s in stages for t in s.trials}


def test_killed_and_cancelled_a_study_ends_with_the_same_table(stack: Stack, tmp_path: Path) -> None:
    """Pack, driver and Ray head are killed, it is cancelled and retried: no trial is lost, none counts twice."""
    job_id = submit(stack, tmp_path, {**SLOWLY, "name": "killed"})
    until_steps(stack, job_id, 850)
    _kill(job_id, "pack")  # Ray Tune starts it again

    until_it_goes_on(stack, job_id, 1)
    _kill(job_id, "driver")

    until_it_goes_on(stack, job_id, 2)
    asked = time.monotonic()
    real_jobs.ran(stack.vaesvc("cancel", job_id))
    real_jobs.until_over(stack, job_id, "CANCELLED")
    assert time.monotonic() - asked < 45
    assert "KILLED" in closed(stack, job_id)  # some may have come to their end before

    real_jobs.ran(stack.vaesvc("retry", job_id))
    until_it_goes_on(stack, job_id, 3)
    real_jobs.kill(stack, "ray")
    real_jobs.ran(stack.vaesvc("up", seconds=300))
    real_jobs.until_over(stack, job_id)
    assert "goes on from step" in real_jobs.log(stack, job_id, 4)
    assert values(table(stack, job_id)) == undisturbed(stack, tmp_path / "undisturbed")
    assert closed(stack, job_id) == ["FINISHED"] * 4
    assert len(versions(stack, job_id)) == 1


def test_trials_of_two_workers(stack: Stack, tmp_path: Path) -> None:
    """A worker is killed: the trial goes on with a new gang, which takes the next trial, too. Their values are those of
    one process but for rounding."""
    stage = {"name": "rates", "space": {"optimizer.lr": [0.003, 0.001]}}
    base = SLOW | {"steps": 400, "checkpoint.every_steps": 100, "dtype": "float64"}
    study = {"base": base, "stages": [stage], "workers_per_trial": 2, "name": "groups"}
    (tmp_path / "alone.yaml").write_text(yaml.safe_dump({"base": base, "stages": [stage]}))
    out = tmp_path / "alone"
    alone = stack.vaesvc("study", "run", str(tmp_path / "alone.yaml"), "--out", str(out), "--device", "cpu", "--json")
    (expected,) = [by_number(StudyStage.model_validate(one)) for one in json.loads(real_jobs.ran(alone))]

    job_id = submit(stack, tmp_path, study, "--workers", "2")
    storage = StageStorage(real_jobs.artifacts(stack), job_id, "rates")
    real_jobs.until(stack, job_id, lambda _: bool(storage.checkpoints()), 300, "no checkpoint")
    _kill(job_id, "worker of a group")
    real_jobs.until_over(stack, job_id)
    (found,) = [by_number(stage) for stage in table(stack, job_id).stages]
    for trial, same in zip(found, expected, strict=True):
        assert (trial.state, trial.steps) == (same.state, same.steps) == ("done", 400)
        assert trial.value == pytest.approx(same.value, rel=1e-6)
    assert closed(stack, job_id) == ["FINISHED", "FINISHED"]
    assert len(versions(stack, job_id)) == 1
    log = real_jobs.log(stack, job_id)
    assert "goes on from step" in log
    killed, mended, held = re.findall(r"world_rank=0 .* process (\d+),", log)
    assert killed != mended
    assert mended == held


def by_number(stage: StudyStage) -> list[StudyTrial]:
    return sorted(stage.trials, key=lambda trial: trial.number)


def _kill(job_id: str, what: str) -> None:
    """kill -9 of one process of the study: its driver, or the worker of a pack."""
    found = [process.pid for process in psutil.process_iter() if _is(process, job_id, what)]
    assert found, f"no {what} of {job_id} runs"
    os.kill(found[0], signal.SIGKILL)


def _is(process: psutil.Process, job_id: str, what: str) -> bool:
    try:
        line = " ".join(process.cmdline())
        if what == "driver":
            return "service.attempt.driver" in line and process.environ().get("VAESVC_JOB_ID") == job_id
        if what == "worker of a group":
            return line.startswith("ray::GangWorker") and job_id in process.cwd()
        return line.startswith("ray::") and job_id in process.cwd()
    except psutil.Error:
        return False


def test_stop_ends_with_what_there_is_and_extend_adds_to_it(stack: Stack, tmp_path: Path) -> None:
    study = {
        "base": SLOW | {"steps": 300},
        "stages": [
            {
                "name": "rates",
                "space": {"optimizer.lr": {"kind": "log-uniform", "low": 0.001, "high": 0.01}},
                "search": {"kind": "random", "trials": 1},
            }
        ],
    }
    job_id = submit(stack, tmp_path, study | {"name": "stopped"})  # its first trial is short enough to wait for
    real_jobs.until_over(stack, job_id)
    (first,) = table(stack, job_id).stages[0].trials

    waits = real_jobs.one_waits(stack)
    real_jobs.ran(stack.vaesvc("study", "extend", job_id, "--trials", "40"))

    def trains(detail: JobDetail) -> bool:
        return detail.job.progress.get("trials") == 41 and detail.job.progress.get("step", 0) > 0

    real_jobs.until(stack, job_id, trains, 200, "it does not train the rest")
    real_jobs.ran(stack.vaesvc("study", "stop", job_id))
    detail = real_jobs.until_over(stack, job_id)
    assert detail.job.result["stopped_early"] is True
    stage = table(stack, job_id).stages[0]
    assert len(stage.trials) == 41
    assert first in stage.trials  # not trained again
    assert {trial.state for trial in stage.trials} >= {"done", "waiting"}
    assert len(versions(stack, job_id)) == 1
    log = real_jobs.log(stack, job_id)
    assert "an early end was asked for" in log
    assert "which waited ready" in log or not waits  # Ray Tune's processes, too
    grid = stack.vaesvc("study", "extend", job_id, "--trials", "1", "--stage", "betas")
    assert "stage betas does not draw at random" in grid.stderr


def test_a_study_that_is_out_of_time_ends_with_what_there_is(stack: Stack, tmp_path: Path) -> None:
    """The first stage is through, the second would take hours."""
    study = {
        "base": BASE,
        "max_seconds": 20,
        "stages": [
            {"name": "rates", "space": {"optimizer.lr": [0.003]}},
            {"name": "long", "space": {"epochs": [100_000]}},
        ],
    }
    job_id = submit(stack, tmp_path, study | {"name": "short"})
    detail = real_jobs.until_over(stack, job_id)
    assert detail.job.result["stopped_early"] is True
    assert "max_seconds=20 are over" in real_jobs.log(stack, job_id)
    (version,) = versions(stack, job_id)
    assert version.tags["vaesvc.stage"] == "rates"
