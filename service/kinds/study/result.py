"""Which weights of a study become its model: those of its winner; and which there are."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from service.attempt.best import Choice
from service.queue.jobs import Checkpoint, Job
from vae_models.measures import STORED

if TYPE_CHECKING:
    from service.artifacts import Artifacts


def choose(job: Job, result: Mapping[str, Any], checkpoints: Callable[[], Sequence[Checkpoint]]) -> Choice | None:
    """Return the winner that the attempt's result names; None when there is none."""
    winner = result.get("winner")
    if winner is None:
        return None
    error = winner["standard_error"]
    tags = {
        "vaesvc.study": job.id,
        "vaesvc.stage": str(winner["stage"]),
        "vaesvc.trial": str(winner["trial"]),
        "vaesvc.seed": str(winner["seed"]),
        "vaesvc.assignment": ", ".join(f"{path}={value}" for path, value in winner["assignment"].items()),
        "vaesvc.mean": f"{winner['mean']:.8g}" + ("" if error is None else f" +- {error:.2g}"),
        "vaesvc.reason": str(winner["reason"]),
    }
    return Choice(
        job=job.model_copy(update={"spec": {**job.spec, "kind": "train", "train": winner["config"]}}),
        checkpoint=Checkpoint.model_validate(winner["checkpoint"]),
        metric=winner["metric"],
        mode=winner["mode"],
        tags=tags,
    )


def trained(job: Job, artifacts: Artifacts) -> dict[str, Choice]:
    """Return the trials that have ended with weights, by STAGE/NUMBER. Those of others than the winner are deleted in
    the end, unless the study keeps all."""
    from service.kinds.study.spec import StudySpec
    from service.kinds.study.stage_ends import read

    every: dict[str, Choice] = {}
    for end in read(StudySpec.model_validate(job.spec, context=STORED), artifacts, job.id):
        for number, record in sorted(end.records.items()):
            if record.checkpoint is not None and record.state != "failed":
                train = end.trials[number].config.model_dump(mode="json")
                every[f"{end.stage.name}/{number}"] = Choice(
                    job=job.model_copy(update={"spec": {**job.spec, "kind": "train", "train": train}}),
                    checkpoint=record.checkpoint,
                    metric=end.stage.metric,
                    mode=end.stage.mode,
                )
    return every
