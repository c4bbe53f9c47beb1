"""Optuna's samplers as a search: the only module that imports optuna.

The search has no state of its own. Its assignments are a function of what the ones before them gave: a fresh sampler is
given the same asks and tells in the same order, and so the same answers. So a search that was killed goes on where it
was.
"""

from __future__ import annotations

import json
import logging
import threading
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Literal, Protocol

from tuning.space import IntLogUniform, IntUniform, LogUniform, Space, Values
from vae_models.measures import Goal, Mode

if TYPE_CHECKING:
    from optuna.distributions import BaseDistribution


class Numbers(Protocol):
    """Of a search: see `tuning.searchers.specs.OptunaSearch`."""

    trials: int
    batch: int
    startup: int
    sampler: Literal["tpe", "gp"]
    seed: int


def assignments(
    search: Numbers, space: Space, goal: Goal, value: Callable[[int], float | None], over: Callable[[int], bool]
) -> Iterator[dict[str, Any]]:
    """Yield the assignments known by now: batch after batch, up to the first in which not every assignment has ended.

    over, value: of the assignment with this number, whether all its seeds have ended, and their mean; None for one that
    failed. Raise ValueError where optuna is not installed.
    """
    optuna = _optuna()
    made = _Gaussian if search.sampler == "gp" else _Parzen
    asked = made(optuna, search, space, goal.mode)
    number = 0
    while number < search.trials:
        batch = asked.ask(min(search.batch, search.trials - number))
        yield from (_values(params, space) for params in batch)
        places = range(number, number + len(batch))
        if not all(over(place) for place in places):
            return
        asked.tell([value(place) for place in places])
        number += len(batch)


class _Parzen:
    """Ask and tell as Optuna means it."""

    def __init__(self, optuna: Any, search: Numbers, space: Space, mode: Mode) -> None:
        self._optuna = optuna
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
            sampler = optuna.samplers.TPESampler(seed=search.seed, n_startup_trials=search.startup, multivariate=True)
        self._study = optuna.create_study(direction=_DIRECTIONS[mode], sampler=sampler)
        self._distributions = _distributions(space)
        self._asked: list[Any] = []

    def ask(self, count: int) -> list[dict[str, Any]]:
        self._asked = [self._study.ask(self._distributions) for _ in range(count)]
        return [trial.params for trial in self._asked]

    def tell(self, values: Sequence[float | None]) -> None:
        """Report the values of the last asked assignments."""
        for trial, value in zip(self._asked, values, strict=True):
            if value is None:
                self._study.tell(trial, state=self._optuna.trial.TrialState.FAIL)
            else:
                self._study.tell(trial, value)


class _Gaussian:
    """Ask and tell of a Gaussian process, which does not see running trials: at each ask the batch's earlier
    assignments are reported with the mean so far, and withdrawn after it."""

    def __init__(self, optuna: Any, search: Numbers, space: Space, mode: Mode) -> None:
        to_json = optuna.distributions.distribution_to_json
        self._search = search
        self._mode = mode
        self._space = json.dumps({path: to_json(distribution) for path, distribution in _distributions(space).items()})
        self._known: list[tuple[dict[str, Any], float]] = []
        self._asked: list[dict[str, Any]] = []
        self._number = 0

    def ask(self, count: int) -> list[dict[str, Any]]:
        values = [value for _, value in self._known]
        mean = sum(values) / len(values) if values else 0.0
        self._asked = []
        for _ in range(count):
            lies = [(params, mean) for params in self._asked] if values else []
            self._asked.append(self._one([*self._known, *lies]))
        return self._asked

    def tell(self, values: Sequence[float | None]) -> None:
        """Report the values of the last asked assignments; failed ones are forgotten."""
        self._known += [(params, value) for params, value in zip(self._asked, values, strict=True) if value is not None]

    def _one(self, known: Sequence[tuple[dict[str, Any], float]]) -> dict[str, Any]:
        seed = self._search.seed * 1_000_003 + self._number
        self._number += 1
        history = json.dumps(known)
        with _COMPUTING:  # who asks meanwhile waits for the same answer
            drawn: dict[str, Any] = json.loads(
                _expected_improvement(self._space, self._mode, self._search.startup, seed, history)
            )
        return drawn


_COMPUTING = threading.Lock()


@lru_cache(maxsize=10_000)
def _expected_improvement(space: str, mode: str, startup: int, seed: int, known: str) -> str:
    """Return the next assignment, about half a second of computing; arguments and result as JSON.

    It is a pure function, so each is computed once in a process however often the search is gone through.
    """
    optuna = _optuna()
    distributions = {path: optuna.distributions.json_to_distribution(text) for path, text in json.loads(space).items()}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        sampler = optuna.samplers.GPSampler(
            seed=seed,
            n_startup_trials=startup,
            independent_sampler=optuna.samplers.RandomSampler(seed=seed),
            warn_independent_sampling=False,
        )
    study = optuna.create_study(direction=_DIRECTIONS[mode], sampler=sampler)
    for params, value in json.loads(known):
        study.add_trial(optuna.trial.create_trial(params=params, distributions=distributions, value=value))
    return json.dumps(study.ask(distributions).params)


_DIRECTIONS = {"max": "maximize", "min": "minimize"}


def _optuna() -> Any:
    try:
        import optuna
    except ImportError:
        raise ValueError("search.kind=optuna needs the package optuna: pip install 'vaesvc[optuna]'") from None
    optuna.logging.set_verbosity(logging.WARNING)
    return optuna


def _distributions(space: Space) -> dict[str, BaseDistribution]:
    from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

    distributions: dict[str, BaseDistribution] = {}
    for path, domain in space.items():
        if isinstance(domain, Values):
            distributions[path] = CategoricalDistribution(list(range(len(domain.values))))  # a value may be a mapping
        elif isinstance(domain, IntUniform | IntLogUniform):
            distributions[path] = IntDistribution(domain.low, domain.high, log=isinstance(domain, IntLogUniform))
        else:
            distributions[path] = FloatDistribution(domain.low, domain.high, log=isinstance(domain, LogUniform))
    return distributions


def _values(params: Mapping[str, Any], space: Space) -> dict[str, Any]:
    return {
        path: domain.values[params[path]] if isinstance(domain, Values) else params[path]
        for path, domain in space.items()
    }
