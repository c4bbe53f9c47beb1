"""Optuna's tree-structured Parzen estimator as a search: the only module that imports optuna.

The search has no state of its own. Its assignments are a function of what the ones before them gave: a fresh sampler is
asked and told the same things in the same order, and says the same. So a search that was killed goes on where it was.
"""

from __future__ import annotations

import logging
import warnings
from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

from tuning.space import LogUniform, Space, Values

if TYPE_CHECKING:
    from optuna.distributions import BaseDistribution

    from tuning.study import OptunaSearch


def assignments(
    search: OptunaSearch, space: Space, mode: str, value: Callable[[int], float | None], over: Callable[[int], bool]
) -> Iterator[dict[str, Any]]:
    """Those that can be known: batch after batch, up to the first of which not every assignment is over.

    over, value: of the assignment with this number, whether all its seeds have ended, and their mean; None for one that
    failed. ValueError where optuna is not installed.
    """
    optuna = _optuna()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        sampler = optuna.samplers.TPESampler(seed=search.seed, n_startup_trials=search.startup, multivariate=True)
    study = optuna.create_study(direction="maximize" if mode == "max" else "minimize", sampler=sampler)
    distributions = _distributions(space)
    number = 0
    while number < search.trials:
        batch = [study.ask(distributions) for _ in range(min(search.batch, search.trials - number))]
        yield from (_values(trial.params, space) for trial in batch)
        if not all(over(number + place) for place in range(len(batch))):
            return
        for place, trial in enumerate(batch):
            found = value(number + place)
            if found is None:
                study.tell(trial, state=optuna.trial.TrialState.FAIL)
            else:
                study.tell(trial, found)
        number += len(batch)


def _optuna() -> Any:
    try:
        import optuna
    except ImportError:
        raise ValueError("search.kind=optuna needs the package optuna: pip install 'vaesvc[optuna]'") from None
    optuna.logging.set_verbosity(logging.WARNING)
    return optuna


def _distributions(space: Space) -> dict[str, BaseDistribution]:
    from optuna.distributions import CategoricalDistribution, FloatDistribution

    found: dict[str, BaseDistribution] = {}
    for path, domain in space.items():
        if isinstance(domain, Values):
            found[path] = CategoricalDistribution(list(range(len(domain.values))))  # a value may be a mapping
        else:
            found[path] = FloatDistribution(domain.low, domain.high, log=isinstance(domain, LogUniform))
    return found


def _values(params: Mapping[str, Any], space: Space) -> dict[str, Any]:
    return {
        path: domain.values[params[path]] if isinstance(domain, Values) else params[path]
        for path, domain in space.items()
    }
