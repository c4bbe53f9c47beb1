"""A study: which configurations are tried, with which seeds, and what makes one the best."""

from __future__ import annotations

import difflib
import hashlib
import math
import statistics
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial
from types import MappingProxyType
from typing import Annotated, Any, Literal

from pydantic import Discriminator, Field, ValidationInfo, model_validator

from tuning import population
from tuning import space as spaces
from tuning.population import Draw
from tuning.space import LIMIT, Assignment, Space
from vae_models import bounds, measures
from vae_models.config.shape import shape_of
from vae_models.config.train import TrainConfig
from vae_models.measures import Goal, Mode
from vae_models.strict import Strict

State = Literal["done", "pruned", "failed", "missing"]

PATHS = 100  # that a stage varies
STAGES = 50
SHOWN = 10  # paths that an error names


class GridSearch(Strict):
    """Every combination."""

    kind: Literal["grid"] = "grid"


class RandomSearch(Strict):
    """Independent draws, each a function of (seed, number): more trials leave the first ones as they are."""

    kind: Literal["random"] = "random"
    trials: int = Field(ge=1, le=LIMIT, description="assignments, each with every repeat")
    seed: bounds.Seed = 0


class OptunaSearch(Strict):
    """`batch` assignments at a time, each batch chosen by what the ones before gave. Needs optuna.

    sampler: a tree-structured Parzen estimator (Bergstra et al. 2011) or Bayesian optimization with a Gaussian process
    and the expected improvement, the batch's earlier assignments counted as if they had given the mean so far (the
    constant liar of Ginsbourger et al. 2010).
    """

    kind: Literal["optuna"] = "optuna"
    trials: int = Field(ge=1, le=LIMIT, description="assignments, each with every repeat")
    batch: int = Field(default=8, ge=1, le=LIMIT, description="assignments that are trained side by side")
    startup: int = Field(
        default=8, ge=1, le=LIMIT, description="assignments drawn at random before the first is chosen"
    )
    sampler: Literal["tpe", "gp"] = "tpe"
    seed: bounds.Seed = 0


class PopulationSearch(Strict):
    """Population based training (Jaderberg et al. 2017).

    `size` random draws are trained for `epochs`; then the worst `quantile` of them go on from the weights and the
    optimizer of one of the best `quantile`, with values near its own or drawn again; the others go on as they are; and
    so on for `generations`. Each member of each generation is a trial.
    """

    kind: Literal["population"] = "population"
    size: int = Field(ge=2, le=LIMIT)
    generations: int = Field(ge=2, le=LIMIT)
    epochs: float = Field(gt=0, le=bounds.EPOCHS, description="of each generation")
    quantile: float = Field(default=0.25, gt=0, le=0.5)
    resample: float = Field(default=0.25, ge=0, le=1, description="probability that a value is drawn again")
    seed: bounds.Seed = 0


class NoPruning(Strict):
    """Every trial to its end."""

    kind: Literal["none"] = "none"


class Halving(Strict):
    """Successive halving (Jamieson and Talwalkar 2016).

    At the first evaluation at or after `epochs`, `epochs` x `factor`, `epochs` x `factor`^2, ... the best 1/`factor` of
    the assignments that are left go on.
    """

    kind: Literal["halving"] = "halving"
    epochs: float = Field(default=1.0, gt=0, le=bounds.EPOCHS, description="before the first decision")
    factor: float = Field(default=3.0, gt=1, le=LIMIT)


class Hyperband(Strict):
    """Hyperband (Li et al. 2018): assignments are dealt to `brackets`, of which each is halved on its own.

    In bracket b = 0, 1, ... the first decision comes after `epochs` x `factor`^b: a slow start is no end.
    """

    kind: Literal["hyperband"] = "hyperband"
    epochs: float = Field(
        default=1.0, gt=0, le=bounds.EPOCHS, description="before the first decision of the first bracket"
    )
    factor: float = Field(default=3.0, gt=1, le=LIMIT)
    brackets: int = Field(default=3, ge=2, le=20)


class Asha(Strict):
    """Asynchronous successive halving (Li et al. 2020), across packs and processes.

    An assignment that comes to a rung (`epochs`, `epochs` x `factor`, ...) goes on if it is among the best 1/`factor`
    of those that have come there so far, itself included. Nobody waits; so who goes on depends on who came first.
    """

    kind: Literal["asha"] = "asha"
    epochs: float = Field(default=1.0, gt=0, le=bounds.EPOCHS, description="the first rung")
    factor: float = Field(default=3.0, gt=1, le=LIMIT)


class Median(Strict):
    """The median rule (Golovin et al. 2017).

    From `epochs` on an assignment stops whose best value so far is worse than the median of the others' means over all
    their evaluations. What was measured before an interruption is forgotten.
    """

    kind: Literal["median"] = "median"
    epochs: float = Field(default=1.0, gt=0, le=bounds.EPOCHS, description="before the first decision")


PruningConfig = Annotated[NoPruning | Halving | Hyperband | Asha | Median, Discriminator("kind")]


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
    search: Annotated[GridSearch | RandomSearch | OptunaSearch | PopulationSearch, Discriminator("kind")] = GridSearch()
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
        """What the winner is the best of."""
        return Goal(metric=self.metric, mode=self.mode)

    @model_validator(mode="after")
    def _sane(self) -> StageConfig:
        if measures.quantity(self.metric) is not None:  # else it is not measured, whatever the base is
            Goal.of(self.metric, self.mode if "mode" in self.model_fields_set else None)
        if len(set(self.repeats)) < len(self.repeats):
            raise ValueError(f"repeats: a seed is named twice: {list(self.repeats)}")
        if "seed" in self.space:
            raise ValueError("space: seeds are not searched over; name them in `repeats`, whose mean decides")
        if isinstance(self.search, PopulationSearch):
            if not isinstance(self.pruning, NoPruning):
                raise ValueError("pruning: a population is selected between its generations; it should be none")
            if length := {"steps", "epochs"} & self.space.keys():
                raise ValueError(f"space: {length.pop()} of a population is what search.epochs says")
        self._refuse_too_many()
        return self

    def draws(self, outcomes: Mapping[int, Outcome] = MappingProxyType({})) -> Iterator[Draw]:
        """Its assignments. outcomes: by trial, what has ended: a search that learns from them knows more then."""
        value, over = partial(self._mean, outcomes), partial(self._over, outcomes)
        if isinstance(self.search, PopulationSearch):
            return population.draws(self.search, self.space, self.goal, value, over)
        found: Iterator[Assignment]
        if isinstance(self.search, OptunaSearch):
            from tuning import optuna_search

            found = optuna_search.assignments(self.search, self.space, self.goal, value, over)
        elif isinstance(self.search, RandomSearch):
            found = (spaces.sample(self.space, number, self.search.seed) for number in range(self.search.trials))
        else:
            found = spaces.grid(self.space)
        return (Draw(assignment=assignment) for assignment in found)

    def planned(self) -> int:
        """Trials in all, those that are not known yet included."""
        if isinstance(self.search, RandomSearch | OptunaSearch):
            return self.search.trials * len(self.repeats)
        if isinstance(self.search, PopulationSearch):
            return self.search.size * self.search.generations * len(self.repeats)
        return math.prod(spaces.counts(self.space).values()) * len(self.repeats)

    def _refuse_too_many(self) -> None:
        """Before any is made: ValueError that says how many they would be, of what, and what to do about it."""
        if (planned := self.planned()) <= LIMIT:
            return
        seeds = f" x {len(self.repeats)} seeds" if len(self.repeats) > 1 else ""
        if isinstance(self.search, PopulationSearch):
            what = f"{self.search.size:,} members x {self.search.generations:,} generations{seeds}"
            mend = "smaller size or fewer generations"
        elif isinstance(self.search, RandomSearch | OptunaSearch):
            what, mend = f"{self.search.trials:,} assignments{seeds}", "fewer of either"
        else:
            counts = spaces.counts(self.space)
            shown = " x ".join(f"{count:,} of {path}" for path, count in list(counts.items())[:SHOWN])
            what = f"{shown}{' x ...' if len(counts) > SHOWN else ''}{seeds}"
            mend = "fewer points of each, a stage for some of the paths, or search.kind=random with so many trials"
        raise ValueError(f"stage {self.name}: {planned:,} trials ({what}); at most {LIMIT:,} are taken: choose {mend}")

    def side_by_side(self, known: int) -> int:
        """Of `known` assignments the number of those that are trained at a time, and may be compared meanwhile."""
        return (known - 1) % self.search.batch + 1 if isinstance(self.search, OptunaSearch) else known

    def _of(self, outcomes: Mapping[int, Outcome], candidate: int) -> list[Outcome | None]:
        seeds = len(self.repeats)
        return [outcomes.get(candidate * seeds + place) for place in range(seeds)]

    def _over(self, outcomes: Mapping[int, Outcome], candidate: int) -> bool:
        return all(outcome is not None for outcome in self._of(outcomes, candidate))

    def _mean(self, outcomes: Mapping[int, Outcome], candidate: int) -> float | None:
        """Of an assignment that was trained to its end with every seed; None for one that failed or was pruned."""
        found = self._of(outcomes, candidate)
        values = [one.value for one in found if one is not None and one.state == "done" and one.value is not None]
        return statistics.fmean(values) if len(values) == len(found) else None


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
        """Names the trial in its stage for as long as its configuration is this one: `0007-3f9a51c2e0b4`."""
        digest = hashlib.sha256(self.config.model_dump_json().encode()).hexdigest()
        return f"{self.number:04d}-{digest[:12]}"


class StudyConfig(Strict):
    """Everything that a study's result depends on. Wrong paths and impossible values are refused when it is made."""

    base: TrainConfig
    stages: tuple[StageConfig, ...] = Field(min_length=1, max_length=STAGES)

    @model_validator(mode="after")
    def _every_trial_is_valid(self) -> StudyConfig:
        names = [stage.name for stage in self.stages]
        if len(set(names)) < len(names):
            raise ValueError(f"stages: two have one name: {names}")
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
            _check_corners(stage, base)
            if stage.metric not in first.metrics():
                near = difflib.get_close_matches(stage.metric, first.metrics(), n=1)
                hint = f"; did you mean {near[0]}?" if near else ""
                raise ValueError(
                    f"stage {stage.name}: {stage.metric} is not measured; there are {', '.join(first.metrics())}{hint}"
                )
            if not isinstance(stage.pruning, NoPruning) and _comes_last(stage.metric, first):
                raise ValueError(
                    f"stage {stage.name}: {stage.metric} is measured at the end only, too late for pruning: "
                    "choose one of val, with evaluation.betas_at_end_only set to false if it is at a beta"
                )
        return self

    def size(self) -> int:
        """Trials of all stages."""
        return sum(stage.planned() for stage in self.stages)


def _check_corners(stage: StageConfig, base: TrainConfig) -> None:
    """What a search will choose is not known yet, but its extremes are. InvalidAssignment where one cannot be."""
    if isinstance(stage.search, GridSearch):
        return
    for end in (0.0, 1.0):
        spaces.with_values(base, {path: domain.at(end) for path, domain in stage.space.items()})
    if not isinstance(stage.search, PopulationSearch):
        return
    if base.schedule.kind != "constant":
        raise ValueError(
            f"stage {stage.name}: a {base.schedule.kind} schedule depends on the length of a run, and a population's "
            "runs are lengthened generation by generation: schedule.kind should be constant"
        )
    for path, domain in stage.space.items():
        values = domain.values if isinstance(domain, spaces.Values) else (domain.at(0.0), domain.at(1.0))
        if len({shape_of(spaces.with_values(base, {path: value})) for value in values}) > 1:
            raise ValueError(f"stage {stage.name}: {path} changes what is trained: weights cannot be handed on")


def trials(
    stage: StageConfig, base: TrainConfig, outcomes: Mapping[int, Outcome] = MappingProxyType({})
) -> Iterator[Trial]:
    """Those of one stage: for every assignment one for every seed. InvalidAssignment where `base` does not take one.

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
    """The trials that are known by now, and how those ended that have. find: how a trial ended, None if it has not."""
    outcomes: dict[int, Outcome] = {}
    while True:
        every = list(trials(stage, base, outcomes))
        found = {trial.number: outcome for trial in every if (outcome := find(trial)) is not None}
        if len(found) == len(outcomes):
            return every, outcomes
        outcomes = found


def made(
    base: TrainConfig,
    number: int,
    candidate: int,
    seed: int,
    assignment: Assignment,
    epochs: float | None = None,
    origin: str | None = None,
) -> Trial:
    """The trial of an assignment on `base`. epochs: instead of those of `base`. origin: see `Trial`."""
    length = {} if epochs is None else {"epochs": epochs}
    config = spaces.with_values(base, {**assignment, "seed": seed, **length})
    return Trial(
        number=number, candidate=candidate, assignment=assignment, seed=seed, config=config, epochs=epochs,
        origin=origin,
    )  # fmt: skip


def _comes_last(metric: str, config: TrainConfig) -> bool:
    """Whether only a run's last evaluation has it."""
    at_other_beta = metric.startswith("val/beta_") and config.evaluation.betas_at_end_only
    return at_other_beta or metric.startswith(f"{measures.ON_TRAIN}/")
