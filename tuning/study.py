"""A study: which configurations are tried, with which seeds, and what makes one the best."""

from __future__ import annotations

import difflib
import hashlib
import json
import statistics
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial
from types import MappingProxyType
from typing import Any, Literal

from pydantic import Field, ValidationInfo, model_validator

from tuning import space as spaces
from tuning.pruners.specs import NoPruning, PruningConfig
from tuning.searchers.draw import Draw
from tuning.searchers.specs import GridSearch, SearchConfig
from tuning.space import LIMIT, Assignment, Space
from vae_models import bounds, measures
from vae_models.config.shape import shape_of
from vae_models.config.train import TrainConfig
from vae_models.measures import Goal, Mode
from vae_models.open_union import Foreign, has_foreign, has_others
from vae_models.optimization.specs import SCHEDULES
from vae_models.strict import Strict

State = Literal["done", "pruned", "failed", "missing"]

PATHS = 100  # that a stage varies
STAGES = 50


class StageConfig(Strict):
    """One search. A later stage starts from the configuration that won the one before."""

    name: str = Field(min_length=1, max_length=40, pattern=r"^[a-z0-9][a-z0-9-]*$")
    space: Space = Field(min_length=1, max_length=PATHS)
    metric: str = Field(default="val/elbo", max_length=bounds.TEXT)
    mode: Mode = Field(
        default_factory=lambda given: measures.direction(given.get("metric", "")) or "max",
        description="which way the metric is better; left out: as it is, and the other is refused",
    )
    repeats: tuple[bounds.Seed, ...] = Field(
        default=(0,), min_length=1, max_length=bounds.LISTED, description="seeds; the mean over them decides"
    )
    search: SearchConfig = GridSearch()
    pruning: PruningConfig = NoPruning()

    @model_validator(mode="before")
    @classmethod
    def _lists_are_values(cls, given: Any) -> Any:
        if not isinstance(given, Mapping) or not isinstance(given.get("space"), Mapping):
            return given
        named = {}
        for path, domain in given["space"].items():
            if domain is None or isinstance(domain, bool | int | float | str):
                raise ValueError(f"space: {path}: {domain!r} is one value; what is tried is a list, [{domain!r}, ...]")
            values = isinstance(domain, list | tuple)
            named[path] = {"kind": "values", "values": tuple(domain)} if values else domain
        return {**given, "space": named}

    @model_validator(mode="before")
    @classmethod
    def _as_the_measure_is(cls, given: Any, info: ValidationInfo) -> Any:
        return measures.own_mode(given, cls.model_fields["metric"].default) if measures.is_stored(info) else given

    @property
    def goal(self) -> Goal:
        """Return the goal by which the winner is chosen."""
        return Goal(metric=self.metric, mode=self.mode)

    @model_validator(mode="after")
    def _sane(self) -> StageConfig:
        if measures.quantity(self.metric) is not None:  # else it is not measured, whatever the base is
            Goal.of(self.metric, self.mode if "mode" in self.model_fields_set else None)
        if len(set(self.repeats)) < len(self.repeats):
            raise ValueError(f"repeats: a seed is named twice: {list(self.repeats)}")
        if "seed" in self.space:
            raise ValueError("space: seeds are not searched over; name them in `repeats`, whose mean decides")
        if self.foreign:
            return self
        if self.search.lengthens:
            if self.pruning.prunes:
                raise ValueError(
                    f"pruning: a {self.search.kind} is selected between its generations; it should be none"
                )
            if length := {"steps", "epochs"} & self.space.keys():
                raise ValueError(f"space: {length.pop()} of a {self.search.kind} is what search.epochs says")
        self._refuse_too_many()
        return self

    @property
    def foreign(self) -> bool:
        """Return whether the search or the pruner is of a job's own code, not installed in this process:
        nothing is planned.
        """
        return isinstance(self.search, Foreign) or isinstance(self.pruning, Foreign)

    def draws(self, outcomes: Mapping[int, Outcome] = MappingProxyType({})) -> Iterator[Draw]:
        """Yield its assignments. outcomes: of the trials that have ended;
        a search that learns from them then yields more.
        """
        return self.search.draws(self.space, self.goal, partial(self._mean, outcomes), partial(self._over, outcomes))

    def planned(self) -> int:
        """Return the number of trials in all, those that are not known yet included."""
        return self.search.planned(self.space) * len(self.repeats)

    def _refuse_too_many(self) -> None:
        """Raise ValueError where too many trials are planned, with their number, its factors and a remedy;
        none is made.
        """
        if (planned := self.planned()) <= LIMIT:
            return
        seeds = f" x {len(self.repeats)} seeds" if len(self.repeats) > 1 else ""
        what, mend = self.search.counted(self.space)
        raise ValueError(
            f"stage {self.name}: {planned:,} trials ({what}{seeds}); at most {LIMIT:,} are taken: choose {mend}"
        )

    def side_by_side(self, known: int) -> int:
        """Return how many of `known` assignments are trained at a time, and may be compared meanwhile."""
        return self.search.side_by_side(known)

    def _of(self, outcomes: Mapping[int, Outcome], candidate: int) -> list[Outcome | None]:
        seeds = len(self.repeats)
        return [outcomes.get(candidate * seeds + place) for place in range(seeds)]

    def _over(self, outcomes: Mapping[int, Outcome], candidate: int) -> bool:
        return all(outcome is not None for outcome in self._of(outcomes, candidate))

    def _mean(self, outcomes: Mapping[int, Outcome], candidate: int) -> float | None:
        """Return the mean over all seeds of an assignment; None unless every seed was trained to its end."""
        by_seed = self._of(outcomes, candidate)
        values = [
            outcome.value
            for outcome in by_seed
            if outcome is not None and outcome.state == "done" and outcome.value is not None
        ]
        return statistics.fmean(values) if len(values) == len(by_seed) else None


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """How a trial ended. value: the metric, None when it was not measured or not finite; error: of a failed one;
    metrics: the last value of each name; steps: that it took."""

    state: State
    value: float | None = None
    error: str | None = None
    metrics: Mapping[str, float] = field(default_factory=dict)
    steps: int = 0


@dataclass(frozen=True, kw_only=True)
class Trial:
    """One run: `number` counts through its stage; `candidate` is the number of its assignment there. epochs: where
    the search says how long it is; origin: the key of the trial whose last checkpoint it starts from."""

    number: int
    candidate: int
    assignment: Assignment
    seed: int
    config: TrainConfig
    epochs: float | None = None
    origin: str | None = None

    @property
    def key(self) -> str:
        """Return the name of the trial in its stage, valid while its configuration is this one: `0007-3f9a51c2e0b4`."""
        digest = hashlib.sha256(_text(self.config).encode()).hexdigest()
        return f"{self.number:04d}-{digest[:12]}"


def _text(config: TrainConfig) -> str:
    """Return the configuration as one text, the same in every process.

    A process without a part's package keeps the part's fields as given: in their order, with 1 where 1.0 is meant.
    """
    if not has_others(config):
        return config.identity()

    def plain(value: Any) -> Any:
        if isinstance(value, Mapping):
            return {name: plain(each) for name, each in value.items()}
        if isinstance(value, list):
            return [plain(each) for each in value]
        return float(value) if type(value) is int else value

    return json.dumps(plain(json.loads(config.identity())), sort_keys=True)


class StudyConfig(Strict):
    """Everything that a study's result depends on. Wrong paths and impossible values are refused when it is made."""

    base: TrainConfig
    stages: tuple[StageConfig, ...] = Field(min_length=1, max_length=STAGES)

    @model_validator(mode="after")
    def _every_trial_is_valid(self) -> StudyConfig:
        names = [stage.name for stage in self.stages]
        if len(set(names)) < len(names):
            raise ValueError(f"stages: two have one name: {names}")
        if any(stage.foreign for stage in self.stages):
            return self
        if (planned := self.size()) > LIMIT:
            counts = ", ".join(f"{stage.name} {stage.planned():,}" for stage in self.stages)
            raise ValueError(f"stages: {planned:,} trials in all ({counts}); at most {LIMIT:,} are taken")
        base = self.base
        for stage in self.stages:
            first = base
            try:
                spaces.refuse_reals(stage.space, base)
            except ValueError as error:
                raise ValueError(f"stage {stage.name}: {error}") from None
            for number, trial in enumerate(trials(stage, base)):
                if number == 0:
                    first = trial.config
            base = first
            if has_foreign(base):
                continue
            _check_corners(stage, base)
            if stage.metric not in first.metrics():
                near = difflib.get_close_matches(stage.metric, first.metrics(), n=1)
                hint = f"; did you mean {near[0]}?" if near else ""
                raise ValueError(
                    f"stage {stage.name}: {stage.metric} is not measured; there are {', '.join(first.metrics())}{hint}"
                )
            if stage.pruning.prunes and _comes_last(stage.metric, first):
                raise ValueError(
                    f"stage {stage.name}: {stage.metric} is measured at the end only, too late for pruning: "
                    "choose one of val, with evaluation.betas_at_end_only set to false if it is at a beta"
                )
        return self

    def size(self) -> int:
        """Return the number of trials of all stages."""
        return sum(stage.planned() for stage in self.stages)


def _check_corners(stage: StageConfig, base: TrainConfig) -> None:
    """Check the extremes of what a search may choose. Raise InvalidAssignment where one of them cannot be trained."""
    if stage.search.complete:
        return
    for end in (0.0, 1.0):
        spaces.with_values(base, {path: domain.at(end) for path, domain in stage.space.items()})
    if not stage.search.lengthens:
        return
    if base.schedule.whole_run:
        others = [kind for kind, spec in SCHEDULES.all().items() if not spec.whole_run]
        raise ValueError(
            f"stage {stage.name}: a {base.schedule.kind} schedule depends on the length of a run, and a "
            f"{stage.search.kind}'s runs are lengthened generation by generation: schedule.kind should be "
            f"{' or '.join(others)}"
        )
    for path, domain in stage.space.items():
        values = domain.values if isinstance(domain, spaces.Values) else (domain.at(0.0), domain.at(1.0))
        if len({shape_of(spaces.with_values(base, {path: value})) for value in values}) > 1:
            raise ValueError(f"stage {stage.name}: {path} changes what is trained: weights cannot be handed on")


def trials(
    stage: StageConfig, base: TrainConfig, outcomes: Mapping[int, Outcome] = MappingProxyType({})
) -> Iterator[Trial]:
    """Yield the trials of one stage: one for every assignment and seed.
    Raise InvalidAssignment where `base` refuses one.

    outcomes: see `StageConfig.draws`.
    """
    keys: list[str] = []
    for candidate, draw in enumerate(stage.draws(outcomes)):
        for place, seed in enumerate(stage.repeats):
            origin = None if draw.origin is None else keys[draw.origin * len(stage.repeats) + place]
            trial = made(base, len(keys), candidate, seed, draw.assignment, draw.epochs, origin)
            keys.append(trial.key)
            yield trial


def known(
    stage: StageConfig, base: TrainConfig, find: Callable[[Trial], Outcome | None]
) -> tuple[list[Trial], dict[int, Outcome]]:
    """Return the trials known by now, and the outcomes of those that have ended.
    find: a trial's outcome, None without one.
    """
    outcomes: dict[int, Outcome] = {}
    while True:
        every = list(trials(stage, base, outcomes))
        ended = {trial.number: outcome for trial in every if (outcome := find(trial)) is not None}
        if len(ended) == len(outcomes):
            return every, outcomes
        outcomes = ended


def planned_steps(config: TrainConfig) -> int:
    """Return the optimizer steps of a run on the whole training set of its data."""
    return config.steps or round((config.epochs or 0) * config.data.facts.sizes[0] / config.batch_size)


def made(
    base: TrainConfig,
    number: int,
    candidate: int,
    seed: int,
    assignment: Assignment,
    epochs: float | None = None,
    origin: str | None = None,
) -> Trial:
    """Return the trial of an assignment on `base`. epochs: in place of `base`'s. origin: see `Trial`."""
    length = {} if epochs is None else {"epochs": epochs}
    config = spaces.with_values(base, {**assignment, "seed": seed, **length})
    return Trial(
        number=number, candidate=candidate, assignment=assignment, seed=seed, config=config, epochs=epochs,
        origin=origin,
    )  # fmt: skip


def _comes_last(metric: str, config: TrainConfig) -> bool:
    """Return whether only a run's last evaluation reports the metric."""
    at_other_beta = metric.startswith("val/beta_") and config.evaluation.betas_at_end_only
    return at_other_beta or metric.startswith(f"{measures.ON_TRAIN}/")
