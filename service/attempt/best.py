"""Which checkpoint of a job becomes its model."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from service import kinds
from service.kinds.kind import loaded
from service.queue.jobs import Checkpoint, Job
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
        """Register the model. sign: asks the service, which reads the files before it signs them."""
        from service import registry

        return registry.register(
            mlflow_uri, artifacts, self.job, self.checkpoint, self.metric, self.mode, tags=self.tags, sign=sign
        )


def choose(job: Job, result: Mapping[str, Any], checkpoints: Callable[[], Sequence[Checkpoint]]) -> Choice | None:
    """Return the job's best checkpoint, as its kind chooses; None where nothing becomes a model.

    result: what the attempt ended with; checkpoints: fetches those that the job keeps, where they are needed.
    """
    return loaded(kinds.named(job.kind).choose)(job, result, checkpoints)
