"""A kind of job: how many numbers a configuration trains."""

from __future__ import annotations

from typing import Literal

from service.kinds.kind import Kind
from service.specs.job import JobSpec
from vae_models.config.train import TrainConfig


class CountSpec(JobSpec):
    """kind: count-parameters. Of the model in `train`, which is built and not trained."""

    kind: Literal["count-parameters"] = "count-parameters"
    train: TrainConfig


def run(assignment, spec):
    """The job's result."""
    from vae_models.data.sources import SOURCES

    data = spec.train.data
    facts = getattr(data, "facts", None) or SOURCES.get(data.name).facts
    model = spec.train.model.build(facts.shape)
    return {"parameters": sum(parameter.numel() for parameter in model.parameters())}


def outcome(result):
    """Lines for people."""
    return [f"{result['parameters']:,} trained numbers"] if "parameters" in result else []


KIND = Kind(kind="count-parameters", noun="a count of parameters", spec=CountSpec, run=run, outcome=outcome)
