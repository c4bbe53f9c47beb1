"""On the real stack: a job of a higher priority takes the place of those that run, which go on as if nothing were; a
gang of several workers shrinks, grows and is preempted, and computes what an undisturbed worker does."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
import yaml
from safetensors.torch import load_file

from service.kinds.train import spec
from service.stack.ray_head import cpus
from service.wire import JobDetail
from tests import real_jobs
from tests.job_processes import is_worker, processes, slowed
from tests.real_jobs import DIGITS, SLOWLY, STEPS
from vae_models.training import checkpoint
from vae_models.training.context import LocalContext
from vae_models.training.loop import train

if TYPE_CHECKING:
    from tests.conftest import Stack

MORE = ("--priority", "7", "--workers", str(cpus() + 2))
HALF = ("--cpus-per-worker", "0.5")
SHORTLY = ("steps=20", "evaluation.every_epochs=100")
LONG = 1_000_000  # steps: it ends when it is cancelled
SLOW_NLL = "{kind: nll, samples: 20000}"  # of the 1,437 training digits: minutes
SEARCH = {
    "base": {"recipe": DIGITS, "epochs": None, "steps": LONG, "evaluation.every_epochs": 100},
    "stages": [{"name": "rates", "space": {"optimizer.lr": [0.001, 0.003]}}],
}
GANG = (  # evaluations take most of its time, and none of its weights
    f"steps={LONG}",
    "dtype=float64",
    "batch_size=16",
    "optimizer.lr=1e-4",
    "schedule.kind=constant",  # whatever the number of steps
    "evaluation.every_epochs=0.5",
    "checkpoint.every_steps=45",
)


def test_a_preempted_job_goes_on_to_the_bit_and_an_evaluation_and_a_search_stop_when_asked(
    stack: Stack, uninterrupted: real_jobs.Outcome, tmp_path: Path
) -> None:
    """The higher one needs the whole machine, and would take more: its gang is elastic. All are one user's, who may
    set priorities."""
    trained = real_jobs.submit(stack, DIGITS, SHORTLY)
    path = tmp_path / "search.yaml"
    path.write_text(yaml.safe_dump(SEARCH))
    real_jobs.until_over(stack, trained)
    search = real_jobs.submit(stack, str(path), (), *HALF)
    until_it_counts(stack, search, "step")
    asked_for = ("--evaluator", SLOW_NLL, "--split", "train", "--detach")  # on a core
    aside = [search]  # these are there, and leave the processors to the others
    with slowed(lambda: [each for job_id in aside for each in processes(job_id, computes)]):
        evaluation = real_jobs.ran(stack.vaesvc("evaluate", trained, *asked_for)).strip()
        until_it_counts(stack, evaluation, "done")
        aside.append(evaluation)
        low = real_jobs.submit(stack, DIGITS, SLOWLY, *HALF)  # the last: it ends by itself
        before = real_jobs.until_checkpoint(stack, low, 1)
        high = real_jobs.submit(stack, DIGITS, (*SHORTLY, f"resources.min_workers={cpus()}"), *MORE)
    real_jobs.until(stack, high, lambda detail: bool(detail.attempts), real_jobs.START_SECONDS, "it gets no room")
    with real_jobs.client(stack) as client:
        for job_id, said in ((evaluation, "was asked to end, and stops in nll_20000"), (search, "this attempt shall")):
            first = client.job(job_id).attempts[0]
            assert (first.state, first.error) == ("REQUEUED", f"makes room for {high}, of priority 7")
            assert said in client.logs(job_id, attempt=1).text
            assert client.job(job_id).job.failures == 0
            client.cancel(job_id)  # before there is room for them again
    above = real_jobs.until_over(stack, high)
    assert [each.state for each in above.attempts] == ["SUCCEEDED"]
    detail = real_jobs.until_over(stack, low)
    assert [(each.number, each.state) for each in detail.attempts] == [(1, "REQUEUED"), (2, "SUCCEEDED")]
    assert detail.attempts[0].error == f"makes room for {high}, of priority 7"
    assert (detail.job.failures, detail.job.outages, detail.job.result["steps"]) == (0, 0, STEPS)
    with real_jobs.client(stack) as client:
        asked, preempted = (e for e in client.events(low) if e.kind in ("stop_asked", "preempted"))
        (admitted,) = (e for e in client.events(high) if e.kind == "admitted")
    assert len(admitted.detail["nodes"]) == cpus()  # its workers
    assert asked.detail["to_job"] == preempted.detail["to_job"] == high
    assert asked.at <= preempted.at <= admitted.at
    left = [each.step for each in detail.checkpoints if each.attempt == 1]
    steps = real_jobs.log(stack, low, 2).partition("going on from step ")[2].partition(" ")[0]
    assert int(steps) > max(each.step for each in before.checkpoints)  # one more checkpoint, when it was asked
    assert not left or int(steps) >= max(left)
    assert real_jobs.final_outcome(stack, detail, tmp_path / "last") == uninterrupted


def computes(command: str) -> bool:
    return is_worker(command) or command.startswith("ray::ImplicitFunc")  # as Ray Tune calls a search's


def until_it_counts(stack: Stack, job_id: str, name: str) -> None:
    """Once its progress has more than 0 of this."""

    def begun(detail: JobDetail) -> bool:
        return int(detail.job.progress.get(name, 0)) > 0

    real_jobs.until(stack, job_id, begun, real_jobs.START_SECONDS, "it does not begin")


def test_a_gang_that_shrinks_grows_and_is_preempted_computes_what_an_undisturbed_worker_does(
    stack: Stack, tmp_path: Path
) -> None:
    def put(overrides: tuple[str, ...], priority: int, workers: object) -> str:
        asked = spec.resolve(DIGITS, list(overrides), priority=priority, resources={"workers": workers})
        with real_jobs.client(stack) as client:
            return client.submit(asked).id

    def attempt(number: int) -> int:
        """The step of its first checkpoint."""
        made = real_jobs.until_checkpoint_of(stack, low, number).checkpoints
        return min(each.step for each in made if each.attempt == number)

    low = put(GANG, 0, {"min": 1, "max": cpus()})
    attempt(1)
    beside = put((f"steps={LONG}", "evaluation.every_epochs=100"), 7, 1)
    with slowed(lambda: processes(beside, is_worker)):  # it is there, and leaves the processors to the other
        attempt(2)
    with real_jobs.client(stack) as client:
        client.cancel(beside)
    attempt(3)
    whole = put(SHORTLY, 7, cpus())
    real_jobs.until_over(stack, whole)
    attempt(4)
    with real_jobs.client(stack) as client:
        client.cancel(low)
    detail = real_jobs.until_over(stack, low, "CANCELLED")
    with real_jobs.client(stack) as client:
        events = client.events(low)
    assert [each.state for each in detail.attempts] == ["REQUEUED", "REQUEUED", "REQUEUED", "CANCELLED"]
    sizes = [len(each.detail["nodes"]) for each in events if each.kind == "admitted"]
    assert sizes == [cpus(), cpus() - 1, cpus(), cpus()]
    assert [each.kind for each in events if each.kind in ("resized", "preempted")] == ["resized"] * 2 + ["preempted"]
    assert (detail.job.failures, detail.job.outages) == (0, 0)
    for number in (2, 3, 4):
        assert re.search(r"going on from step \d+ ", real_jobs.log(stack, low, number))
    assert lost_steps(stack, low, detail) == 0
    last = max(detail.checkpoints, key=lambda each: each.step)
    fetched = real_jobs.artifacts(stack).get_directory(last.uri, tmp_path / "last", last.manifest_sha256)
    weights = load_file(fetched / checkpoint.MODEL)
    expected = undisturbed(last.step, tmp_path / "undisturbed")
    assert weights.keys() == expected.keys()
    for name, tensor in weights.items():
        torch.testing.assert_close(tensor, expected[name], rtol=1e-9, atol=1e-9)


def lost_steps(stack: Stack, job_id: str, detail: JobDetail) -> int:
    """Between the last checkpoint of each attempt and where the next one went on."""
    with real_jobs.client(stack) as client:
        made: list[tuple[int | None, Any]] = [
            (each.attempt, each.detail["step"]) for each in client.events(job_id) if each.kind == "checkpoint"
        ]
    lost = 0
    for each in detail.attempts[1:]:
        said = re.search(r"going on from step (\d+) ", real_jobs.log(stack, job_id, each.number))
        assert said is not None
        lost += max(step for number, step in made if number == each.number - 1) - int(said[1])
    return lost


def undisturbed(steps: int, folder: Path) -> dict[str, torch.Tensor]:
    """The weights after so many steps in this process, without evaluations."""
    overrides = [*GANG, f"steps={steps}", "evaluation.every_epochs=100000", f"checkpoint.every_steps={steps}"]
    train(spec.resolve(DIGITS, overrides).train, LocalContext(folder))
    return load_file(max((folder / "checkpoints").glob("step-*")) / checkpoint.MODEL)
