"""Which checkpoint of a job becomes its model."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from service.queue.jobs import Checkpoint, Job
from service.spec import TrainSpec
from service.study_spec import StudySpec, parse
from vae_models.measures import Mode

if TYPE_CHECKING:
    from service.artifacts import Artifacts
    from service.registry import Sign
    from service.wire import ModelVersion


@dataclass(frozen=True, kw_only=True)
class Choice:
    """What is registered. job: with the configuration of exactly these weights as its `train`; tags: why these."""

    job: Job
    checkpoint: Checkpoint
    metric: str
    mode: Mode
    tags: Mapping[str, str] = field(default_factory=dict)

    def register(self, mlflow_uri: str | None, artifacts: Artifacts, sign: Sign) -> ModelVersion:
        """sign: asks the service, which reads the files before it signs them."""
        from service import registry

        return registry.register(
            mlflow_uri, artifacts, self.job, self.checkpoint, self.metric, self.mode, tags=self.tags, sign=sign
        )


def choose(job: Job, result: Mapping[str, Any], checkpoints: Callable[[], Sequence[Checkpoint]]) -> Choice | None:
    """Of a train job the best checkpoint, of a study its winner's. None when there is none.

    result: what the attempt ended with; checkpoints: fetches those that the job keeps, where they are needed.
    """
    spec = parse(job.spec)
    if isinstance(spec, StudySpec):
        return _of_study(job, result.get("winner"))
    best = best_checkpoint(checkpoints(), spec)
    config = spec.train.checkpoint
    return None if best is None else Choice(job=job, checkpoint=best, metric=config.metric, mode=config.mode)


def best_checkpoint(found: Sequence[Checkpoint], spec: TrainSpec) -> Checkpoint | None:
    """The best by the spec's metric; where none has it, the newest. None when there is none."""
    config = spec.train.checkpoint
    scored = [one for one in found if config.metric in one.metrics]
    if scored:
        return max(scored, key=lambda one: (config.goal.score(one.metrics[config.metric]), one.step))
    return max(found, key=lambda one: (one.epoch, one.step), default=None)


def _of_study(job: Job, winner: Mapping[str, Any] | None) -> Choice | None:
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
