"""What chooses the assignments of a stage, as data."""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Iterator
from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import Field

from tuning import space as spaces
from tuning.searchers import population
from tuning.searchers.draw import Draw, Over, Value
from tuning.space import LIMIT, Space
from vae_models import bounds
from vae_models.measures import Goal
from vae_models.parts import Seam, spec_of
from vae_models.strict import Strict

SHOWN = 10  # paths that an error names


class SearcherSpec(Strict):
    """What chooses the assignments of a stage, as data.

    complete:  whether every assignment is known before any is trained, so that each is checked when it is read
    more:      whether its `trials` may be raised: the first ones stay as they are
    lengthens: whether it says itself how long a trial is trained, and goes on from another trial's weights
    """

    complete: ClassVar[bool] = False
    more: ClassVar[bool] = False
    lengthens: ClassVar[bool] = False

    if TYPE_CHECKING:
        kind: str

    @abstractmethod
    def draws(self, space: Space, goal: Goal, value: Value, over: Over) -> Iterator[Draw]:
        """Yield the assignments known by now, in their order: a pure function of the results of the ones before.

        value, over: of the assignment of a number, its mean over all seeds (None: it failed), and whether it has ended
        """

    @abstractmethod
    def planned(self, space: Space) -> int:
        """Return how many assignments there will be in all, those that are not known yet included."""

    def counted(self, space: Space) -> tuple[str, str]:
        """Return what `planned` counts, and how to reduce it, as texts for people."""
        return f"{self.planned(space):,} assignments", "fewer of either"

    def side_by_side(self, known: int) -> int:
        """Return how many of the known assignments are trained at a time, and may be compared meanwhile."""
        return known


class GridSearch(SearcherSpec):
    """Every combination."""

    complete: ClassVar[bool] = True

    kind: Literal["grid"] = "grid"

    def draws(self, space: Space, goal: Goal, value: Value, over: Over) -> Iterator[Draw]:
        """Yield every point, the last path fastest."""
        return (Draw(assignment=assignment) for assignment in spaces.grid(space))

    def planned(self, space: Space) -> int:
        """Return the product of the numbers of points of every path."""
        return math.prod(spaces.counts(space).values())

    def counted(self, space: Space) -> tuple[str, str]:
        """Return the points of each path, and how to reduce them."""
        counts = spaces.counts(space)
        shown = " x ".join(f"{count:,} of {path}" for path, count in list(counts.items())[:SHOWN])
        mend = "fewer points of each, a stage for some of the paths, or search.kind=random with so many trials"
        return f"{shown}{' x ...' if len(counts) > SHOWN else ''}", mend


class RandomSearch(SearcherSpec):
    """Independent draws, each a function of (seed, number): more trials leave the first ones as they are."""

    more: ClassVar[bool] = True

    kind: Literal["random"] = "random"
    trials: int = Field(ge=1, le=LIMIT, description="assignments, each with every repeat")
    seed: bounds.Seed = 0

    def draws(self, space: Space, goal: Goal, value: Value, over: Over) -> Iterator[Draw]:
        """Yield assignments drawn independently, each from its own number."""
        return (Draw(assignment=spaces.sample(space, number, self.seed)) for number in range(self.trials))

    def planned(self, space: Space) -> int:
        """Return the number of trials in the specification."""
        return self.trials


class OptunaSearch(SearcherSpec):
    """`batch` assignments at a time, each batch chosen by what the ones before gave. Needs optuna.

    sampler: a tree-structured Parzen estimator (Bergstra et al. 2011) or Bayesian optimization with a Gaussian process
    and the expected improvement, the batch's earlier assignments counted as if they had given the mean so far (the
    constant liar of Ginsbourger et al. 2010).
    """

    more: ClassVar[bool] = True

    kind: Literal["optuna"] = "optuna"
    trials: int = Field(ge=1, le=LIMIT, description="assignments, each with every repeat")
    batch: int = Field(default=8, ge=1, le=LIMIT, description="assignments that are trained side by side")
    startup: int = Field(
        default=8, ge=1, le=LIMIT, description="assignments drawn at random before the first is chosen"
    )
    sampler: Literal["tpe", "gp"] = "tpe"
    seed: bounds.Seed = 0

    def draws(self, space: Space, goal: Goal, value: Value, over: Over) -> Iterator[Draw]:
        """Yield batch after batch. Raise ValueError where optuna is not installed."""
        from tuning.searchers import parzen

        return (Draw(assignment=assignment) for assignment in parzen.assignments(self, space, goal, value, over))

    def planned(self, space: Space) -> int:
        """Return the number of trials in the specification."""
        return self.trials

    def side_by_side(self, known: int) -> int:
        """Return the size of the last batch."""
        return (known - 1) % self.batch + 1


class PopulationSearch(SearcherSpec):
    """Population based training (Jaderberg et al. 2017).

    `size` random draws are trained for `epochs`; then the worst `quantile` of them go on from the weights and the
    optimizer of one of the best `quantile`, with values near its own or drawn again; the others go on as they are; and
    so on for `generations`. Each member of each generation is a trial.
    """

    lengthens: ClassVar[bool] = True

    kind: Literal["population"] = "population"
    size: int = Field(ge=2, le=LIMIT)
    generations: int = Field(ge=2, le=LIMIT)
    epochs: float = Field(gt=0, le=bounds.EPOCHS, description="of each generation")
    quantile: float = Field(default=0.25, gt=0, le=0.5)
    resample: float = Field(default=0.25, ge=0, le=1, description="probability that a value is drawn again")
    seed: bounds.Seed = 0

    def draws(self, space: Space, goal: Goal, value: Value, over: Over) -> Iterator[Draw]:
        """Yield generation after generation."""
        return population.draws(self, space, goal, value, over)

    def planned(self, space: Space) -> int:
        """Return the number of members of all generations."""
        return self.size * self.generations

    def counted(self, space: Space) -> tuple[str, str]:
        """Return members and generations, and how to reduce them."""
        return (
            f"{self.size:,} members x {self.generations:,} generations",
            "smaller size or fewer generations",
        )


OURS = (GridSearch, RandomSearch, OptunaSearch, PopulationSearch)
SEARCHERS = Seam[type[SearcherSpec]](
    "searcher", ["tuning.searchers.specs:OURS"], check=spec_of(SearcherSpec), summary="what chooses what is tried"
)

if TYPE_CHECKING:
    SearchConfig = SearcherSpec
else:
    SearchConfig = SEARCHERS.union()
