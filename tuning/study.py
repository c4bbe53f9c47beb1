"""A study: which configurations are tried, with which seeds, and what makes one the best."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Literal

from pydantic import Discriminator, Field, model_validator

from tuning import space as spaces
from tuning.space import Assignment, Domain
from vae_models.config import TrainConfig
from vae_models.config.base import Strict

LIMIT = 10_000  # trials of a stage: more is a mistake in the space


class GridSearch(Strict):
    """Every combination."""

    kind: Literal["grid"] = "grid"


class RandomSearch(Strict):
    """Independent draws, each a function of (seed, number): more trials leave the first ones as they are."""

    kind: Literal["random"] = "random"
    trials: int = Field(ge=1, le=LIMIT, description="assignments, each with every repeat")
    seed: int = Field(default=0, ge=0)


class NoPruning(Strict):
    """Every trial to its end."""

    kind: Literal["none"] = "none"


class Halving(Strict):
    """Successive halving (Jamieson and Talwalkar 2016).

    At the first evaluation at or after `epochs`, `epochs` x `factor`, `epochs` x `factor`^2, ... the best 1/`factor` of
    the assignments that are left go on.
    """

    kind: Literal["halving"] = "halving"
    epochs: float = Field(default=1.0, gt=0, description="before the first decision")
    factor: float = Field(default=3.0, gt=1)


class Hyperband(Strict):
    """Hyperband (Li et al. 2018): assignments are dealt to `brackets`, of which each is halved on its own.

    In bracket b = 0, 1, ... the first decision comes after `epochs` x `factor`^b: a slow start is no end.
    """

    kind: Literal["hyperband"] = "hyperband"
    epochs: float = Field(default=1.0, gt=0, description="before the first decision of the first bracket")
    factor: float = Field(default=3.0, gt=1)
    brackets: int = Field(default=3, ge=2, le=20)


class Asha(Strict):
    """Asynchronous successive halving (Li et al. 2020), across packs and processes.

    An assignment that comes to a rung (`epochs`, `epochs` x `factor`, ...) goes on if it is among the best 1/`factor`
    of those that have come there so far, itself included. Nobody waits; so who goes on depends on who came first.
    """

    kind: Literal["asha"] = "asha"
    epochs: float = Field(default=1.0, gt=0, description="the first rung")
    factor: float = Field(default=3.0, gt=1)


PruningConfig = Annotated[NoPruning | Halving | Hyperband | Asha, Discriminator("kind")]


class StageConfig(Strict):
    """One search. A later stage starts from the configuration that won the one before."""

    name: str = Field(min_length=1, max_length=40, pattern=r"^[a-z0-9][a-z0-9-]*$")
    space: Mapping[str, Domain] = Field(min_length=1)
    metric: str = "val/elbo"
    mode: Literal["max", "min"] = "max"
    repeats: tuple[int, ...] = Field(default=(0,), min_length=1, description="seeds; the mean over them decides")
    search: Annotated[GridSearch | RandomSearch, Discriminator("kind")] = GridSearch()
    pruning: PruningConfig = NoPruning()

    @model_validator(mode="before")
    @classmethod
    def _lists_are_values(cls, given: Any) -> Any:
        if not isinstance(given, Mapping) or not isinstance(given.get("space"), Mapping):
            return given
        named = {
            path: {"kind": "values", "values": tuple(domain)} if isinstance(domain, list | tuple) else domain
            for path, domain in given["space"].items()
        }
        return {**given, "space": named}

    @model_validator(mode="after")
    def _sane(self) -> StageConfig:
        if len(set(self.repeats)) < len(self.repeats):
            raise ValueError(f"repeats: a seed is named twice: {list(self.repeats)}")
        if "seed" in self.space:
            raise ValueError("space: seeds are not searched over; name them in `repeats`, whose mean decides")
        return self

    def assignments(self) -> Iterator[Assignment]:
        if isinstance(self.search, RandomSearch):
            return (spaces.sample(self.space, number, self.search.seed) for number in range(self.search.trials))
        return spaces.grid(self.space)


@dataclass(frozen=True, kw_only=True)
class Trial:
    """One run: `number` counts through its stage; `candidate` is the number of its assignment there."""

    number: int
    candidate: int
    assignment: Assignment
    seed: int
    config: TrainConfig

    @property
    def key(self) -> str:
        """Names the trial in its stage for as long as its configuration is this one: `0007-3f9a51c2e0b4`."""
        digest = hashlib.sha256(self.config.model_dump_json().encode()).hexdigest()
        return f"{self.number:04d}-{digest[:12]}"


class StudyConfig(Strict):
    """Everything that a study's result depends on. Wrong paths and impossible values are refused when it is made."""

    base: TrainConfig
    stages: tuple[StageConfig, ...] = Field(min_length=1)

    @model_validator(mode="after")
    def _every_trial_is_valid(self) -> StudyConfig:
        names = [stage.name for stage in self.stages]
        if len(set(names)) < len(names):
            raise ValueError(f"stages: two have one name: {names}")
        base = self.base
        for stage in self.stages:
            first = base
            for number, trial in enumerate(trials(stage, base)):
                if number == 0:
                    first = trial.config
                if number >= LIMIT:
                    raise ValueError(f"stage {stage.name}: more than {LIMIT:,} trials")
            base = first
            if not _measured(stage.metric, first):
                raise ValueError(
                    f"stage {stage.name}: {stage.metric} is not measured; there are val/elbo, val/rate, "
                    "val/distortion, val/squared_error, train/loss, and for evaluation.betas val/beta_B/elbo, ..."
                )
        return self

    def size(self) -> int:
        """Trials of all stages."""
        return sum(len(list(trials(stage, self.base))) for stage in self.stages)


def trials(stage: StageConfig, base: TrainConfig) -> Iterator[Trial]:
    """Those of one stage: for every assignment one for every seed. InvalidAssignment where `base` does not take one."""
    number = 0
    for candidate, assignment in enumerate(stage.assignments()):
        for seed in stage.repeats:
            config = spaces.with_values(base, {**assignment, "seed": seed})
            yield Trial(number=number, candidate=candidate, assignment=assignment, seed=seed, config=config)
            number += 1


def _measured(metric: str, config: TrainConfig) -> bool:
    """Whether a run of `config` reports it, as far as this can be known before."""
    names = ("elbo", "rate", "distortion", "squared_error")
    prefixes = ("val", *(f"val/beta_{beta:g}" for beta in config.evaluation.betas))
    return metric.startswith("train/") or metric in {f"{prefix}/{name}" for prefix in prefixes for name in names}
