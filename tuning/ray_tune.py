"""Ray Tune runs the packs of a stage: the only module of this package that imports ray.

To Tune a pack is a trial. It finds each a place on the cluster, runs as many side by side as were asked for, keeps the
actors for the next ones, and starts a pack again whose process died; the pack then goes on from what its trials have
kept. What has been found out so far is the caller's to keep: a search goes on because packs are made of the trials that
are left, not because a scheduler was unpickled.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

T = TypeVar("T")

# Before ray.tune is imported. Results are reported elsewhere: Tune's own loggers and tables would only repeat them.
ENVIRONMENT = {
    # without any Tune looks in vain for the last result; a callback that is handed over has it import mlflow, to count
    "RAY_TUNE_CALLBACKS": "ray.tune.logger.JsonLoggerCallback",
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",
    "TUNE_DISABLE_STRICT_METRIC_CHECKING": "1",
    "RAY_AIR_NEW_OUTPUT": "0",
    "RAY_TRAIN_ENABLE_V2_MIGRATION_WARNINGS": "0",
}


NOTHING = {"memory": 1.0}  # bytes: the bundle of a process whose work is done elsewhere; an empty one is not allowed


def run_packs(
    packs: Sequence[Sequence[T]],
    work: Callable[[Sequence[T]], None],
    *,
    name: str,
    folder: Path,
    bundle: Mapping[str, float],
    at_once: int,
    restarts: int,
    bare: bool = False,
    labels: Mapping[str, str] | None = None,
) -> list[str]:
    """Call `work` with each pack, in a process of its own on the cluster.
    Return the errors, a line for each failed pack.

    work: must be serializable; it may be called again with the same pack when its process died. bundle: what one pack
    takes, in Ray's names (CPU, GPU, memory in bytes). at_once: side by side. restarts: of each pack.
    bare: whether the processes have no runtime environment but the job's, so that those which Ray holds ready serve.
    labels: of the nodes that the processes may be on, as Ray selects by them; None: on any.
    """
    _use_environment()
    from ray import tune

    def trainable(config: dict[str, Any]) -> None:
        _use_environment()
        work(packs[config["pack"]])
        tune.report({"trials": len(packs[config["pack"]])})

    selector = {} if labels is None else {"bundle_label_selector": [dict(labels)]}
    tuner = tune.Tuner(
        tune.with_resources(trainable, tune.PlacementGroupFactory([dict(bundle)], **selector)),
        param_space={"pack": tune.grid_search(list(range(len(packs))))},
        tune_config=tune.TuneConfig(max_concurrent_trials=at_once, reuse_actors=True),
        run_config=tune.RunConfig(
            name=name,
            storage_path=str(folder),
            failure_config=tune.FailureConfig(max_failures=restarts),
            verbose=0,
        ),
    )
    with _no_environment_of_tune() if bare else contextlib.nullcontext():
        return [str(error).strip().splitlines()[-1] for error in tuner.fit().errors]


def _use_environment() -> None:
    os.environ.update({key: os.environ.get(key, value) for key, value in ENVIRONMENT.items()})


@contextlib.contextmanager
def _no_environment_of_tune() -> Iterator[None]:
    """Have Tune start its actors without the runtime environment that it gives each of them, which is variables.

    A process that waits has no environment, and Ray gives it to nobody who asks for one. There is no option for it.
    """
    from ray.tune.execution import class_cache

    before = class_cache.DEFAULT_ENV_VARS, class_cache.ENV_VARS_TO_PROPAGATE
    class_cache.DEFAULT_ENV_VARS, class_cache.ENV_VARS_TO_PROPAGATE = {}, set()
    try:
        yield
    finally:
        class_cache.DEFAULT_ENV_VARS, class_cache.ENV_VARS_TO_PROPAGATE = before
