"""An evaluation that follows a job on a real cluster, is killed in the middle, and finds out what an uninterrupted one
does: to the bit, once, and without a word on which model is the best."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from service.kinds.evaluate.storage import PLACE
from tests import real_jobs
from tests.job_processes import is_runner, is_worker, kill, processes, slowed
from tests.real_jobs import DIGITS
from tests.servers import wait_for

if TYPE_CHECKING:
    from tests.conftest import Stack

SAMPLES = 1_000  # seconds of computing
PLAN: dict[str, Any] = {"evaluators": ["likelihood", {"kind": "nll", "samples": SAMPLES}], "batch_size": 32}
NLL = f"nll_{SAMPLES}"


def submitted(stack: Stack, folder: Path) -> str:
    """A training job on two workers, which its evaluation follows."""
    spec = folder / "followed.yaml"
    spec.write_text(
        yaml.safe_dump(
            {
                "recipe": DIGITS,
                "train": {"steps": 10, "evaluation": {"pictures": False}},
                "resources": {"workers": 2, "cpus_per_worker": 0.5},
                "retry": {"backoff_seconds": 0.1},
                "register_as": "followed",
                "then": [{"kind": "evaluate", "plan": PLAN}],
            }
        )
    )
    return real_jobs.ran(stack.vaesvc("submit", str(spec))).strip()


def following(stack: Stack, job_id: str) -> str:
    """The one job that follows, once there is one."""
    told: list[str] = []
    with real_jobs.client(stack) as client:

        def look() -> bool:
            told[:] = [one.detail["job"] for one in client.events(job_id) if one.kind == "followed"]
            return bool(told)

        wait_for(look, 30, "nothing follows the job")
    (only,) = told
    return only


def kept(stack: Stack, job_id: str) -> dict[str, float]:
    """Evaluators whose findings are complete in storage: when they were put there."""
    artifacts = real_jobs.artifacts(stack)
    place = artifacts.uri(PLACE, job_id)
    found = {each.uri.removeprefix(f"{place}/"): each.modified_at for each in artifacts.list(place)}
    return {name.partition("/")[0]: at for name, at in found.items() if name.endswith("/manifest.json")}


def values(found: dict[str, Any]) -> dict[str, dict[str, Any]]:
    return {value["name"]: value for each in found["findings"].values() for value in each["values"]}


def test_an_evaluation_that_is_killed_goes_on(stack: Stack, tmp_path: Path) -> None:
    job_id = submitted(stack, tmp_path)
    trained = real_jobs.until_over(stack, job_id)
    evaluation = following(stack, job_id)
    with slowed(lambda: processes(evaluation, is_worker)):  # or the next one may be done, too
        wait_for(lambda: bool(kept(stack, evaluation)), 240, "no evaluator is done", every=0.2)
        before = kept(stack, evaluation)
        assert [key.partition("-test-")[0] for key in before] == ["likelihood"]
        kill(evaluation, "runner", is_runner)
    ended = real_jobs.until_over(stack, evaluation)
    assert [one.number for one in ended.attempts] == [1, 2]
    after = kept(stack, evaluation)
    assert {key: after[key] for key in before} == before  # read by the second attempt, not found out again
    assert f"then evaluate: {evaluation}" in real_jobs.ran(stack.vaesvc("show", job_id))

    # another process, one worker, no interruption, on the registered version's files
    folder = tmp_path / "model"
    real_jobs.ran(stack.vaesvc("pull", "followed", str(folder)))
    plan = ("--evaluator", "likelihood", "--evaluator", f"{{kind: nll, samples: {SAMPLES}}}", "--set", "batch_size=32")
    local = json.loads(real_jobs.ran(stack.vaesvc("evaluate", str(folder), *plan, "--json", OMP_NUM_THREADS="1")))
    with real_jobs.client(stack) as client:
        detail = client.view(evaluation).detail
    assert set(detail["findings"]) == set(local["findings"]) == set(after)
    assert values(detail) == values(local)
    assert values(detail)[NLL]["count"] == 250
    assert values(detail)[NLL]["error"] > 0

    with real_jobs.client(stack) as client:
        (version,) = [one for one in client.models() if one.name == "followed"]
    assert (version.job_id, version.aliases) == (job_id, ("best",))
    assert version.value == trained.job.result["model"]["value"]  # of val, as when it was registered
    _logged(stack, trained.job.run_id, evaluation, values(local))


def _logged(stack: Stack, run_id: str | None, evaluation: str, found: dict[str, dict[str, Any]]) -> None:
    """The findings are on the run of the model, once, on its version's page, and the evaluation's run points there."""
    from mlflow import MlflowClient

    from service.tracking.login import plain

    assert run_id is not None
    uri = plain(stack.mlflow_uri)
    door = MlflowClient(tracking_uri=uri, registry_uri=uri)
    wait_for(lambda: f"test/{NLL}" in door.get_run(run_id).data.metrics, 60, "the findings are not logged")
    wait_for(lambda: not _untracked(stack, evaluation), 60, "what follows the evaluation is not done")
    metrics = door.get_run(run_id).data.metrics
    for name, value in found.items():
        assert metrics[f"test/{name}"] == value["value"]
        assert metrics.get(f"test/{name}_error") == value["error"]
    assert len(door.get_metric_history(run_id, f"test/{NLL}")) == 1
    files = [file.path for file in door.list_artifacts(run_id, f"evaluation/{evaluation}")]
    assert f"evaluation/{evaluation}/evaluation.json" in files
    (version,) = door.search_model_versions("name='followed'")
    assert version.tags[f"vaesvc.test/{NLL}"].endswith("nats per datum")
    assert " +- " in version.tags[f"vaesvc.test/{NLL}"]
    with real_jobs.client(stack) as client:
        own = client.job(evaluation).job.run_id
    assert own is not None
    assert run_id in door.get_run(own).data.tags["vaesvc.evaluates_run"]
    assert door.get_run(own).info.status == "FINISHED"


def _untracked(stack: Stack, job_id: str) -> bool:
    from service.queue.store import Store

    store = Store(stack.settings().database_url)
    try:
        return job_id in [job.id for job in store.untracked()]
    finally:
        store.close()


def test_mistakes_are_told_before_anything_is_queued(stack: Stack) -> None:
    with real_jobs.client(stack) as client:
        count = len(client.jobs(limit=1000))
        for arguments, said in (
            (("nobody@best",), "no registered model 'nobody'"),
            (("j-0000000000000",), "no job 'j-0000000000000'"),
            (("nobody", "--split", "tset"), "split: tset is not allowed; allowed: train, val, test"),
            (("nobody", "--evaluator", "likelyhood"), "evaluators.0.kind: likelyhood is not allowed"),
            (("nobody", "--set", "limt=3"), "limt: there is no such path"),
        ):
            done = stack.vaesvc("evaluate", *arguments)
            assert done.returncode == 2, done.stderr
            assert said in done.stderr
            assert "Traceback" not in done.stderr
        assert len(client.jobs(limit=1000)) == count
