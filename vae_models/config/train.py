"""A whole run, checked."""

from __future__ import annotations

from pydantic import model_validator

from vae_models.config.compatibility import check
from vae_models.config.run import RunConfig


class TrainConfig(RunConfig):
    """Everything that a run's result depends on; `vae_models.training.loop.train` takes it to its end.

    The parts must go together (`compatibility.RULES`), else a ValidationError says which do not and why.
    """

    @model_validator(mode="after")
    def _one_budget(self) -> TrainConfig:
        if (self.epochs is None) == (self.steps is None):
            raise ValueError("give exactly one of epochs and steps")
        return self

    @model_validator(mode="after")
    def _parts_fit(self) -> TrainConfig:
        check(self)
        return self
